"""`penstock db`: the migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.app import db
from ops.cli.exits import Exit
from ops.cli.manual import epilog
from ops.cli.options import AsJson, Yes

if TYPE_CHECKING:
    from ops.database import MigrationStatus


@db.command(epilog=epilog("penstock db upgrade", see="penstock db status, penstock doctor"))
def upgrade(*, as_json: AsJson = False) -> None:
    """Bring the database to the newest revision; safe to repeat."""
    from ops import database

    url = _url()
    database.upgrade(url)
    _print_status(database.status(url), as_json=as_json)


@db.command(
    epilog=epilog(
        "penstock db downgrade 0002",
        "penstock db downgrade base --yes",
        exits=(Exit.INTERRUPTED,),
        see="penstock db upgrade, penstock db status",
        note="`base` drops every table of Penstock.",
    )
)
def downgrade(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="Where to go back to; `base` is nothing at all.")],
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take the database back to a revision; what newer ones store is lost."""
    from ops import database
    from ops.cli.desk import confirm

    confirm(f"Downgrade the database to {revision}? What newer revisions store is lost.", yes=yes)
    url = _url()
    database.downgrade(url, revision)
    _print_status(database.status(url), as_json=as_json)


@db.command(epilog=epilog("penstock db status --json", see="penstock db upgrade, penstock doctor"))
def status(*, as_json: AsJson = False) -> None:
    """Show the revision of the database, and the versions of its server and of pgvector."""
    from ops import database

    _print_status(database.status(_url()), as_json=as_json)


def _url() -> str:
    """Return the URL of a server that is up, migrated or not."""
    from ops import postgres
    from ops.settings import Settings

    settings = Settings.load()
    return settings.database_url or postgres.ensure(settings.penstock_home)


def _print_status(state: MigrationStatus, *, as_json: bool) -> None:
    from ops.cli.output import emit, say
    from ops.records import Migrations

    if as_json:
        emit(
            Migrations(
                current=state.current,
                head=state.head,
                behind=state.behind,
                server_version=state.server_version,
                vector_version=state.vector_version,
            )
        )
        return
    advice = ": run `penstock db upgrade`" if state.behind else ""
    say(f"revision {state.current or 'none'}, newest {state.head}{advice}")
    say(f"PostgreSQL {state.server_version}, pgvector {state.vector_version or 'missing'}")
