"""The head behind every mouth: submit, look at, list, pause, resume and cancel jobs; list repositories and workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from pipeline import checking, describing, estimating, sources, tuning
from pipeline.errors import InvalidStatus, JobNotFound, RepositoryNotFound, ValidationError
from pipeline.records import FileNote, JobEvent, JobPage, Repository, Submission, Worker
from pipeline.sources import Kind
from pipeline.stages import finish
from pipeline.states import TERMINAL, WORKING, JobStatus, Stage
from pipeline.store import batches, events, jobs, messages, repositories, workers
from pipeline.store.engine import reading, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

    from pipeline.mirroring import Mirrors
    from pipeline.records import Job, JobRequest
    from pipeline.stages.delivery import Outbox
    from pipeline.stages.workbench import Workbench
    from pipeline.store.jobs import JobFilter

MAX_PAGE: Final = 100
WAITING: Final = frozenset({JobStatus.PENDING, *WORKING})
"""The states in which a job may stand still for want of a worker."""


@dataclass(frozen=True, slots=True)
class Office:
    """Where jobs are submitted: the pool, the queue's outbox, and what the settings say of new jobs.

    `free_bytes` is the least free disk that `disk` (where the database keeps its data, when it is ours) must have.
    """

    engine: Engine
    outbox: Outbox
    embedder: str
    model: str
    allowed_roots: tuple[Path, ...] = ()
    allowed_urls: tuple[str, ...] = ()
    mirrors: Mirrors | None = None
    disk: Path | None = None
    free_bytes: int = 0


def submit(office: Office, request: JobRequest, *, resumed: Row[Any] | None = None) -> Submission:
    """Store a pending job, send its scan message and answer at once (R01-R04); a second one is a duplicate (R07).

    `resumed` is the ended job that the new one goes on with: what was forced there is not forced again (R32).
    Raises InvalidPath before anything is stored (R06).
    """
    checking.texts(project_id=request.project_id, name=request.name, include=request.include, exclude=request.exclude)
    source = sources.accept(
        request.repo_path,
        allowed_roots=office.allowed_roots,
        allowed_urls=office.allowed_urls,
        disk_path=office.disk,
        min_free_bytes=office.free_bytes,
    )
    root, folder = source.name, Path(source.place) if source.kind is Kind.FOLDER else None
    with writing(office.engine) as connection:
        repository_id = repositories.ensure(connection, request.project_id, root, request.name or source.short_name)
        estimate = estimating.seconds(connection, repository_id, folder)
        new = jobs.NewJob(
            job_id=uuid4(),
            repository_id=repository_id,
            repo_path=root,
            name=request.name or source.short_name,
            embedder=office.embedder,
            model=office.model,
            estimate=estimate,
            resumed_from=resumed.id if resumed else None,
            force_before=resumed.force_before if resumed else None,
        )
        if not jobs.add(connection, new, request):
            return _duplicate(connection, request.project_id, root)
        office.outbox.send(connection, Stage.SCAN, str(new.job_id), new.job_id)
    return Submission(
        job_id=new.job_id,
        status=JobStatus.PENDING,
        message=f"indexing {root} in the background; about {estimate:.0f} s",
        project_id=request.project_id,
        repo_path=root,
        estimated_duration_seconds=estimate,
        duplicate=False,
    )


def _duplicate(connection: Connection, project_id: str, root: str) -> Submission:
    row = jobs.active(connection, project_id, root)
    if row is None:
        raise InvalidStatus(f"the active job of {root} ended this moment; submit again")
    return Submission(
        job_id=row.id,
        status=JobStatus(row.status),
        message=f"{root} is being indexed already, by job {row.id} ({row.status}); this is that job",
        project_id=project_id,
        repo_path=root,
        estimated_duration_seconds=row.estimated_duration_seconds,
        duplicate=True,
    )


def parse_id(text: str) -> UUID:
    """Return the job id that a user typed; raises ValidationError when it is no UUID (R20)."""
    try:
        return UUID(text)
    except ValueError:
        raise ValidationError(f"{text!r} is not a job id: a UUID as `penstock jobs` prints it is expected") from None


def status(engine: Engine, job_id: UUID) -> Job:
    """Return a job's record; raises JobNotFound."""
    with reading(engine) as connection:
        row = _row(connection, job_id)
        waits = workers.waits_of(connection, job_id) if row.status in WAITING else None
        return describing.job(row, waits)


def _row(connection: Connection, job_id: UUID) -> Row[Any]:
    row = jobs.get(connection, job_id)
    if row is None:
        raise JobNotFound(job_id)
    return row


def notes(engine: Engine, job_id: UUID, limit: int = 1_000) -> tuple[FileNote, ...]:
    """Return up to `limit` skipped and failed files of a job with their reasons, failed ones first (R15)."""
    with reading(engine) as connection:
        found = batches.outcomes(connection, job_id, limit)
    return tuple(FileNote(path=row.path, outcome=row.outcome, reason=row.reason) for row in found)


def happened(engine: Engine, job_id: UUID, after: int = 0) -> tuple[JobEvent, ...]:
    """Return what happened to a job, oldest first; `after` is the id of the event that is known already (R64)."""
    with reading(engine) as connection:
        rows = events.of_job(connection, job_id, after)
    return tuple(JobEvent(event_id=row.id, at=row.at, type=row.type, detail=row.detail) for row in rows)


