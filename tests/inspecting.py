"""Questions that tests ask the database: is the index whole, do the sums agree, is anything left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import text

if TYPE_CHECKING:
    from uuid import UUID

    from numpy.typing import NDArray
    from sqlalchemy import Engine

CHUNKS: Final = text("""
SELECT f.path, c.ordinal, c.start_line, c.end_line, c.symbol, c.content, encode(c.content_hash, 'hex')
FROM penstock.chunks c JOIN penstock.files f ON f.id = c.file_id JOIN penstock.repositories r ON r.id = f.repository_id
WHERE CAST(:root AS text) IS NULL OR r.root_path = :root
ORDER BY r.root_path, f.path, c.ordinal
""")

VECTORS: Final = text("""
SELECT f.path, c.ordinal, c.embedding
FROM penstock.chunks c JOIN penstock.files f ON f.id = c.file_id JOIN penstock.repositories r ON r.id = f.repository_id
WHERE r.root_path = :root ORDER BY f.path, c.ordinal
""")

LEFTOVERS: Final = text("""
SELECT 'messages', count(*) FROM dramatiq.queue
UNION ALL SELECT 'staged chunks', count(*) FROM penstock.staged_chunks
UNION ALL SELECT 'orphaned chunks', count(*) FROM penstock.chunks c
    WHERE NOT EXISTS (SELECT FROM penstock.files f WHERE f.id = c.file_id)
UNION ALL SELECT 'wrong chunk counts', count(*) FROM penstock.files f
    WHERE f.chunk_count <> (SELECT count(*) FROM penstock.chunks c WHERE c.file_id = f.id)
UNION ALL SELECT 'unfinished batches of finished jobs', count(*)
    FROM penstock.batches b JOIN penstock.indexing_jobs j ON j.id = b.job_id
    WHERE j.status = 'completed' AND b.stage <> 'done'
""")

SUMS: Final = text("""
SELECT rule FROM penstock.indexing_jobs j, LATERAL (VALUES
    ('all listed files were scanned', files_listed = files_scanned),
    ('every scanned file has an outcome',
        files_scanned = files_indexed + files_unchanged + files_skipped + files_failed),
    ('every due file was chunked', files_due = files_chunked),
    ('every due file was written', files_due = files_written),
    ('batches are done', batches_total = batches_done
        AND batches_total = (SELECT count(*) FROM penstock.batches b WHERE b.job_id = j.id)),
    ('outcomes are noted', files_skipped + files_failed
        = (SELECT count(*) FROM penstock.file_outcomes o WHERE o.job_id = j.id)),
    ('every chunk was embedded or reused', chunks_created = chunks_embedded + chunks_reused),
    ('every chunk was written', chunks_created = chunks_written),
    ('chunks of batches', chunks_written = (
        SELECT sum(b.chunk_count) FROM penstock.batches b WHERE b.job_id = j.id AND b.stage = 'done')
        OR (chunks_written = 0 AND batches_total = 0))
) AS checked (rule, holds) WHERE j.id = :job AND NOT coalesce(holds, false)
""")


def chunk_set(engine: Engine, root: str | None = None) -> list[tuple[object, ...]]:
    """Return the index of a repository (or of all) as comparable rows: path, ordinal, lines, symbol, text and hash."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(CHUNKS, {"root": root})]


def vectors(engine: Engine, root: str) -> dict[tuple[str, int], NDArray[np.float32]]:
    """Return the vectors of a repository's chunks by path and ordinal, each of its model's dimension."""
    with engine.connect() as connection:
        rows = connection.execute(VECTORS, {"root": root})
        return {(path, ordinal): np.asarray(embedding.to_numpy(), np.float32) for path, ordinal, embedding in rows}


def leftovers(engine: Engine) -> dict[str, int]:
    """Return what should not be there once all jobs ended, by kind; empty when all is well."""
    with engine.connect() as connection:
        return {kind: count for kind, count in connection.execute(LEFTOVERS) if count}


def sums(engine: Engine, job_id: UUID) -> list[str]:
    """Return the rules that the counters of a finished job break; empty when they agree."""
    with engine.connect() as connection:
        return list(connection.execute(SUMS, {"job": job_id}).scalars())


def seal(engine: Engine) -> None:
    """Have the database refuse every change from now on, so that no test can depend on another."""
    with engine.begin() as connection:
        name = connection.dialect.identifier_preparer.quote(str(engine.url.database))
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    engine.dispose()  # the setting is that of new sessions
