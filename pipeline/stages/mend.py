"""What happens when a stage cannot: blocked jobs, failed attempts, poisonous files, lost staging, late deliveries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pipeline.errors import (
    BatchMoved,
    DimensionChanged,
    EmbedderUnavailable,
    FileAtFault,
    JobStopped,
    PenstockError,
    ScanRefused,
    SourceUnavailable,
    StagedRowsLost,
    ValidationError,
    storable,
)
from pipeline.records import Outcome
from pipeline.stages import finish
from pipeline.states import WORKING, BatchStage, JobStatus, Stage
from pipeline.store import batches, events, jobs, progress, repositories
from pipeline.store.batches import FileResult
from pipeline.store.progress import Clock, Progress

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench
    from pipeline.store.batches import Batch

BACKOFF: Final = (0.2, 1.0, 5.0)
"""Seconds before the next attempt at a batch, by the number of failures so far."""
SERVER_PAUSE: Final = 1.0
"""Seconds before what the database refused for its own reasons is tried again."""
SOURCE_PAUSE: Final = 3.0
"""Seconds before files that could not be had are asked for again, perhaps by another host."""
TELLING_DEATHS: Final = 2
"""After the first death each file is noted before it is worked on; at the second one the note names the suspect."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What was decided about a message whose stage raised: the log line's words."""

    action: str
    reason: str

    @property
    def kind(self) -> str:
        """The action as one word without its delay: one of few, to be counted by."""
        return self.action.partition(" in ")[0].replace(" ", "_")


def mend(bench: Workbench, stage: Stage, subject: str, delivery: Delivery, error: BaseException) -> Mended:
    """Settle the message of a stage that raised, in one transaction; raises LeaseLost when it was taken over."""
    try:
        return _mend(bench, stage, subject, delivery, error)
    except (BatchMoved, JobStopped) as late:
        # The job ended, or the batch went on, between the fault and its mending.
        return _mend(bench, stage, subject, delivery, late)


def _mend(bench: Workbench, stage: Stage, subject: str, delivery: Delivery, error: BaseException) -> Mended:
    with bench.engine.begin() as connection:
        if isinstance(error, BatchMoved | JobStopped):
            delivery.complete(connection)
            return Mended("dropped", clean(error))
        if is_servers_fault(error):
            reason = f"the database cannot work: {clean(error)}"
            delivery.postpone(connection, SERVER_PAUSE, reason)
            return Mended(f"again in {SERVER_PAUSE} s", reason)
        if isinstance(error, SourceUnavailable):
            delivery.postpone(connection, SOURCE_PAUSE, clean(error))
            return Mended(f"again in {SOURCE_PAUSE:g} s", clean(error))
        if isinstance(error, EmbedderUnavailable):
            return _block(bench, connection, int(subject), delivery, error)
        if stage is Stage.SCAN:
            return _fail_scan(bench, connection, subject, delivery, error)
        return _mend_batch(bench, connection, stage, int(subject), delivery, error)


def _block(
    bench: Workbench, connection: Connection, batch_id: int, delivery: Delivery, error: EmbedderUnavailable
) -> Mended:
    """Block the job until the embedder answers again (R13): the batch asks again later, and counts no failure."""
    batch = batches.load(connection, batch_id)
    delivery.postpone(connection, bench.limits.unavailable_retry, clean(error))
    reason = clean(error)
    if not jobs.move(
        connection, batch.job_id, JobStatus.BLOCKED, "blocked", sources=(JobStatus.RUNNING,), blocked_reason=reason
    ):
        jobs.note_blocked_reason(connection, batch.job_id, reason)
    return Mended("blocked", clean(error))


def _fail_scan(
    bench: Workbench, connection: Connection, subject: str, delivery: Delivery, error: BaseException
) -> Mended:
    """Fail the job when its repository cannot be scanned; another error is tried again, from the cursor on."""
    if not isinstance(error, ScanRefused):
        job_id = UUID(subject)
        _hold(connection, job_id)
        events.record(connection, job_id, "scan_interrupted", reason=clean(error))
        failures = events.count(connection, job_id, "scan_interrupted")
        if failures < bench.limits.max_failures:
            return _again(connection, delivery, failures, error)
    return _fail_job(bench, connection, UUID(subject), delivery, error)


def _fail_job(
    bench: Workbench, connection: Connection, job_id: UUID, delivery: Delivery, error: BaseException
) -> Mended:
    """End the job: another attempt, or file, would meet the same fault. Its row is locked first, as everywhere."""
    finish.fail(bench, connection, job_id, delivery, clean(error), type(error).__name__)
    delivery.complete(connection)
    return Mended("failed job", clean(error))


def _hold(connection: Connection, job_id: UUID) -> None:
    """Keep a job running until the transaction ends; raises JobStopped when it does not run, or runs no more (R30)."""
    if not jobs.hold(connection, job_id):
        raise JobStopped(f"job {job_id} is not running any more")


def _again(connection: Connection, delivery: Delivery, failures: int, error: BaseException) -> Mended:
    delay = BACKOFF[min(failures, len(BACKOFF)) - 1]
    delivery.postpone(connection, delay, clean(error))
    return Mended(f"again in {delay} s", clean(error))


