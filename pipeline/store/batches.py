"""The batches table: what is next for each batch, the job's window, and splitting."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, bindparam, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from pipeline.errors import BatchMoved, JobStopped
from pipeline.records import FileEntry, Outcome
from pipeline.states import IN_FLIGHT, WORKING, BatchStage, JobStatus, Stage
from pipeline.tables import batches, indexing_jobs, repositories

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class FileResult:
    """What the chunk stage found of one file of a batch; stored as JSON on the batch, in the order of its files.

    `hash` is hexadecimal; `words` are the path's words for the text index; `gone` says that the file vanished;
    `blob` is git's name of the content, hexadecimal, where it was read from a repository's objects.
    """

    path: str
    size: int
    mtime_ns: int
    outcome: Outcome
    reason: str | None = None
    hash: str | None = None
    language: str = ""
    words: str = ""
    chunks: int = 0
    gone: bool = False
    blob: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch with what a stage needs to know of its job and repository."""

    batch_id: int
    job_id: UUID
    sequence: int
    stage: BatchStage
    files: tuple[FileEntry, ...]
    results: tuple[FileResult, ...]
    byte_count: int
    chunk_count: int
    chunks_embedded: int
    failures: int
    status: JobStatus
    repository_id: int
    root_path: str
    suspect: int | None
    force_before: datetime | None
    embedder: str
    model: str
    model_id: int | None
    """The vector space that the job is pinned to; None until the first answer of a model never seen."""
    revision: str | None
    """The commit whose files these are; None for files of a folder."""


def add(connection: Connection, job_id: UUID, sequence: int, files: Sequence[FileEntry]) -> None:
    """Insert one ready batch."""
    connection.execute(insert(batches).values(job_id=job_id, sequence=sequence, **_listed(files)))


def _listed(files: Sequence[FileEntry]) -> dict[str, object]:
    return {
        "files": [
            [entry.path, entry.size, entry.mtime_ns, *([entry.blob_id] if entry.blob_id else ())] for entry in files
        ],
        "file_count": len(files),
        "byte_count": sum(entry.size for entry in files),
    }


LOADED: Final = (
    select(
        batches,
        indexing_jobs.c.status,
        indexing_jobs.c.repository_id,
        indexing_jobs.c.force_before,
        indexing_jobs.c.embedder,
        indexing_jobs.c.model,
        indexing_jobs.c.model_id,
        indexing_jobs.c.revision,
        repositories.c.root_path,
    )
    .join(indexing_jobs, indexing_jobs.c.id == batches.c.job_id)
    .join(repositories, repositories.c.id == indexing_jobs.c.repository_id)
)


def load(connection: Connection, batch_id: int) -> Batch:
    """Return a batch; raises BatchMoved when it is gone, because its job was deleted or retired."""
    row = connection.execute(LOADED.where(batches.c.id == batch_id)).first()
    if row is None:
        raise BatchMoved(f"batch {batch_id} does not exist any more")
    return _batch(row)


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        batch_id=row.id,
        job_id=row.job_id,
        sequence=row.sequence,
        stage=BatchStage(row.stage),
        files=tuple(FileEntry(*entry) for entry in row.files),
        results=tuple(FileResult(**result | {"outcome": Outcome(result["outcome"])}) for result in row.outcomes or ()),
        byte_count=row.byte_count,
        chunk_count=row.chunk_count,
        chunks_embedded=row.chunks_embedded,
        failures=row.failures,
        status=JobStatus(row.status),
        repository_id=row.repository_id,
        root_path=row.root_path,
        suspect=row.suspect,
        force_before=row.force_before,
        embedder=row.embedder,
        model=row.model,
        model_id=row.model_id,
        revision=row.revision,
    )


