"""The indexing_jobs table: submit, move, admit; progress is in `store.progress`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, and_, extract, func, select, text, true, update
from sqlalchemy.dialects.postgresql import insert as upsert

from pipeline.errors import JobStopped
from pipeline.states import ACTIVE, WORKING, JobStatus, sources_of
from pipeline.store import events
from pipeline.tables import indexing_jobs as jobs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Column, ColumnElement, Connection

    from pipeline.records import JobRequest

CHANNEL: Final = "penstock_jobs"
LISTEN: Final = text("LISTEN penstock_jobs")
ADMISSION_LOCK: Final = 0x70656E01
CLOCK: Final = func.clock_timestamp()
STAMPS: Final[dict[JobStatus, dict[str, object]]] = {
    JobStatus.PAUSED: {"paused_at": CLOCK},
    JobStatus.CANCELLED: {"cancelled_at": CLOCK, "finished_at": CLOCK},
    JobStatus.COMPLETED: {"completed_at": CLOCK, "finished_at": CLOCK, "progress_percentage": 100},
    JobStatus.FAILED: {"finished_at": CLOCK},
    JobStatus.BLOCKED: {"blocked_since": CLOCK},
    JobStatus.RUNNING: {
        "started_at": func.coalesce(jobs.c.started_at, CLOCK),
        "running_since": func.coalesce(jobs.c.running_since, CLOCK),
        "blocked_since": None,
        "blocked_reason": None,
        "sampled_at": None,
        "earlier_at": None,
    },
    JobStatus.PENDING: {"blocked_since": None, "blocked_reason": None},
}
RAN: Final = func.coalesce(extract("epoch", CLOCK - jobs.c.running_since), 0)
STOPPED: Final[dict[str, object]] = {"ran_seconds": jobs.c.ran_seconds + RAN, "running_since": None}
"""What leaving `running` and `blocked` does: the time of a rest is not counted."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a submission stores, beside the request itself."""

    job_id: UUID
    repository_id: int
    repo_path: str
    name: str
    embedder: str
    model: str
    estimate: float
    resumed_from: UUID | None = None
    force_before: datetime | None = None
    """What was indexed later than this, by the job that this one resumes, is not forced again."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a listing wants (R25); None means any."""

    statuses: tuple[JobStatus, ...] = ()
    project_id: str | None = None
    path_prefix: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


def add(connection: Connection, new: NewJob, request: JobRequest) -> bool:
    """Insert a pending job; False when the repository has an active one already (R07)."""
    statement = upsert(jobs).values(
        id=new.job_id,
        repository_id=new.repository_id,
        project_id=request.project_id,
        repo_path=new.repo_path,
        name=new.name,
        embedder=new.embedder,
        model=new.model,
        recursive=request.recursive,
        force_reindex=request.force_reindex,
        force_before=new.force_before or (CLOCK if request.force_reindex else None),
        include_globs=list(request.include),
        exclude_globs=list(request.exclude),
        resumed_from=new.resumed_from,
        estimated_duration_seconds=new.estimate,
    )
    done = connection.execute(statement.on_conflict_do_nothing().returning(jobs.c.id)).first()
    if done:
        events.record(connection, new.job_id, "submitted", repo_path=new.repo_path, resumed_from=new.resumed_from)
    return done is not None


def get(connection: Connection, job_id: UUID) -> Row[Any] | None:
    """Return the whole row of a job."""
    return connection.execute(select(jobs).where(jobs.c.id == job_id)).first()


def active(connection: Connection, project_id: str, repo_path: str) -> Row[Any] | None:
    """Return the active job of a repository."""
    return connection.execute(
        select(jobs).where(jobs.c.project_id == project_id, jobs.c.repo_path == repo_path, jobs.c.status.in_(ACTIVE))
    ).first()


