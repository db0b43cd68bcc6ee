"""Jobs in words: the table of many, the page of one, and how one ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table

from ops.cli.output import Screen, ago, clean, say
from pipeline.describing import duration, percent
from pipeline.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.records import FileNote, Job, JobEvent, JobPage, StageProgress

SHORT_ID: Final = 8
WIDE: Final = 120


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings; the last column takes what room is left."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings[:-1]:
        grid.add_column(heading.upper(), no_wrap=True)
    grid.add_column(headings[-1].upper(), overflow="fold")
    for row in rows:
        grid.add_row(*map(clean, row))
    Screen().print(grid, soft_wrap=False)


def print_jobs(page: JobPage) -> None:
    """Print a page of jobs, newest first."""
    if not page.jobs:
        say("no jobs" if not page.total_count else f"no more jobs: there are {page.total_count:,}")
        return
    length = None if Screen().width >= WIDE else SHORT_ID
    table(
        ("id", "status", "done", "submitted", "project", "repository"),
        [
            (
                str(job.job_id)[:length],
                job.status,
                percent(job.progress_percentage),
                ago(job.created_at),
                job.project_id,
                job.repo_path,
            )
            for job in page.jobs
        ],
    )
    if page.total_count > len(page.jobs):
        last = page.offset + len(page.jobs)
        say(f"{page.offset + 1:,} to {last:,} of {page.total_count:,}; --offset {last} shows the next")


def print_job(job: Job, notes: Sequence[FileNote], events: Sequence[JobEvent] = ()) -> None:
    """Print all that matters of one job."""
    say(f"job         {job.job_id}{' (forced)' if job.force_reindex else ''}")
    say(f"repository  {job.repo_path} (project {job.project_id})")
    if job.revision:
        say(f"revision    {job.revision}")
    say(f"embedder    {job.embedder} {job.model}")
    say(f"status      {job.status}, {percent(job.progress_percentage)}")
    say(f"            {job.progress_message}")
    say(f"submitted   {ago(job.created_at)}{_took(job)}")
    if job.resumed_from:
        say(f"resumes     {job.resumed_from}")
    table(
        ("stage", "busy", "done"),
        [(stage.stage, duration(stage.busy_seconds), _done(stage)) for stage in job.stages],
    )
    _print_notes(notes)
    for event in events:
        detail = ", ".join(f"{name} {value}" for name, value in event.detail.items())
        say(f"  {event.at.astimezone():%Y-%m-%d %H:%M:%S}  {event.type:<10} {detail}".rstrip())


def print_end(job: Job, notes: Sequence[FileNote]) -> None:
    """Print how a job ended, and what to do next."""
    say(f"{job.progress_message}{_took(job)}")
    if job.passages_truncated:
        say(f"{job.passages_truncated:,} passages were longer than the model takes and were cut")
    _print_notes(notes)
    match job.status:
        case JobStatus.COMPLETED:
            say("search it: penstock search 'what you look for'")
        case JobStatus.FAILED | JobStatus.CANCELLED:
            say(f"go on where it ended: penstock resume {job.job_id}")


def _print_notes(notes: Sequence[FileNote]) -> None:
    for file in notes:
        say(f"  {file.outcome}  {file.path}: {file.reason}")


def _done(stage: StageProgress) -> str:
    total = f" of {stage.total:,}" if stage.total is not None else ""
    return f"{stage.done:,}{total} {stage.unit}"


def _took(job: Job) -> str:
    return "" if job.duration_seconds is None else f", {duration(job.duration_seconds)}"