def listed(engine: Engine, wanted: JobFilter, limit: int = 20, offset: int = 0) -> JobPage:
    """Return a page of jobs, newest first (R25)."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValidationError(f"limit {limit} is not between 1 and {MAX_PAGE}")
    checking.offset(offset)
    checking.texts(project_id=wanted.project_id, path_prefix=wanted.path_prefix)
    with reading(engine) as connection:
        rows, total = jobs.page(connection, wanted, limit, offset)
    return JobPage(jobs=tuple(map(describing.job, rows)), total_count=total, limit=limit, offset=offset)


def pause(office: Office, job_id: UUID) -> Job:
    """Stop a job where it is; nothing of it is written until it is resumed (R30). Raises InvalidStatus, JobNotFound."""
    return _control(office, job_id, JobStatus.PAUSED, "paused")


def cancel(office: Office, job_id: UUID) -> Job:
    """End a job; what is committed stays searchable, staged work goes (R31). Raises InvalidStatus, JobNotFound."""
    job = _control(office, job_id, JobStatus.CANCELLED, "cancelled")
    with writing(office.engine) as connection:  # not before the job has ended: its stages hold locks until they see it
        batches.drop_staged(connection, [batch_id for batch_id, _ in batches.in_flight(connection, job_id)])
    return job


def _control(office: Office, job_id: UUID, target: JobStatus, event: str) -> Job:
    with writing(office.engine) as connection:
        moved = jobs.move(connection, job_id, target, event)
        row = _row(connection, job_id)
        if not moved and (row.status in TERMINAL or row.status != target):
            raise InvalidStatus(f"job {job_id} is {row.status} and cannot be {event}")
        # Its place is free: the scanner admits the next one.
        for waiting in jobs.page(connection, jobs.JobFilter(statuses=(JobStatus.PENDING,)), 1, 0)[0]:
            office.outbox.send(connection, Stage.SCAN, str(waiting.id), waiting.id)
        return describing.job(row)


def resume(office: Office, job_id: UUID) -> Job:
    """Continue a paused job, or start a new one after a failed or cancelled one, linked to it (R32).

    Raises InvalidStatus when the job is neither, JobNotFound.
    """
    with writing(office.engine) as connection:
        row = _row(connection, job_id)
        if jobs.move(connection, job_id, JobStatus.PENDING, "resumed"):
            office.outbox.send(connection, Stage.SCAN, str(job_id), job_id)
            return describing.job(_row(connection, job_id))
    if row.status not in {JobStatus.FAILED, JobStatus.CANCELLED}:
        raise InvalidStatus(f"job {job_id} is {row.status}; only a paused, failed or cancelled job can be resumed")
    successor = submit(office, describing.request(row), resumed=row)
    return status(office.engine, successor.job_id)


def sweep(bench: Workbench, outbox: Outbox) -> None:
    """Make the caretaker's round: end what is overdue, admit what waits, send again what working jobs wait for.

    Idempotent; a transaction a job, so that no lock of one is waited for while another's is held.
    """
    finish.fail_overdue(bench, outbox)
    with bench.engine.begin() as connection:
        workers.forget_future(connection)
    with bench.engine.begin() as connection:
        bench.admit(connection, outbox)
        working = jobs.working(connection)
    for job_id in working:
        with bench.engine.begin() as connection:
            bench.send_unfinished(connection, job_id, outbox)


def indexed(engine: Engine, project_id: str | None = None) -> tuple[Repository, ...]:
    """Return the repositories of a project, or all."""
    with reading(engine) as connection:
        rows = repositories.listed(connection, project_id)
    return tuple(map(describing.repository, rows))


def remove(office: Office, project_id: str, root_path: str) -> None:
    """Delete a repository from the index, and its mirror on this host when no other repository is read from it.

    Raises RepositoryNotFound, InvalidStatus while a job works on it.
    """
    source = sources.parse(root_path)
    root_path = source.name
    with writing(office.engine) as connection:
        found = repositories.find(connection, project_id, root_path, lock=True)
        if found is None:
            raise RepositoryNotFound(
                f"{root_path} is not indexed in project {project_id}; `penstock repos` lists what is"
            )
        busy = jobs.active(connection, project_id, root_path)
        if busy is not None:
            raise InvalidStatus(f"job {busy.id} of {root_path} is {busy.status}; cancel it first")
        repositories.remove(connection, found.id)
        places = {root.partition("#")[0] for root in repositories.root_paths(connection)}
    tuning.forget(office.engine, found.id)
    if office.mirrors and source.kind is Kind.REMOTE and source.place not in places:
        office.mirrors.remove(source.place)


def online(engine: Engine) -> tuple[Worker, ...]:
    """Return the worker processes that are alive, or were a moment ago."""
    with reading(engine) as connection:
        return workers.listed(connection)


def tidy(connection: Connection) -> None:
    """Drop the staged chunks that nobody waits for: of jobs that ended in the middle of a stage's work (R31)."""
    batches.drop_orphans(connection)


def expire(connection: Connection, days: float) -> int:
    """Delete the jobs that finished more than `days` days ago (0: never), and messages set aside then (R38).

    Returns the number of jobs.
    """
    if days <= 0:
        return 0
    messages.drop_rejected(connection, days)
    return jobs.delete_expired(connection, days)
