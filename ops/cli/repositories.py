"""`penstock repos` and `remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli import completing
from ops.cli.app import app
from ops.cli.exits import Exit
from ops.cli.index import absolute
from ops.cli.manual import SEARCHING, epilog
from ops.cli.options import AnyProject, AsJson, Project, Yes

if TYPE_CHECKING:
    from pipeline.records import Repository


@app.command(
    rich_help_panel=SEARCHING,
    epilog=epilog("penstock repos", "penstock repos --project default --json", see="penstock search, penstock remove"),
)
def repos(*, project: AnyProject = None, as_json: AsJson = False) -> None:
    """List what is indexed."""
    from ops.cli.desk import opened
    from ops.cli.output import emit
    from ops.records import Repositories
    from pipeline import jobs

    with opened() as desk:
        found = jobs.indexed(desk.engine, project)
    if as_json:
        emit(Repositories(repositories=found))
    else:
        _print_repositories(found)


def _print_repositories(found: tuple[Repository, ...]) -> None:
    from ops.cli.output import ago, say
    from ops.cli.reports import table

    if not found:
        say("nothing is indexed yet; `penstock index PATH` begins")
        return
    table(
        ("project", "state", "files", "chunks", "indexed", "model", "path"),
        [
            (
                repository.project_id,
                repository.index_state,
                f"{repository.files:,}",
                f"{repository.chunks:,}",
                ago(repository.indexed_at),
                repository.model or "",
                repository.root_path,
            )
            for repository in found
        ],
    )


@app.command(
    rich_help_panel=SEARCHING,
    epilog=epilog(
        "penstock remove ~/src/old --yes",
        exits=(Exit.NOT_FOUND, Exit.INVALID_STATUS, Exit.INTERRUPTED),
        see="penstock repos, penstock cancel",
    ),
)
def remove(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="The repository; its folder may be gone.", autocompletion=completing.repositories
        ),
    ],
    *,
    project: Project = "default",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a repository out of the index; its files are left alone."""
    from ops.cli.desk import confirm, opened
    from ops.cli.output import emit, say
    from ops.records import Removed
    from pipeline import jobs

    root = absolute(path)
    with opened() as desk:
        confirm(f"Remove {root} (project {project}) from the index?", yes=yes)
        jobs.remove(desk.office, project, root)
    if as_json:
        emit(Removed(project_id=project, root_path=root))
    else:
        say(f"{root} is no longer indexed")
