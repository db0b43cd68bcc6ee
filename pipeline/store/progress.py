"""Progress on the hot job row: one UPDATE a commit adds deltas, never writes the status, and comes last."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Double, Interval, case, cast, func, literal, select, update

from pipeline.errors import JobStopped
from pipeline.states import WORKING, Stage
from pipeline.store import events
from pipeline.store.jobs import announce
from pipeline.tables import indexing_jobs as jobs

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Row

QUARTER: Final = 25
LAST_QUARTER: Final = 75
NOW: Final = func.statement_timestamp()
NOTIFY_EVERY: Final = literal("500 milliseconds").cast(Interval)
SAMPLE_EVERY: Final = literal("4 seconds").cast(Interval)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a commit adds to the counters of its job; each field is a column."""

    files_scanned: int = 0
    files_due: int = 0
    files_chunked: int = 0
    files_written: int = 0
    files_indexed: int = 0
    files_unchanged: int = 0
    files_removed: int = 0
    files_skipped: int = 0
    files_failed: int = 0
    bytes_scanned: int = 0
    bytes_indexed: int = 0
    chunks_created: int = 0
    chunks_embedded: int = 0
    chunks_reused: int = 0
    chunks_written: int = 0
    passages_truncated: int = 0
    batches_total: int = 0
    batches_done: int = 0


@dataclass(frozen=True, slots=True)
class Clock:
    """The stage that did the work and how many seconds it was busy with it."""

    stage: Stage
    seconds: float


def advance(connection: Connection, job_id: UUID, added: Progress, clock: Clock) -> bool:
    """Add to a job's counters; True when nothing is left to do for it.

    Raises JobStopped when the job is not running any more: the caller's transaction must roll back, so that nothing is
    written after a pause or a cancel.
    """
    deltas = {field.name: getattr(added, field.name) for field in fields(added) if getattr(added, field.name)}
    row = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status.in_(WORKING))
        .values(
            **{name: jobs.c[name] + delta for name, delta in deltas.items()},
            **_clocked(clock),
            **_sampled(),
            progress_percentage=_percentage(deltas),
            updated_at=NOW,
            notified_at=case((_due(jobs.c.notified_at, NOTIFY_EVERY), NOW), else_=jobs.c.notified_at),
        )
        .returning(
            (jobs.c.scan_completed & (jobs.c.batches_done == jobs.c.batches_total)).label("finished"),
            (jobs.c.notified_at == NOW).label("announce"),
            jobs.c.progress_percentage,
            jobs.c.milestone,
            jobs.c.files_due,
        )
    ).first()
    if row is None:
        raise JobStopped(f"job {job_id} is not running any more")
    if not row.finished:
        _note_milestone(connection, job_id, row)
    if row.announce:
        announce(connection, job_id)
    return bool(row.finished)


def _note_milestone(connection: Connection, job_id: UUID, row: Row[Any]) -> None:
    """Make an event of the last quarter that was passed, once (R63); where nothing has changed, there is none."""
    passed = min(LAST_QUARTER, int(row.progress_percentage // QUARTER) * QUARTER)
    if passed > row.milestone and row.files_due:
        noted = update(jobs).where(jobs.c.id == job_id).values(milestone=passed).cte("noted")
        connection.execute(events.recording(job_id, "milestone", {"percent": passed}).add_cte(noted))


def _clocked(clock: Clock) -> dict[str, ColumnElement[object]]:
    seconds, started, ended = (f"{clock.stage}_{name}" for name in ("seconds", "started_at", "ended_at"))
    first = NOW - func.make_interval(0, 0, 0, 0, 0, 0, clock.seconds)
    return {seconds: jobs.c[seconds] + clock.seconds, started: func.coalesce(jobs.c[started], first), ended: NOW}


def _due(moment: ColumnElement[Any], interval: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether the moment is that long ago; one that lies ahead was noted before the server's clock was set back."""
    return moment.is_(None) | ~moment.between(NOW - interval, NOW)


def _sampled() -> dict[str, ColumnElement[object]]:
    """Keep two older samples of the percentage, from which the recent rate is read."""
    due = _due(jobs.c.sampled_at, SAMPLE_EVERY)
    kept = {
        "earlier_at": jobs.c.sampled_at,
        "earlier_percentage": jobs.c.sampled_percentage,
        "sampled_at": NOW,
        "sampled_percentage": jobs.c.progress_percentage,
    }
    return {name: case((due, value), else_=jobs.c[name]) for name, value in kept.items()}


def _percentage(deltas: dict[str, int]) -> ColumnElement[float]:
    """Weigh the overlapping stages: scan 10, chunk 40, embed 40, write 10; never falls, 100 only at the end (R22)."""

    def new(name: str) -> ColumnElement[float]:
        return cast(jobs.c[name] + deltas.get(name, 0), Double)

    def share(done: ColumnElement[float], total: ColumnElement[float]) -> ColumnElement[float]:
        return case((total <= 0, 1.0), else_=func.least(1.0, done / total))

    # What is not scanned yet counts as due, so that the percentage cannot run ahead of the scan.
    unscanned = func.greatest(cast(jobs.c.files_listed, Double) - new("files_scanned"), 0.0)
    due = new("files_due") + case((jobs.c.scan_completed, 0.0), else_=unscanned)
    scanned = case((jobs.c.scan_completed, 1.0), else_=share(new("files_scanned"), cast(jobs.c.files_listed, Double)))
    chunked = share(new("files_chunked"), due)
    embedded = chunked * share(new("chunks_embedded") + new("chunks_reused"), new("chunks_created"))
    written = share(new("files_written"), due)
    total = 10 * scanned + 40 * chunked + 40 * embedded + 10 * written
    return func.greatest(jobs.c.progress_percentage, func.least(99.9, total))


def is_working(connection: Connection, job_id: UUID) -> bool:
    """Return whether the job is running or blocked, which is when its stages may work."""
    return connection.execute(select(jobs.c.status.in_(WORKING)).where(jobs.c.id == job_id)).scalar() or False
