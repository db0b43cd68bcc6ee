"""`penstock jobs`, `status`, `pause`, `resume` and `cancel`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.app import app
from ops.cli.completing import statuses
from ops.cli.exits import Exit
from ops.cli.manual import FOLLOWING, INDEXING, epilog
from ops.cli.options import AnyProject, AsJson, Background, JobId, Offset, Yes
from pipeline.errors import ValidationError
from pipeline.states import JobStatus

if TYPE_CHECKING:
    from pipeline.records import Job

QUEUED: Final = "queued"
"""What other tools call `pending`."""
MOMENTS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
Moment = Annotated[
    datetime | None, typer.Option(metavar="TIME", formats=MOMENTS, help="Like 2026-08-15T12:30, local time.")
]


def parse_status(text: str) -> JobStatus:
    """Return the status that a user typed; `queued` is `pending`. Raises ValidationError."""
    try:
        return JobStatus.PENDING if text == QUEUED else JobStatus(text)
    except ValueError:
        known = ", ".join((*JobStatus, QUEUED))
        message = f"{text!r} is no status: say one of {known}"
        raise ValidationError(message) from None


def _zoned(moment: datetime | None) -> datetime | None:
    """Return a moment with the local zone where it has none. Raises ValidationError."""
    try:
        return moment.astimezone() if moment else None
    except (OverflowError, ValueError):
        message = f"{moment} is too far away to be compared"
        raise ValidationError(message) from None


@app.command(
    "jobs",
    rich_help_panel=INDEXING,
    epilog=epilog(
        "penstock jobs --status running --status blocked",
        "penstock jobs --path-prefix /srv --after 2026-08-15 --limit 50",
        see="penstock status, penstock workers",
    ),
)
def list_jobs(
    *,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", metavar="STATUS", help="Only jobs in this state; may be repeated.", autocompletion=statuses
        ),
    ] = None,
    project: AnyProject = None,
    path_prefix: Annotated[
        str | None, typer.Option("--path-prefix", metavar="PATH", help="Only repositories whose path begins so.")
    ] = None,
    after: Moment = None,
    before: Moment = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many, 1 to 100.")] = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from ops.cli.desk import opened
    from ops.cli.output import emit
    from ops.cli.reports import print_jobs
    from pipeline import jobs
    from pipeline.store.jobs import JobFilter

    wanted = JobFilter(
        statuses=tuple(map(parse_status, status or ())),
        project_id=project,
        path_prefix=path_prefix,
        created_after=_zoned(after),
        created_before=_zoned(before),
    )
    with opened() as desk:
        page = jobs.listed(desk.engine, wanted, limit, offset)
    if as_json:
        emit(page)
    else:
        print_jobs(page)


@app.command(
    rich_help_panel=INDEXING,
    epilog=epilog(
        "penstock status last --follow",
        "penstock status 3fa85f64 --files 20 --events",
        exits=(Exit.NOT_FOUND, *FOLLOWING),
        see="penstock jobs, penstock doctor",
        note="The codes 7 and 8 are those of `--follow`, which exits by the job's outcome.",
    ),
)
def status(
    job_id: JobId,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    files: Annotated[
        int | None, typer.Option("--files", metavar="N", min=0, help="Also up to N skipped and failed files.")
    ] = None,
    events: Annotated[bool, typer.Option("--events", help="Also what happened to it, and when.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a job is."""
    from ops.cli.attending import attend
    from ops.cli.desk import find_job, opened
    from ops.cli.output import emit
    from ops.cli.reports import print_job
    from ops.records import JobInFull
    from pipeline import jobs

    with opened() as desk:
        job = jobs.status(desk.engine, find_job(desk.engine, job_id))
        if follow:
            attend(desk, job.job_id, as_json=as_json, pauses=False)
        notes = jobs.notes(desk.engine, job.job_id, files) if files else ()
        happened = jobs.happened(desk.engine, job.job_id) if events else ()
    if not as_json:
        print_job(job, notes, happened)
    elif files is None and not events:
        emit(job)
    else:
        noted = None if files is None else notes
        emit(JobInFull(**dict(job), files=noted, events=happened if events else None))


@app.command(
    rich_help_panel=INDEXING,
    epilog=epilog(
        "penstock pause last",
        exits=(Exit.NOT_FOUND, Exit.INVALID_STATUS),
        see="penstock resume, penstock cancel",
    ),
)
def pause(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Stop a job where it is; `resume` continues it."""
    from ops.cli.desk import find_job, opened
    from pipeline import jobs
    from pipeline.describing import percent

    with opened() as desk:
        job = jobs.pause(desk.office, find_job(desk.engine, job_id))
    _print_control(
        job, f"paused at {percent(job.progress_percentage)}; go on: penstock resume {job.job_id}", as_json=as_json
    )


@app.command(
    rich_help_panel=INDEXING,
    epilog=epilog(
        "penstock resume last",
        "penstock resume 3fa85f64 --background",
        exits=(Exit.NOT_FOUND, Exit.INVALID_STATUS, *FOLLOWING),
        see="penstock pause, penstock status",
    ),
)
def resume(job_id: JobId, *, background: Background = False, as_json: AsJson = False) -> None:
    """Continue a paused job; after a failed or cancelled one, start a new job that skips what is done."""
    from ops.cli.attending import attend, call_workers
    from ops.cli.desk import find_job, opened
    from pipeline import jobs

    with opened() as desk:
        job = jobs.resume(desk.office, find_job(desk.engine, job_id))
        if not background:
            attend(desk, job.job_id, as_json=as_json, pauses=True)
        call_workers(desk)
    _print_control(job, f"job {job.job_id} goes on; follow it: penstock status {job.job_id} --follow", as_json=as_json)


@app.command(
    rich_help_panel=INDEXING,
    epilog=epilog(
        "penstock cancel last --yes",
        exits=(Exit.NOT_FOUND, Exit.INVALID_STATUS, Exit.INTERRUPTED),
        see="penstock pause, penstock resume, penstock remove",
    ),
)
def cancel(job_id: JobId, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """End a job; what it has indexed stays searchable."""
    from ops.cli.desk import confirm, find_job, opened
    from pipeline import jobs
    from pipeline.describing import percent

    with opened() as desk:
        found = find_job(desk.engine, job_id)
        target = jobs.status(desk.engine, found)
        confirm(f"Cancel job {found} of {target.repo_path} ({target.status})?", yes=yes)
        job = jobs.cancel(desk.office, found)
    _print_control(
        job, f"cancelled at {percent(job.progress_percentage)}; what was indexed stays searchable", as_json=as_json
    )


def _print_control(job: Job, text: str, *, as_json: bool) -> None:
    from ops.cli.output import emit, say

    if as_json:
        emit(job)
    else:
        say(text)