def page(connection: Connection, wanted: JobFilter, limit: int, offset: int) -> tuple[Sequence[Row[Any]], int]:
    """Return jobs, newest first, and how many the filter lets through."""
    condition = and_(true(), *_conditions(wanted))
    rows = connection.execute(
        select(jobs).where(condition).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit).offset(offset)
    ).all()
    total = connection.execute(select(func.count()).select_from(jobs).where(condition)).scalar_one()
    return rows, total


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.statuses:
        conditions.append(jobs.c.status.in_(wanted.statuses))
    if wanted.project_id is not None:
        conditions.append(jobs.c.project_id == wanted.project_id)
    if wanted.path_prefix is not None:
        conditions.append(jobs.c.repo_path.startswith(wanted.path_prefix, autoescape=True))
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
    return conditions


def move(
    connection: Connection,
    job_id: UUID,
    target: JobStatus,
    event: str,
    *,
    sources: tuple[JobStatus, ...] = (),
    **values: object,
) -> bool:
    """Move a job to `target` by one compare-and-set UPDATE (R12); False when its state does not allow that.

    `sources` narrows the states it may come from; without it, all that the lifecycle allows.
    """
    moved = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status.in_(sources or sources_of(target)))
        .values(status=target, updated_at=CLOCK, **STAMPS[target], **({} if target in WORKING else STOPPED), **values)
        .returning(jobs.c.id)
    ).first()
    if moved:
        events.record(
            connection, job_id, event, **{k: v for k, v in values.items() if k in {"error_message", "blocked_reason"}}
        )
        announce(connection, job_id)
    return moved is not None


def note_blocked_reason(connection: Connection, job_id: UUID, reason: str) -> None:
    """Tell what a blocked job waits for by now; since when it waits stays."""
    changed = update(jobs).where(
        jobs.c.id == job_id, jobs.c.status == JobStatus.BLOCKED, jobs.c.blocked_reason != reason
    )
    told = changed.values(blocked_reason=reason, updated_at=CLOCK).returning(jobs.c.id)
    if connection.execute(told).first():
        announce(connection, job_id)


def hold(connection: Connection, job_id: UUID) -> bool:
    """Lock a job's row, so that it goes on running until the transaction ends; False when it does not run."""
    held = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.status.in_(WORKING)).with_for_update()
    return connection.execute(held).first() is not None


def announce(connection: Connection, job_id: UUID) -> None:
    """Tell every listener that this job changed (R26)."""
    connection.execute(select(func.pg_notify(CHANNEL, str(job_id))))


def listen(connection: Connection) -> None:
    """Hear on this connection of every change of a job: the payload of a notification is the job's id (R26)."""
    connection.execute(LISTEN)


def admit(connection: Connection, places: int) -> list[UUID]:
    """Make the oldest pending jobs running while there are places (R16); one admission at a time."""
    connection.execute(select(func.pg_advisory_xact_lock(ADMISSION_LOCK)))
    taken = connection.execute(select(func.count()).where(jobs.c.status.in_(WORKING))).scalar_one()
    waiting = connection.execute(
        select(jobs.c.id)
        .where(jobs.c.status == JobStatus.PENDING)
        .order_by(jobs.c.created_at)
        .limit(max(0, places - taken))
    ).scalars()
    return [
        job_id
        for job_id in waiting.all()
        if move(connection, job_id, JobStatus.RUNNING, "started", sources=(JobStatus.PENDING,))
    ]


def working(connection: Connection) -> Sequence[UUID]:
    """Return the running and blocked jobs, oldest first."""
    return (
        connection.execute(select(jobs.c.id).where(jobs.c.status.in_(WORKING)).order_by(jobs.c.created_at))
        .scalars()
        .all()
    )


def anything_active(connection: Connection) -> bool:
    """Return whether any job may still need a worker: pending, running or blocked."""
    wanted = (JobStatus.PENDING, *WORKING)
    return connection.execute(select(jobs.c.id).where(jobs.c.status.in_(wanted)).limit(1)).first() is not None


SECONDS_PER_FILE: Final = text("""
SELECT sum(ran_seconds) / nullif(sum(files_scanned), 0) AS seconds
FROM (
    SELECT ran_seconds, files_scanned FROM penstock.indexing_jobs
    WHERE status = 'completed' AND files_indexed > 0
      AND (CAST(:repository AS bigint) IS NULL OR repository_id = :repository)
    ORDER BY created_at DESC LIMIT 20
) AS recent
""")