def move(connection: Connection, batch_id: int, source: BatchStage, target: BatchStage, **values: object) -> None:
    """Move a batch on by compare-and-set; raises BatchMoved when it is not at `source` any more."""
    moved = connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.stage == source)
        .values(stage=target, **values)
        .returning(batches.c.id)
    ).first()
    if moved is None:
        raise BatchMoved(f"batch {batch_id} has left the stage {source}")


def results_json(results: Iterable[FileResult]) -> list[dict[str, object]]:
    """Return file results as the JSON that the batch stores."""
    return [asdict(result) for result in results]


ADD_EMBEDDED: Final = (
    update(batches)
    .where(batches.c.id == bindparam("batch"), batches.c.stage == BatchStage.EMBED)
    .values(chunks_embedded=batches.c.chunks_embedded + bindparam("added"))
    .returning(batches.c.id)
)


def add_embedded(connection: Connection, batch_id: int, added: int) -> None:
    """Count chunks that one request embedded; raises BatchMoved when the batch has left the stage."""
    if connection.execute(ADD_EMBEDDED, {"batch": batch_id, "added": added}).first() is None:
        raise BatchMoved(f"batch {batch_id} has left the stage embed")


def hold_embedded(connection: Connection, batch_id: int) -> int:
    """Return how many of its chunks' passages were embedded for a batch, by all attempts; no more until the commit.

    Raises BatchMoved when the batch has left the stage.
    """
    counted = select(batches.c.chunks_embedded).where(batches.c.id == batch_id, batches.c.stage == BatchStage.EMBED)
    embedded = connection.execute(counted.with_for_update()).scalar()
    if embedded is None:
        raise BatchMoved(f"batch {batch_id} has left the stage embed")
    return int(embedded)


LET_IN: Final = text("""
WITH next AS MATERIALIZED (
    SELECT id FROM penstock.batches WHERE job_id = :job AND stage = 'ready' ORDER BY sequence
    LIMIT greatest(0, :window - (
        SELECT count(*) FROM penstock.batches WHERE job_id = :job AND stage IN ('chunk', 'embed', 'write')))
    FOR UPDATE SKIP LOCKED)
UPDATE penstock.batches b SET stage = 'chunk' FROM next WHERE b.id = next.id
RETURNING b.id
""")


def let_in(connection: Connection, job_id: UUID, window: int) -> list[int]:
    """Move the next ready batches into the job's window (R37) and return their ids, which now need a chunk message."""
    return sorted(connection.execute(LET_IN, {"job": job_id, "window": window}).scalars())


def in_flight(connection: Connection, job_id: UUID) -> list[tuple[int, Stage]]:
    """Return the batches of a job between chunk and write, each with the stage that is due.

    They stay where they are until the transaction ends; one that is being moved this moment is left out, so that nobody
    sends its old stage's message again.
    """
    rows = connection.execute(
        select(batches.c.id, batches.c.stage)
        .where(batches.c.job_id == job_id, batches.c.stage.in_(IN_FLIGHT))
        .order_by(batches.c.sequence)
        .with_for_update(read=True, skip_locked=True)
    )
    return [(row.id, Stage(row.stage)) for row in rows]


def next_sequence(connection: Connection, job_id: UUID) -> int:
    """Return the sequence number for the job's next batch."""
    newest = connection.execute(select(func.max(batches.c.sequence)).where(batches.c.job_id == job_id)).scalar()
    return 0 if newest is None else newest + 1


def count_failure(connection: Connection, batch_id: int, source: BatchStage, error: str) -> int:
    """Note a failed attempt at a batch and return how many there were; raises BatchMoved."""
    failures = connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.stage == source)
        .values(failures=batches.c.failures + 1, last_error=error)
        .returning(batches.c.failures)
    ).scalar()
    if failures is None:
        raise BatchMoved(f"batch {batch_id} has left the stage {source}")
    return int(failures)


