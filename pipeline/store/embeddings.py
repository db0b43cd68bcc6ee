"""The staged_chunks and embeddings tables: texts on their way, and the content-addressed store of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgvector import HalfVector
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import LargeBinary

from pipeline.embedders import Passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from psycopg import Connection as DriverConnection
    from sqlalchemy import Connection

    from pipeline.records import Chunk
    from pipeline.wording import Fields


@dataclass(frozen=True, slots=True)
class StagedChunk:
    """A chunk on its way to the index: of which file of the batch, its place in it, its hash and its words."""

    file_index: int
    ordinal: int
    chunk: Chunk
    content_hash: bytes
    fields: Fields


STAGE: Final = """
COPY penstock.staged_chunks (batch_id, file_index, ordinal, start_line, end_line, symbol, kind, content, content_hash,
    name_words, place_words, comment_words, code_words, keys) FROM STDIN (FORMAT BINARY)
"""
STAGE_TYPES: Final = ("int8", "int2", "int4", "int4", "int4", "text", "text", "text", "bytea", *["text"] * 4, "text[]")


def stage(connection: Connection, batch_id: int, staged: Iterable[StagedChunk]) -> None:
    """Copy a batch's chunks into the staging table."""
    with driver(connection).cursor() as cursor, cursor.copy(STAGE) as copy:
        copy.set_types(STAGE_TYPES)
        for item in staged:
            chunk = item.chunk
            copy.write_row((
                batch_id, item.file_index, item.ordinal, chunk.start_line, chunk.end_line, chunk.symbol, chunk.kind,
                chunk.content, item.content_hash, *item.fields,
            ))  # fmt: skip


def driver(connection: Connection) -> DriverConnection[Any]:
    """Return the psycopg connection beneath, for COPY."""
    raw = connection.connection.driver_connection
    if raw is None:
        raise RuntimeError("the connection was taken back by its pool")
    found: DriverConnection[Any] = raw
    return found


MISSING: Final = text("""
SELECT DISTINCT ON (s.content_hash) s.content_hash, s.symbol, s.content FROM penstock.staged_chunks s
WHERE s.batch_id = :batch AND NOT EXISTS (
    SELECT FROM penstock.embeddings e WHERE e.model_id = :model AND e.content_hash = s.content_hash)
ORDER BY s.content_hash
""")


def missing(connection: Connection, batch_id: int, model_id: int | None) -> dict[bytes, Passage]:
    """Return the staged passages of a batch that have no vector under this model yet, by content hash."""
    rows = connection.execute(MISSING, {"batch": batch_id, "model": model_id})
    return {bytes(row.content_hash): Passage(row.symbol, row.content) for row in rows}


STAGED: Final = text("SELECT count(*) FROM penstock.staged_chunks WHERE batch_id = :batch")


def count_staged(connection: Connection, batch_id: int) -> int:
    """Return how many chunks of a batch are staged."""
    return int(connection.execute(STAGED, {"batch": batch_id}).scalar_one())


STORE: Final = """
INSERT INTO penstock.embeddings (model_id, content_hash, embedding)
SELECT %s, * FROM unnest(%b::bytea[], %b::halfvec[]) ON CONFLICT DO NOTHING
"""


def store(connection: Connection, model_id: int, vectors: Mapping[bytes, NDArray[np.float32]]) -> int:
    """Add vectors, each of shape (dimension,), in the order of their hashes, so that two writers never deadlock.

    Returns how many were not there yet.
    """
    hashes = sorted(vectors)
    with driver(connection).cursor() as cursor:
        cursor.execute(STORE, (model_id, hashes, [HalfVector(vectors[key]) for key in hashes]))
        return cursor.rowcount


FAILED_FILES: Final = text("""
DELETE FROM penstock.staged_chunks WHERE batch_id = :batch AND file_index IN (
    SELECT file_index FROM penstock.staged_chunks WHERE batch_id = :batch AND content_hash = ANY(:hashes))
RETURNING file_index, content_hash
""").bindparams(bindparam("hashes", type_=ARRAY(LargeBinary)))


def drop_files(connection: Connection, batch_id: int, reasons: Mapping[bytes, str]) -> tuple[dict[int, str], int]:
    """Unstage the files that hold a passage which cannot be embedded.

    Returns the reason for each such file, by its position in the batch, and how many chunks were dropped.
    """
    rows: Sequence[Any] = connection.execute(FAILED_FILES, {"batch": batch_id, "hashes": list(reasons)}).all()
    failed = {row.file_index: reasons[bytes(row.content_hash)] for row in rows if bytes(row.content_hash) in reasons}
    return failed, len(rows)
