"""`penstock index`: submit a repository, and stay with the job unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.app import app
from ops.cli.exits import Exit
from ops.cli.manual import FOLLOWING, INDEXING, epilog
from ops.cli.options import AsJson, Background, Project

if TYPE_CHECKING:
    from ops.cli.desk import Desk
    from pipeline.records import Submission

Globs = list[str] | None


@app.command(
    rich_help_panel=INDEXING,
    epilog=epilog(
        "penstock index",
        "penstock index ~/src/linux --background",
        "penstock index . --exclude 'docs/**' --force",
        "penstock index git@example.org:team/app.git --ref v1.0",
        exits=(*FOLLOWING, Exit.EMBEDDER),
        see="penstock status, penstock resume, penstock search",
        note="`index jobs`, `index status ID`, `index pause ID`, `index resume ID` and `index cancel ID` are other"
        " spellings of those commands; a folder of such a name is `./status`.",
    ),
)
def index(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The folder or git URL to index.")] = ".",
    *,
    background: Background = False,
    force: Annotated[bool, typer.Option("--force", help="Index every file again, changed or not.")] = False,
    project: Project = "default",
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the repository.", show_default="the folder's name")
    ] = None,
    no_recursive: Annotated[bool, typer.Option("--no-recursive", help="Leave out the folders below.")] = False,
    include: Annotated[
        Globs, typer.Option("--include", metavar="GLOB", help="Only files that match; may be repeated.")
    ] = None,
    exclude: Annotated[
        Globs, typer.Option("--exclude", metavar="GLOB", help="No files that match; may be repeated.")
    ] = None,
    ref: Annotated[
        str | None,
        typer.Option("--ref", metavar="NAME", help="The branch, tag or commit to index, out of git's objects."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Index a repository, and follow the job to its end.

    Only new and changed files are read. Ctrl-C pauses the job and says how to go on.
    """
    from ops.cli.attending import attend, call_workers
    from ops.cli.desk import opened
    from pipeline import jobs
    from pipeline.records import JobRequest

    request = JobRequest(
        repo_path=f"{absolute(path)}#{ref}" if ref else absolute(path),
        project_id=project,
        name=name,
        recursive=not no_recursive,
        force_reindex=force,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
    )
    with opened() as desk:
        submission = jobs.submit(desk.office, request)
        if background:
            call_workers(desk)
            _print_submission(desk, submission, as_json=as_json)
            return
        ours = not submission.duplicate or _take_over(desk, submission)
        attend(desk, submission.job_id, as_json=as_json, pauses=ours)


def absolute(path: str) -> str:
    """Return a path with `.`, `..` and links resolved; a URL, and what cannot be resolved, is left to the head."""
    from pipeline.sources import is_url

    try:
        return str(Path(path).resolve()) if path and not is_url(path) else path
    except (OSError, RuntimeError, ValueError):
        return path


def _take_over(desk: Desk, submission: Submission) -> bool:
    """Say whose job is followed, and True when it is ours now: a paused one goes on, or we would wait for nothing."""
    from ops.cli.output import note
    from pipeline import jobs
    from pipeline.states import JobStatus

    note(submission.message)
    if submission.status != JobStatus.PAUSED:
        return False
    note("it was paused and goes on now")
    jobs.resume(desk.office, submission.job_id)
    return True


def _print_submission(desk: Desk, submission: Submission, *, as_json: bool) -> None:
    from ops.cli.output import emit, say
    from ops.records import Submitted
    from pipeline import jobs

    if as_json:
        emit(Submitted.of(submission, jobs.status(desk.engine, submission.job_id)))
        return
    say(submission.message)
    say(f"follow it: penstock status {submission.job_id} --follow")
