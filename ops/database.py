"""The migrations door: which revision the database has, and the moves to another one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import OperationalError, ProgrammingError

import migrations
from ops import postgres
from pipeline.errors import DatabaseError
from pipeline.store import schema
from pipeline.store.engine import connect, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from sqlalchemy import Connection

    from ops.settings import Settings

SCRIPTS: Final = Path(migrations.__file__).parent
OLDEST_SERVER: Final = 140_000
OLDEST_VECTOR: Final = (0, 8)


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Where the database stands: its revision (None: never migrated), ours, and the versions of server and pgvector."""

    current: str | None
    head: str
    server_version: str
    vector_version: str | None

    @property
    def behind(self) -> bool:
        """Whether the database needs `penstock db upgrade`."""
        return self.current is None or self.current < self.head

    @property
    def ahead(self) -> bool:
        """Whether a newer Penstock migrated the database."""
        return self.current is not None and self.current > self.head


def head() -> str:
    """Return the newest revision that this Penstock knows; revisions are numbered, and so are their files."""
    return max(file.name for file in (SCRIPTS / "versions").glob("[0-9]*_*.py")).split("_")[0]


def upgrade(url: str) -> None:
    """Bring the database to our newest revision in one transaction; commands that do it at once take turns.

    Raises DatabaseError when the server is away, older than PostgreSQL 14, lacks pgvector 0.8, or refuses the right.
    """
    from alembic import command  # noqa: PLC0415 - a tenth of a second that only migrations should cost

    with _migration(url) as connection:
        demand(schema.abilities(connection))
        _refuse_newer(_status(connection))
        if not schema.create_vector(connection):
            message = "this account may not create pgvector; have an administrator run `CREATE EXTENSION vector` once"
            raise DatabaseError(message)
        schema.create_home(connection)
        command.upgrade(_alembic(connection), "head")


def downgrade(url: str, revision: str = "base") -> None:
    """Take the database back to `revision`; `base` drops everything but the schema and the extension."""
    from alembic import command  # noqa: PLC0415 - as above
    from alembic.util import CommandError  # noqa: PLC0415 - as above

    with _migration(url) as connection:
        _refuse_newer(_status(connection))
        schema.create_home(connection)
        try:
            command.downgrade(_alembic(connection), revision)
        except CommandError as error:
            message = f"cannot downgrade to {revision!r}: {error}; `penstock db status` shows the revision"
            raise DatabaseError(message) from error


def status(url: str) -> MigrationStatus:
    """Return where the database stands. Raises DatabaseError when it does not answer."""
    with _connection(url) as connection:
        return _status(connection)


def open_database(settings: Settings) -> str:
    """Return the URL of a database that is ready to use.

    The embedded server is started and migrated where needed. A database of the user's own is never changed unasked:
    raises DatabaseError when it is not at our revision.
    """
    if settings.database_url is None:
        url = postgres.ensure(settings.penstock_home)
        state = status(url)
        if state.behind:
            upgrade(url)
    else:
        url = settings.database_url
        state = status(url)
        if state.behind:
            message = f"the database is at revision {state.current}, not {state.head}; run `penstock db upgrade`"
            raise DatabaseError(message)
    _refuse_newer(state)
    return url


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    """Open one transaction on a connection of its own."""
    engine = connect(url, pool_size=1, application_name="penstock migrations")
    try:
        with engine.begin() as connection:
            yield connection
    except OperationalError as error:
        raise unreachable(error) from error
    finally:
        engine.dispose()


@contextmanager
def _migration(url: str) -> Iterator[Connection]:
    try:
        with _connection(url) as connection:
            schema.wait_for_migration(connection)
            yield connection
    except ProgrammingError as error:
        message = f"the migration failed and nothing was changed: {error.orig}; has this account the right to create?"
        raise DatabaseError(message) from error


def _alembic(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _status(connection: Connection) -> MigrationStatus:
    able = schema.abilities(connection)
    server = f"{able.server_version // 10_000}.{able.server_version % 10_000}"
    return MigrationStatus(schema.revision(connection), head(), server, able.vector_created or able.vector_installable)


def demand(able: schema.Abilities) -> None:
    """Raise DatabaseError when the server or its pgvector is missing or too old for Penstock."""
    if able.server_version < OLDEST_SERVER:
        message = f"PostgreSQL {able.server_version // 10_000} is too old: Penstock needs 14 or newer"
        raise DatabaseError(message)
    version = able.vector_created or able.vector_installable
    if version is None:
        message = "the server lacks pgvector; install version 0.8 or newer on it (https://github.com/pgvector/pgvector)"
        raise DatabaseError(message)
    if tuple(map(int, version.split(".")[:2])) < OLDEST_VECTOR:
        message = f"pgvector {version} is too old: install 0.8 or newer, then run `ALTER EXTENSION vector UPDATE`"
        raise DatabaseError(message)


def _refuse_newer(state: MigrationStatus) -> None:
    if state.ahead:
        message = f"a newer Penstock made this database (revision {state.current}, ours is {state.head}); upgrade yours"
        raise DatabaseError(message)
