"""What happens when a stage cannot: blocked jobs, failed attempts, poisonous files, lost staging, late deliveries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from pipeline.errors import (
    BatchMoved,
    DimensionChanged,
    EmbedderUnavailable,
    JobStopped,
    PenstockError,
    ScanRefused,
    StagedRowsLost,
    ValidationError,
    storable,
)
from pipeline.records import Outcome
from pipeline.stages import finish
from pipeline.states import WORKING, BatchStage, JobStatus, Stage
from pipeline.store import batches, events, jobs, progress, repositories
from pipeline.store.batches import FileResult
from pipeline.store.engine import redoable
from pipeline.store.progress import Clock, Progress

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench
    from pipeline.store.batches import Batch

BACKOFF: Final = (0.2, 1.0, 5.0)
"""Seconds before the next attempt at a batch, by the number of failures so far."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What was decided about a message whose stage raised: the log line's words."""

    action: str
    reason: str


def mend(bench: Workbench, stage: Stage, subject: str, delivery: Delivery, error: BaseException) -> Mended:
    """Settle the message of a stage that raised, in one transaction; raises LeaseLost when it was taken over."""
    try:
        return _mend(bench, stage, subject, delivery, error)
    except (BatchMoved, JobStopped) as late:
        # The job ended, or the batch went on, between the fault and its mending.
        return _mend(bench, stage, subject, delivery, late)


def _mend(bench: Workbench, stage: Stage, subject: str, delivery: Delivery, error: BaseException) -> Mended:
    with redoable(bench.engine) as connection:
        if isinstance(error, BatchMoved | JobStopped):
            delivery.complete(connection)
            return Mended("dropped", clean(error))
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            # The server went away, which is no fault of the batch.
            delivery.postpone(connection, BACKOFF[0])
            return Mended(f"again in {BACKOFF[0]} s", "the connection to the database was lost")
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
    delivery.postpone(connection, bench.limits.unavailable_retry)
    jobs.move(
        connection,
        batch.job_id,
        JobStatus.BLOCKED,
        "blocked",
        sources=(JobStatus.RUNNING,),
        blocked_reason=clean(error),
    )
    return Mended("blocked", clean(error))


def _fail_scan(
    bench: Workbench, connection: Connection, subject: str, delivery: Delivery, error: BaseException
) -> Mended:
    """Fail the job when its repository cannot be scanned; another error is tried again, from the cursor on."""
    if not isinstance(error, ScanRefused):
        job_id = UUID(subject)
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


def _again(connection: Connection, delivery: Delivery, failures: int, error: BaseException) -> Mended:
    delay = BACKOFF[min(failures, len(BACKOFF)) - 1]
    delivery.postpone(connection, delay)
    return Mended(f"again in {delay} s", clean(error))


def _mend_batch(
    bench: Workbench, connection: Connection, stage: Stage, batch_id: int, delivery: Delivery, error: BaseException
) -> Mended:
    batch = batches.load(connection, batch_id)
    if isinstance(error, StagedRowsLost):
        return _back_to_chunk(connection, stage, batch, delivery, error)
    if isinstance(error, DimensionChanged):
        repositories.add_model(connection, batch.embedder, batch.model, error.dimension)
    if isinstance(error, DimensionChanged | ValidationError):
        return _fail_job(bench, connection, batch.job_id, delivery, error)
    failures = batches.count_failure(connection, batch_id, BatchStage(stage), clean(error))
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
        delivery.send(connection, Stage.CHUNK, str(batch_id))


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
    """Halve a batch that keeps failing, until the poisonous file is alone and fails with the reason (R34)."""
    if len(batch.files) > 1:
        second = batches.split(connection, batch)
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
    """Isolate a batch that was delivered too often without an end: it kills or hangs its worker (R34)."""
    if stage is Stage.SCAN or delivery.deliveries <= bench.limits.max_failures:
        return None
    with redoable(bench.engine) as connection:
        batch = batches.load(connection, int(subject))
        if batch.stage != BatchStage(stage) or batch.status not in WORKING:
            return None
        return isolate(
            bench,
            connection,
            stage,
            batch,
            delivery,
            f"its worker died {delivery.deliveries - 1} times at stage {stage}",
        )


def clean(error: BaseException) -> str:
    """Return an error in words that the database can hold, at most 2,000 characters."""
    text = str(error)
    if isinstance(error, DBAPIError):
        # Its own text goes on with the statement and the row, which hold contents of files.
        text = f"{type(error.orig).__name__}: {error.orig}".partition("\n")[0]
    elif not isinstance(error, PenstockError):
        text = f"{type(error).__name__}: {text}"
    return storable(text)[:2_000]
