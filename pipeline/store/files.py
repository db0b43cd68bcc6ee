"""The files table: what the index knows of every file, and its atomic replacement with its chunks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime, Text

from pipeline.batching import KnownFile
from pipeline.store.batches import results_json
from pipeline.store.repositories import Growth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Engine, Row

    from pipeline.store.batches import FileResult

PAGE: Final = 5_000
FORCE_BEFORE: Final = bindparam("force_before", type_=DateTime(timezone=True))
KNOWN: Final = text("""
SELECT path, size, CASE WHEN holds THEN mtime_ns ELSE 0 END AS mtime_ns, skip_reason,
    CASE WHEN holds THEN encode(blob_id, 'hex') END AS blob_id
FROM (
    SELECT *, (chunk_count = 0 OR model_id = :model) AND NOT coalesce(indexed_at < :force_before, false) AS holds
    FROM penstock.files WHERE repository_id = :repository AND path > :after ORDER BY path LIMIT :page) AS f
ORDER BY path
""").bindparams(FORCE_BEFORE)


def known(
    engine: Engine, repository_id: int, model_id: int | None, force_before: datetime | None
) -> Iterator[KnownFile]:
    """Yield the files that the index knows, by the bytes of their path, in pages of short transactions.

    The time of a file whose vectors are of another model (R50), or that was indexed before `force_before` (R05), is 0
    and its blob None, which never count as unchanged.
    """
    wanted = {"repository": repository_id, "model": model_id, "force_before": force_before, "page": PAGE}
    after = ""
    while True:
        with engine.connect() as connection:
            rows = connection.execute(KNOWN, {**wanted, "after": after}).all()
        yield from (KnownFile(*row) for row in rows)
        if len(rows) < PAGE:
            return
        after = rows[-1].path


HASHES: Final = text("""
SELECT path, content_hash FROM penstock.files
WHERE repository_id = :repository AND path = ANY(:paths) AND content_hash IS NOT NULL AND skip_reason IS NULL
    AND (chunk_count = 0 OR model_id = :model) AND NOT coalesce(indexed_at < :force_before, false)
""").bindparams(bindparam("paths", type_=ARRAY(Text)), FORCE_BEFORE)


def hashes(
    connection: Connection,
    repository_id: int,
    model_id: int | None,
    force_before: datetime | None,
    paths: Sequence[str],
) -> dict[str, bytes]:
    """Return the content hashes that the index has of these paths, where `known` would tell their time."""
    wanted = {"repository": repository_id, "model": model_id, "force_before": force_before}
    rows = connection.execute(HASHES, {**wanted, "paths": list(paths)})
    return {row.path: bytes(row.content_hash) for row in rows}


REMOVE: Final = text("""
WITH gone AS (
    DELETE FROM penstock.files WHERE repository_id = :repository AND path = ANY(:paths)
    RETURNING skip_reason, chunk_count)
SELECT count(*) AS removed, count(*) FILTER (WHERE skip_reason IS NULL) AS files,
    coalesce(sum(chunk_count), 0) AS chunks
FROM gone
""").bindparams(bindparam("paths", type_=ARRAY(Text)))


def remove(connection: Connection, repository_id: int, paths: Sequence[str]) -> tuple[int, Growth]:
    """Delete files with their chunks; return how many there were, and what the repository is to be counted by."""
    row = connection.execute(REMOVE, {"repository": repository_id, "paths": list(paths)}).one()
    return row.removed, Growth(files=-row.files, chunks=-row.chunks, changes=row.chunks)


class Replaced(NamedTuple):
    """What a batch came to: the chunks written, and what the repository is to be counted by."""

    written: int
    growth: Growth


COLUMNS: Final = """(
    path text, size bigint, mtime_ns bigint, outcome text, reason text, hash text, language text, words text,
    chunks integer, gone boolean, blob text)"""
UPSERT: Final = text(f"""
INSERT INTO penstock.files AS f
    (repository_id, path, size, mtime_ns, blob_id, content_hash, language, chunk_count, model_id, skip_reason)
SELECT :repository, path, size, mtime_ns, decode(blob, 'hex'), decode(hash, 'hex'), language, chunks,
    CAST(:model AS smallint), reason
FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS r {COLUMNS}
WHERE outcome IN ('indexed', 'skipped') AND NOT gone
ON CONFLICT (repository_id, path) DO UPDATE SET size = EXCLUDED.size, mtime_ns = EXCLUDED.mtime_ns,
    blob_id = EXCLUDED.blob_id, content_hash = EXCLUDED.content_hash, language = EXCLUDED.language,
    chunk_count = EXCLUDED.chunk_count, model_id = EXCLUDED.model_id, skip_reason = EXCLUDED.skip_reason,
    indexed_at = now()
""")  # noqa: S608 - constants only
TOUCH: Final = text(f"""
UPDATE penstock.files f SET size = r.size, mtime_ns = r.mtime_ns, blob_id = decode(r.blob, 'hex')
FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS r {COLUMNS}
WHERE f.repository_id = :repository AND f.path = r.path AND r.outcome = 'unchanged'
    AND (f.size, f.mtime_ns, f.blob_id) IS DISTINCT FROM (r.size, r.mtime_ns, decode(r.blob, 'hex'))
""")  # noqa: S608 - constants only
CLEAR: Final = text(f"""
DELETE FROM penstock.chunks c
USING penstock.files f JOIN jsonb_to_recordset(CAST(:results AS jsonb)) AS r {COLUMNS} USING (path)
WHERE f.repository_id = :repository AND c.file_id = f.id AND r.outcome IN ('indexed', 'skipped')
""")  # noqa: S608 - constants only
FILL: Final = text(f"""
INSERT INTO penstock.chunks (repository_id, file_id, ordinal, start_line, end_line, symbol, kind, language,
    content, content_hash, model_id, embedding, lexemes)
SELECT :repository, f.id, s.ordinal, s.start_line, s.end_line, s.symbol, s.kind, r.language,
    s.content, s.content_hash, e.model_id, e.embedding,
    setweight(to_tsvector('english', s.name_words), 'A')
        || setweight(to_tsvector('english', s.place_words || ' ' || r.words), 'B')
        || setweight(to_tsvector('english', s.comment_words), 'C')
        || to_tsvector('english', s.code_words) || array_to_tsvector(s.keys)
FROM ROWS FROM (jsonb_to_recordset(CAST(:results AS jsonb)) AS {COLUMNS}) WITH ORDINALITY AS r (
    path, size, mtime_ns, outcome, reason, hash, language, words, chunks, gone, blob, position)
JOIN penstock.staged_chunks s ON s.batch_id = :batch AND s.file_index = r.position - 1
JOIN penstock.files f ON f.repository_id = :repository AND f.path = r.path
JOIN penstock.embeddings e ON e.model_id = :model AND e.content_hash = s.content_hash
WHERE r.outcome = 'indexed'
""")  # noqa: S608 - constants only


def replace(
    connection: Connection, repository_id: int, batch_id: int, model_id: int | None, results: Sequence[FileResult]
) -> Replaced:
    """Replace the files of a batch and their chunks by what is staged (R35)."""
    values = {
        "repository": repository_id,
        "batch": batch_id,
        "model": model_id,
        "results": json.dumps(results_json(results)),
    }
    old = _counted(connection, values)
    _, gone = remove(connection, repository_id, [result.path for result in results if result.gone])
    removed = connection.execute(CLEAR, values).rowcount + gone.changes
    connection.execute(UPSERT, values)
    connection.execute(TOUCH, values)
    written = connection.execute(FILL, values).rowcount
    new = _counted(connection, values)
    return Replaced(written, Growth(new.files - old.files, new.chunks - old.chunks, written + removed))


COUNTED: Final = text(f"""
SELECT count(*) AS files, coalesce(sum(chunk_count), 0) AS chunks FROM penstock.files
WHERE repository_id = :repository AND skip_reason IS NULL
    AND path IN (SELECT path FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS r {COLUMNS})
""")  # noqa: S608 - constants only


def _counted(connection: Connection, values: Mapping[str, object]) -> Row[Any]:
    """Return how many of a batch's files are searchable, and their chunks."""
    return connection.execute(COUNTED, values).one()
