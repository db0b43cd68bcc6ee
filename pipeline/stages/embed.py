"""The embed stage's checkpoint: passages without a vector get one, committed per request, and the batch goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.embedding import requests
from pipeline.errors import DimensionChanged, LeaseLost, StagedRowsLost
from pipeline.records import Outcome
from pipeline.stages.workbench import due
from pipeline.states import BatchStage, JobStatus, Stage
from pipeline.store import batches, embeddings, jobs, progress, repositories
from pipeline.store.progress import Clock, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from pipeline.embedders import Embedded, Passage
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench
    from pipeline.store.batches import Batch, FileResult


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What one embed batch came to, for its log line."""

    job_id: str
    batch_id: int
    chunks: int
    embedded: int
    reused: int
    truncated: int
    failed_files: int
    requests: int
    embedder_seconds: float
    seconds: float


@dataclass(slots=True)
class Account:
    """What the requests of a batch came to so far."""

    batch: Batch
    delivery: Delivery
    embedded: int = 0
    failed: dict[bytes, str] = field(default_factory=dict)
    truncated: int = 0
    requests: int = 0
    embedder_seconds: float = 0.0


def embed(bench: Workbench, subject: str, delivery: Delivery) -> EmbedReport:
    """Embed what the batch needs and no model has embedded before (R44), and hand the batch on.

    Raises BatchMoved, JobStopped, StagedRowsLost, LeaseLost; DimensionChanged; EmbedderUnavailable when the provider is
    away.
    """
    started = time.monotonic()
    with bench.engine.connect() as connection:
        batch = due(connection, subject, BatchStage.EMBED)
        if embeddings.count_staged(connection, batch.batch_id) != batch.chunk_count:
            raise StagedRowsLost(f"batch {batch.batch_id} lost its staged chunks")
        missing = embeddings.missing(connection, batch.batch_id, batch.model_id)
    embedder = bench.embedder_for(batch.embedder, batch.model)
    account = Account(batch, delivery)
    heed = bench.heed(batch.job_id)
    for request in requests(missing.items(), embedder.batch_size):
        heed()
        begun = time.monotonic()
        answer = embedder.embed([passage for _, passage in request], heed)
        _keep(bench, request, answer, account, time.monotonic() - begun)
    failed = _hand_on(bench, batch, account, delivery, started)
    return EmbedReport(
        job_id=str(batch.job_id),
        batch_id=batch.batch_id,
        chunks=batch.chunk_count,
        embedded=account.embedded,
        reused=batch.chunk_count - batch.chunks_embedded - account.embedded,
        truncated=account.truncated,
        failed_files=failed,
        requests=account.requests,
        embedder_seconds=account.embedder_seconds,
        seconds=time.monotonic() - started,
    )


def _keep(
    bench: Workbench, request: Sequence[tuple[bytes, Passage]], answer: Embedded, account: Account, seconds: float
) -> None:
    """Commit the vectors of one request, so that a crash repeats at most the requests in flight (R33).

    Raises LeaseLost when another worker took the batch over: it finds the vectors, and counts what it adds itself.
    """
    batch = account.batch
    fresh = {key: answer.vectors[at] for at, (key, _) in enumerate(request) if at not in answer.failed}
    with bench.engine.begin() as connection:
        added = embeddings.store(connection, _model(connection, batch, answer), fresh) if fresh else 0
        held = account.delivery.progressed(connection)
        if held:
            batches.add_embedded(connection, batch.batch_id, added)
            jobs.move(connection, batch.job_id, JobStatus.RUNNING, "unblocked", sources=(JobStatus.BLOCKED,))
            counted = Progress(chunks_embedded=added, passages_truncated=answer.truncated)
            progress.advance(connection, batch.job_id, counted, Clock(Stage.EMBED, seconds))
    if not held:
        raise LeaseLost(f"batch {batch.batch_id} was taken over while its passages were embedded")
    account.embedded += added
    account.failed |= {request[at][0]: reason for at, reason in answer.failed.items()}
    account.truncated += answer.truncated
    account.requests += 1
    account.embedder_seconds += seconds


def _model(connection: Connection, batch: Batch, answer: Embedded) -> int:
    """Return the vector space that the job is pinned to, which the first answer may decide (R50)."""
    dimension = int(answer.vectors.shape[1])
    model_id = batch.model_id
    if model_id is None:
        seen = repositories.add_model(connection, batch.embedder, batch.model, dimension)
        model_id = jobs.pin_model(connection, batch.job_id, seen)
    expected = repositories.dimension_of(connection, model_id)
    if expected != dimension:
        raise DimensionChanged(
            f"{batch.embedder} model {batch.model} answers with {dimension} dimensions, the index has {expected}"
            "; if the model was replaced, submit the repository again to embed it anew",
            dimension,
        )
    return model_id


def _hand_on(bench: Workbench, batch: Batch, account: Account, delivery: Delivery, started: float) -> int:
    with bench.engine.begin() as connection:
        results, dropped = _without_failed(connection, batch, account.failed)
        chunks = batch.chunk_count - dropped
        embedded = batches.hold_embedded(connection, batch.batch_id)
        batches.move(
            connection,
            batch.batch_id,
            BatchStage.EMBED,
            BatchStage.WRITE,
            outcomes=batches.results_json(results),
            chunk_count=chunks,
            chunks_embedded=min(chunks, embedded),
        )
        jobs.move(connection, batch.job_id, JobStatus.RUNNING, "unblocked", sources=(JobStatus.BLOCKED,))
        delivery.complete(connection)
        delivery.send(connection, Stage.WRITE, str(batch.batch_id), batch.job_id)
        # What was embedded for a file that fails is in the store, but not among the job's chunks.
        reused = chunks - embedded
        added = Progress(chunks_created=-dropped, chunks_reused=max(0, reused), chunks_embedded=min(0, reused))
        rest = time.monotonic() - started - account.embedder_seconds
        progress.advance(connection, batch.job_id, added, Clock(Stage.EMBED, rest))
    return sum(result.outcome is Outcome.FAILED for result in results)


def _without_failed(
    connection: Connection, batch: Batch, failed: dict[bytes, str]
) -> tuple[tuple[FileResult, ...], int]:
    """Fail the files that hold a passage which cannot be embedded: never a file with gaps (R51)."""
    if not failed:
        return batch.results, 0
    reasons, dropped = embeddings.drop_files(connection, batch.batch_id, failed)
    results = tuple(
        replace(result, outcome=Outcome.FAILED, reason=reasons[index], chunks=0) if index in reasons else result
        for index, result in enumerate(batch.results)
    )
    return results, dropped
