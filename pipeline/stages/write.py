"""The write stage's checkpoint: staged chunks and their vectors become the index, and the next batch is let in."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import StagedRowsLost
from pipeline.records import Outcome
from pipeline.stages import finish
from pipeline.stages.workbench import due
from pipeline.states import BatchStage, Stage
from pipeline.store import batches, files, progress, repositories
from pipeline.store.progress import Clock, Progress

if TYPE_CHECKING:
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench
    from pipeline.store.batches import Batch


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What one write batch came to, for its log line."""

    job_id: str
    batch_id: int
    files: int
    indexed: int
    unchanged: int
    skipped: int
    failed: int
    bytes: int
    chunks: int
    seconds: float


def write(bench: Workbench, subject: str, delivery: Delivery) -> WriteReport:
    """Replace the batch's files in one transaction (R35), let the next batch in, end the job if it was the last.

    Raises BatchMoved, JobStopped; StagedRowsLost when chunks or vectors are not all there.
    """
    started = time.monotonic()
    with bench.engine.begin() as connection:
        batch = due(connection, subject, BatchStage.WRITE)
        written, growth = files.replace(connection, batch.repository_id, batch.batch_id, batch.model_id, batch.results)
        if written != batch.chunk_count:
            raise StagedRowsLost(f"batch {batch.batch_id}: {written} of {batch.chunk_count} chunks are there to write")
        batches.drop_staged(connection, [batch.batch_id])
        batches.add_outcomes(connection, batch.job_id, batch.results)
        batches.move(connection, batch.batch_id, BatchStage.WRITE, BatchStage.DONE)
        delivery.complete(connection)
        bench.let_in(connection, batch.job_id, delivery)
        added = _added(batch, written)
        clock = Clock(Stage.WRITE, time.monotonic() - started)
        finished = progress.advance(connection, batch.job_id, added, clock)
        repositories.grow(connection, batch.repository_id, growth, batch.model_id)
        if finished:
            finish.finish(bench, connection, batch.job_id, delivery)
    return WriteReport(
        job_id=str(batch.job_id),
        batch_id=batch.batch_id,
        files=len(batch.files),
        indexed=added.files_indexed,
        unchanged=added.files_unchanged,
        skipped=added.files_skipped,
        failed=added.files_failed,
        bytes=added.bytes_indexed,
        chunks=written,
        seconds=time.monotonic() - started,
    )


def _added(batch: Batch, written: int) -> Progress:
    outcomes = Counter(result.outcome for result in batch.results)
    return Progress(
        files_written=len(batch.files),
        files_indexed=outcomes[Outcome.INDEXED],
        files_unchanged=outcomes[Outcome.UNCHANGED],
        files_skipped=outcomes[Outcome.SKIPPED],
        files_failed=outcomes[Outcome.FAILED],
        bytes_indexed=sum(result.size for result in batch.results if result.outcome is Outcome.INDEXED),
        chunks_written=written,
        batches_done=1,
    )
