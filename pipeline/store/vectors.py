"""The vector indexes: one of each large repository and model, built after the load, dropped when it no longer pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

NEIGHBOURS: Final = 16
CANDIDATES: Final = 100
"""How many neighbours a chunk is linked to, and how many are looked at for that: measured, see the documentation."""
LARGEST_DIMENSION: Final = 4_000
"""pgvector indexes no longer vectors of half precision."""
CHUNK_BYTES: Final = 1_250
"""What a build holds in memory of a chunk beside four bytes a dimension would be for 256 of them."""
MOST_MEMORY: Final = 384 * 1024**2
"""A build that needs more takes what the server's own maintenance_work_mem allows (R70)."""
TUNING_LOCK: Final = 0x70656E02
"""One tuning at a time: PostgreSQL builds one index of a table at once without locking its writers out."""


@dataclass(frozen=True, slots=True)
class TuningRules:
    """When tuning pays: the least chunks of an index; shares of a repository that are rewritten, or have changed."""

    least_chunks: int = 20_000
    rewritten: float = 0.2
    changed: float = 0.1


@dataclass(frozen=True, slots=True)
class Due:
    """What a repository's index wants: `drop` or `build` a vector index, or `refresh` its statistics."""

    step: str
    repository_id: int
    model_id: int
    dimension: int
    chunks: int
    changes: int


def name_of(repository_id: int, model_id: int) -> str:
    """Return the name of a vector index."""
    return f"ix_chunks_vectors_{repository_id}_{model_id}"


PRESENT: Final = r"""
present AS (
    SELECT CAST(ids[1] AS bigint) AS repository_id, CAST(ids[2] AS smallint) AS model_id, indisvalid AS valid
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    CROSS JOIN LATERAL regexp_match(relname, '^ix_chunks_vectors_(\d+)_(\d+)$') AS ids
    WHERE indrelid = to_regclass('penstock.chunks') AND ids IS NOT NULL)"""
# An index slows a job that rewrites much of its repository down. How much that will be is known when a twentieth of its
# files are chunked: many that are due have only a new date.
DUE: Final = text(f"""
WITH {PRESENT}, loading AS (
    SELECT repository_id, CASE WHEN status = 'running' AND files_chunked > 0 AND files_chunked * 20 >= files_due
        THEN chunks_created * (CAST(files_due AS double precision) / files_chunked) - chunks_written END AS coming
    FROM penstock.indexing_jobs WHERE status IN ('pending', 'running')
), resting AS (
    SELECT * FROM penstock.repositories WHERE id NOT IN (SELECT repository_id FROM loading))
SELECT 'drop' AS step, p.repository_id, p.model_id, 0 AS dimension, coalesce(r.chunks, 0) AS chunks, 0 AS changes
FROM present p
LEFT JOIN penstock.repositories r ON r.id = p.repository_id
LEFT JOIN loading l ON l.repository_id = p.repository_id
WHERE NOT p.valid OR r.id IS NULL OR r.model_id IS DISTINCT FROM p.model_id OR r.chunks < :least_chunks / 2
    OR l.coming > r.chunks * :rewritten
UNION ALL
SELECT 'refresh', id, coalesce(model_id, 0), 0, chunks, changes FROM resting
WHERE changes - tuned_changes > chunks * :changed
UNION ALL
SELECT 'build', r.id, r.model_id, m.dimension, r.chunks, r.changes
FROM resting r JOIN penstock.models m ON m.id = r.model_id
WHERE r.chunks >= :least_chunks AND m.dimension <= {LARGEST_DIMENSION}
    AND (r.id, r.model_id) NOT IN (SELECT repository_id, model_id FROM present)
""")  # noqa: S608 - constants only


def due(connection: Connection, rules: TuningRules) -> Sequence[Due]:
    """Return what is to be done: indexes to drop, statistics to refresh, then indexes to build."""
    values = {"least_chunks": rules.least_chunks, "rewritten": rules.rewritten, "changed": rules.changed}
    return [Due(*row) for row in connection.execute(DUE, values)]