SUSPECT: Final = (
    update(batches)
    .where(batches.c.id == bindparam("batch"), batches.c.stage == BatchStage.CHUNK)
    .where(batches.c.job_id == indexing_jobs.c.id, indexing_jobs.c.status.in_(WORKING))
    .values(suspect=bindparam("file_index"))
    .returning(batches.c.id)
)


def note_suspect(connection: Connection, batch_id: int, index: int) -> None:
    """Note which file is worked on next, for the case that it ends its worker (R34); raises JobStopped."""
    if connection.execute(SUSPECT, {"batch": batch_id, "file_index": index}).first() is None:
        raise JobStopped(f"batch {batch_id} is not due for chunking any more, or its job rests")


def split(connection: Connection, batch: Batch, suspect: int | None, failures: int) -> int:
    """Cut a batch in two that are due for chunking anew: it keeps the first part; return the id of the second.

    The second part is the suspect file alone, counted as failed so often already; half of the files without one.
    """
    fresh = {"stage": BatchStage.CHUNK, "outcomes": None, "chunk_count": 0, "chunks_embedded": 0, "suspect": None}
    middle = len(batch.files) // 2
    first, second = batch.files[:middle], batch.files[middle:]
    if suspect is not None:
        first = batch.files[:suspect] + batch.files[suspect + 1 :]
        second = (batch.files[suspect],)
    kept = update(batches).where(batches.c.id == batch.batch_id)
    connection.execute(kept.values(**fresh, failures=0, **_listed(first)))
    added = insert(batches).values(
        **fresh,
        job_id=batch.job_id,
        sequence=batch.sequence,
        failures=failures if suspect is not None else 0,
        **_listed(second),
    )
    return int(connection.execute(added.returning(batches.c.id)).scalar_one())


OUTCOMES: Final = text("""
INSERT INTO penstock.file_outcomes (job_id, path, outcome, reason)
SELECT :job, path, outcome, reason
FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS r (path text, outcome text, reason text)
WHERE outcome IN ('failed', 'skipped')
ON CONFLICT (job_id, path) DO UPDATE SET outcome = EXCLUDED.outcome, reason = EXCLUDED.reason
""")


def add_outcomes(connection: Connection, job_id: UUID, results: Iterable[FileResult]) -> None:
    """Note the skipped and failed files of a job with their reasons."""
    noted = [
        {"path": result.path, "outcome": result.outcome, "reason": result.reason}
        for result in results
        if result.outcome in {Outcome.FAILED, Outcome.SKIPPED}
    ]
    if noted:
        connection.execute(OUTCOMES, {"job": job_id, "results": json.dumps(noted)})


NOTED: Final = text(
    "SELECT path, outcome, reason FROM penstock.file_outcomes WHERE job_id = :job ORDER BY outcome, path LIMIT :limit"
)


def outcomes(connection: Connection, job_id: UUID, limit: int) -> Sequence[Row[Any]]:
    """Return up to `limit` skipped and failed files of a job, failed ones first."""
    return connection.execute(NOTED, {"job": job_id, "limit": limit}).all()


DROP_ORPHANS: Final = text("""
DELETE FROM penstock.staged_chunks s WHERE NOT EXISTS (
    SELECT FROM penstock.batches b JOIN penstock.indexing_jobs j ON j.id = b.job_id
    WHERE b.id = s.batch_id AND b.stage IN ('embed', 'write')
        AND j.status IN ('running', 'blocked', 'paused', 'pending'))
""")


def drop_orphans(connection: Connection) -> int:
    """Delete staged chunks that no active job waits for, and return how many."""
    return connection.execute(DROP_ORPHANS).rowcount


DROP_STAGED: Final = text("DELETE FROM penstock.staged_chunks WHERE batch_id = ANY(:batches)").bindparams(
    bindparam("batches", type_=ARRAY(BigInteger))
)


def drop_staged(connection: Connection, batch_ids: Sequence[int]) -> None:
    """Delete the staged chunks of batches."""
    connection.execute(DROP_STAGED, {"batches": list(batch_ids)})