def seconds_per_file(connection: Connection, repository_id: int | None) -> float | None:
    """Return the mean of the last 20 finished jobs, of one repository or of all."""
    seconds = connection.execute(SECONDS_PER_FILE, {"repository": repository_id}).scalar_one()
    return None if seconds is None else float(seconds)


def last_listing(connection: Connection, repository_id: int) -> int | None:
    """Return how many files the repository's newest scanned job listed."""
    return connection.execute(
        select(jobs.c.files_listed)
        .where(jobs.c.repository_id == repository_id, jobs.c.files_listed > 0)
        .order_by(jobs.c.created_at.desc())
        .limit(1)
    ).scalar()


EXPIRED: Final = text("""
DELETE FROM penstock.indexing_jobs
WHERE status IN ('cancelled', 'completed', 'failed') AND finished_at < now() - interval '1 day' * :days
""")


def delete_expired(connection: Connection, days: float) -> int:
    """Delete jobs that finished more than `days` days ago, with their batches, outcomes and events (R38)."""
    return connection.execute(EXPIRED, {"days": days}).rowcount


def pin_model(connection: Connection, job_id: UUID, model_id: int) -> int:
    """Have a job write in this vector space, unless it has one already; return the one that it has now (R50).

    Raises JobStopped when the job does not run.
    """
    return int(_pinned(connection, job_id, jobs.c.model_id, model_id))


def pin_revision(connection: Connection, job_id: UUID, revision: str) -> str:
    """Have a job index this commit, unless it has one already; return the one that it has now.

    Raises JobStopped when the job does not run.
    """
    return str(_pinned(connection, job_id, jobs.c.revision, revision))


def _pinned(connection: Connection, job_id: UUID, column: Column[Any], value: object) -> Any:  # noqa: ANN401 - as the column
    running = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(WORKING))
    pinned = running.values({column: func.coalesce(column, value)}).returning(column)
    found = connection.execute(pinned).scalar()
    if found is None:
        raise JobStopped(f"job {job_id} is not running any more")
    return found


def begin_scan(connection: Connection, job_id: UUID, files: int) -> bool:
    """Note how many files the scan found, which progress is measured against; False when the job does not run."""
    done = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status.in_(WORKING))
        .values(files_listed=files, updated_at=CLOCK)
        .returning(jobs.c.id)
    ).first()
    return done is not None


OVERDUE: Final = text("""
SELECT id, blocked_reason, status = 'blocked' AND :blocked > 0
    AND blocked_since < now() - make_interval(secs => :blocked) AS gave_up
FROM penstock.indexing_jobs
WHERE status IN ('running', 'blocked') AND (
    (:running > 0 AND running_since < now() - make_interval(secs => :running - ran_seconds))
    OR (status = 'blocked' AND :blocked > 0 AND blocked_since < now() - make_interval(secs => :blocked)))
""")


def overdue(connection: Connection, running: float, blocked: float) -> dict[UUID, str]:
    """Return the jobs that ran, or were blocked, for more seconds than these (0: no limit), and why they end."""
    rows = connection.execute(OVERDUE, {"running": running, "blocked": blocked})
    return {
        row.id: f"{row.blocked_reason}; this lasted longer than BLOCKED_TIMEOUT_SECONDS allows ({blocked:g} s)"
        if row.gave_up
        else f"it ran longer than INDEXING_JOB_TIMEOUT_SECONDS allows ({running:g} s)"
        for row in rows
    }


def move_cursor(
    connection: Connection, job_id: UUID, before: str | None, after: str | None, *, completed: bool
) -> bool:
    """Move the scan's cursor by compare-and-set; False when another scan of this job moved it."""
    done = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.scan_cursor.is_not_distinct_from(before), ~jobs.c.scan_completed)
        .values(scan_cursor=after, scan_completed=completed)
        .returning(jobs.c.id)
    ).first()
    return done is not None