# By name, so that a search pays for the repositories that it covers, however many indexes there are.
INDEXED: Final = text("""
SELECT r.id, r.chunks FROM penstock.repositories r
JOIN pg_index i ON i.indexrelid = to_regclass('penstock.ix_chunks_vectors_' || r.id || '_' || CAST(:model AS integer))
WHERE r.id = ANY(:repositories) AND i.indisvalid ORDER BY r.id
""").bindparams(bindparam("repositories", type_=ARRAY(BigInteger)))


def indexed(connection: Connection, repository_ids: Sequence[int], model_id: int) -> dict[int, int]:
    """Return which of the repositories have a vector index for a model, and how many chunks they have."""
    rows = connection.execute(INDEXED, {"repositories": list(repository_ids), "model": model_id})
    return {row.id: row.chunks for row in rows}


OF_REPOSITORY: Final = text(f"WITH {PRESENT} SELECT model_id FROM present WHERE repository_id = :repository")  # noqa: S608


def models_of(connection: Connection, repository_id: int) -> Sequence[int]:
    """Return the models that a repository has vector indexes for, finished or not."""
    return connection.execute(OF_REPOSITORY, {"repository": repository_id}).scalars().all()


TRY_LOCK: Final = text(f"SELECT pg_try_advisory_lock({TUNING_LOCK})")
UNLOCK: Final = text(f"SELECT pg_advisory_unlock({TUNING_LOCK})")
UNDER_WAY: Final = text(f"""
SELECT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = {TUNING_LOCK} AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
""")  # noqa: S608 - constants only


def lock(connection: Connection) -> bool:
    """Take the right to tune for this session; False when another has it, even one whose client has died."""
    return bool(connection.execute(TRY_LOCK).scalar_one())


def unlock(connection: Connection) -> None:
    """Give the right to tune back."""
    connection.execute(UNLOCK)


def under_way(connection: Connection) -> bool:
    """Return whether somebody tunes at this moment."""
    return bool(connection.execute(UNDER_WAY).scalar_one())


PREPARE: Final = text("""
SELECT set_config('statement_timeout', '0', false), set_config('maintenance_work_mem', greatest(
    (SELECT CAST(setting AS bigint) FROM pg_settings WHERE name = 'maintenance_work_mem'),
    CAST(:bytes AS bigint) / 1024) || 'kB', false)
""")


def build(connection: Connection, wanted: Due) -> None:
    """Build a vector index while chunks are read and written; the connection must be in autocommit mode.

    One that is interrupted leaves an invalid index, which `due` reports.
    """
    bytes_each = CHUNK_BYTES + 2 * max(wanted.dimension - 256, 0)
    connection.execute(PREPARE, {"bytes": min(wanted.chunks * bytes_each, MOST_MEMORY)})
    connection.exec_driver_sql(f"""
        CREATE INDEX CONCURRENTLY {name_of(wanted.repository_id, wanted.model_id)} ON penstock.chunks
        USING hnsw ((CAST(embedding AS halfvec({wanted.dimension}))) halfvec_cosine_ops)
        WITH (m = {NEIGHBOURS}, ef_construction = {CANDIDATES})
        WHERE repository_id = {wanted.repository_id} AND model_id = {wanted.model_id}
    """)


def drop(connection: Connection, repository_id: int, model_id: int, *, patience: str = "0") -> None:
    """Drop a vector index once nobody uses it; the connection must be in autocommit mode.

    Raises OperationalError after `patience`, a PostgreSQL interval (0: never); the index is invalid then.
    """
    connection.exec_driver_sql(f"SET lock_timeout = '{patience}'")
    try:
        connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS penstock.{name_of(repository_id, model_id)}")
    finally:
        connection.exec_driver_sql("RESET lock_timeout")


TUNED: Final = text("UPDATE penstock.repositories SET tuned_changes = :changes WHERE id = :repository")


def note_tuned(connection: Connection, repository_id: int, changes: int) -> None:
    """Note that the statistics of a repository hold all changes so far."""
    connection.execute(TUNED, {"repository": repository_id, "changes": changes})