def _mend_batch(
    bench: Workbench, connection: Connection, stage: Stage, batch_id: int, delivery: Delivery, error: BaseException
) -> Mended:
    batch = batches.load(connection, batch_id)
    if isinstance(error, StagedRowsLost):
        return _back_to_chunk(connection, stage, batch, delivery, error)
    if isinstance(error, DimensionChanged):
        seen = repositories.add_model(connection, batch.embedder, batch.model, error.dimension)
        if seen == batch.model_id:  # what is new to this process is what the job is embedded with
            return _again(connection, delivery, 1, error)
    if isinstance(error, DimensionChanged | ValidationError):
        return _fail_job(bench, connection, batch.job_id, delivery, error)
    _hold(connection, batch.job_id)
    failures = batches.count_failure(connection, batch_id, BatchStage(stage), clean(error))
    if isinstance(error, FileAtFault) and len(batch.files) > 1:
        return isolate(bench, connection, stage, replace(batch, suspect=error.index), delivery, clean(error))
    if failures < bench.limits.max_failures:
        return _again(connection, delivery, failures, error)
    return isolate(bench, connection, stage, batch, delivery, clean(error))


def _back_to_chunk(
    connection: Connection, stage: Stage, batch: Batch, delivery: Delivery, error: StagedRowsLost
) -> Mended:
    """Chunk a batch again whose staged rows are gone; what it had added to the counters is taken back."""
    batches.move(
        connection, batch.batch_id, BatchStage(stage), BatchStage.CHUNK, chunk_count=0, chunks_embedded=0, outcomes=None
    )
    _resend(connection, batch, delivery, batch.batch_id)
    progress.advance(connection, batch.job_id, withdrawn(stage, batch), Clock(stage, 0.0))
    return Mended("back to chunk", clean(error))


def _resend(connection: Connection, batch: Batch, delivery: Delivery, *batch_ids: int) -> None:
    batches.drop_staged(connection, [batch.batch_id])
    delivery.complete(connection)
    for batch_id in batch_ids:
        delivery.send(connection, Stage.CHUNK, str(batch_id), batch.job_id)


def withdrawn(stage: Stage, batch: Batch) -> Progress:
    """Return what takes back all that a batch has added to its job's counters, by the stage that is due."""
    if stage is Stage.CHUNK:
        return Progress()
    reused = batch.chunk_count - batch.chunks_embedded if stage is Stage.WRITE else 0
    return Progress(
        files_chunked=-len(batch.files),
        chunks_created=-batch.chunk_count,
        chunks_embedded=-batch.chunks_embedded,
        chunks_reused=-reused,
    )


def isolate(
    bench: Workbench, connection: Connection, stage: Stage, batch: Batch, delivery: Delivery, reason: str
) -> Mended:
    """Cut the suspect file out of a batch that keeps failing, or halve it, until the poisonous file is alone and fails.

    The reason is kept with that file (R34). A suspect that is cut out has one failure to its account.
    """
    if len(batch.files) > 1:
        second = batches.split(connection, batch, batch.suspect, failures=1)
        _resend(connection, batch, delivery, batch.batch_id, second)
        added = replace(withdrawn(stage, batch), batches_total=1)
        progress.advance(connection, batch.job_id, added, Clock(stage, 0.0))
        return Mended("split", reason)
    return _fail_file(bench, connection, stage, batch, delivery, reason)


def _fail_file(
    bench: Workbench, connection: Connection, stage: Stage, batch: Batch, delivery: Delivery, reason: str
) -> Mended:
    entry = batch.files[0]
    failed = FileResult(entry.path, entry.size, entry.mtime_ns, Outcome.FAILED, reason)
    values = {"outcomes": batches.results_json([failed]), "chunk_count": 0, "chunks_embedded": 0}
    batches.move(connection, batch.batch_id, BatchStage(stage), BatchStage.DONE, **values)
    batches.drop_staged(connection, [batch.batch_id])
    batches.add_outcomes(connection, batch.job_id, [failed])
    delivery.complete(connection)
    bench.let_in(connection, batch.job_id, delivery)
    chunked = int(stage is Stage.CHUNK)
    added = replace(withdrawn(stage, batch), files_chunked=chunked, files_written=1, files_failed=1, batches_done=1)
    if progress.advance(connection, batch.job_id, added, Clock(stage, 0.0)):
        finish.finish(bench, connection, batch.job_id, delivery)
    return Mended("failed file", reason)


def give_up_on(bench: Workbench, stage: Stage, subject: str, delivery: Delivery) -> Mended | None:
    """Isolate a batch at which too many workers died: it kills or hangs them (R34)."""
    if stage is Stage.SCAN or not delivery.deaths:
        return None
    with bench.engine.begin() as connection:
        batch = batches.load(connection, int(subject))
        if batch.stage != BatchStage(stage) or batch.status not in WORKING:
            return None
        told = batch.suspect is not None and len(batch.files) > 1 and delivery.deaths >= TELLING_DEATHS
        if not told and delivery.deaths + batch.failures < bench.limits.max_failures:
            return None
        reason = f"its worker process crashed or hung at stage {stage}, {delivery.deaths} times in a row"
        return isolate(bench, connection, stage, batch, delivery, reason)


def is_servers_fault(error: BaseException) -> bool:
    """Return whether no batch is to blame: the database is away, full, out of connections, or chose a victim."""
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None):
        # Content that exceeds a limit (class 54) is an operational error, too, but will always be.
        return isinstance(error, OperationalError) and not str(error.orig.sqlstate).startswith("54")  # type: ignore[union-attr]
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout)


def clean(error: BaseException) -> str:
    """Return an error in words that the database can hold, at most 2,000 characters."""
    if isinstance(error, FileAtFault):
        return clean(error.cause)
    text = str(error)
    if isinstance(error, DBAPIError):
        # Its own text goes on with the statement and the row, which hold contents of files.
        text = f"{type(error.orig).__name__}: {error.orig}".partition("\n")[0]
    elif not isinstance(error, PenstockError):
        text = f"{type(error).__name__}: {text}"
    return storable(text)[:2_000]
