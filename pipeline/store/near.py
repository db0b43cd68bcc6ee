"""The near half of a search: the chunks whose vectors are nearest to a query's, by index where there is one."""

from __future__ import annotations

from heapq import nsmallest
from math import ceil, isqrt
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgvector import HalfVector
from sqlalchemy import Row, bindparam, text

from pipeline.store import vectors
from pipeline.store.narrowing import BY_KIND, BY_PATH_OF_CHUNK, TYPES, conditions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from pipeline.store.narrowing import ChunkFilter

READ: Final = 50_000
"""Up to so many chunks that a filter leaves, reading them all is about as quick as an index, and misses none."""
VISITED: Final = 2
"""An index is to yield so many times the square root of the chunks: of more it takes more to find the same share."""
MOST_AT_ONCE: Final = 1_000
"""The largest hnsw.ef_search that pgvector takes; for more, the scan goes on where it was."""
MOST_SCANNED: Final = 20_000
"""After so many chunks without enough that fit a filter, they are all read."""

EXACT: Final = """
SELECT c.id, c.embedding <=> CAST(:vector AS halfvec) AS distance FROM penstock.chunks c
WHERE c.repository_id = ANY(:repositories) AND c.model_id = :model {filters}
ORDER BY distance, c.id LIMIT :depth
"""
# The planner proves from numbers in the text that a partial index holds what is wanted, never from parameters; and of a
# limit that it does not know it expects too many rows for an index. A path is looked up for each chunk that the index
# yields: a join would have all chunks of the repository read. A scan that goes on yields no strict order, which the
# planner must not believe: hence the + 0.
BY_INDEX: Final = """
WITH visited AS MATERIALIZED (
    SELECT c.id, CAST(c.embedding AS halfvec({dimension})) <=> CAST(:vector AS halfvec({dimension})) AS distance
    FROM penstock.chunks c WHERE c.repository_id = {repository} AND c.model_id = {model} {filters}
    ORDER BY distance LIMIT {fetched})
SELECT id, distance FROM visited ORDER BY distance + 0, id LIMIT :depth
"""
SET_SCAN: Final = text("""
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', :at_once, true),
    set_config('hnsw.max_scan_tuples', :scanned, true)
""")
OF_FILES: Final = """
SELECT f.repository_id, sum(f.chunk_count) AS chunks,
    CASE WHEN sum(f.chunk_count) <= :read THEN array_agg(f.id) END AS files
FROM penstock.files f
WHERE f.repository_id = ANY(:repositories) AND f.chunk_count > 0 {filters} GROUP BY f.repository_id
"""
OF_LANGUAGE: Final = "AND f.language = ANY(:languages)"
OF_PATH: Final = "AND f.path ~ :pattern"
OF_KIND: Final = """
SELECT r.id AS repository_id, (SELECT count(*) FROM (
    SELECT FROM penstock.chunks c WHERE c.repository_id = r.id AND c.kind = ANY(:kinds) LIMIT :read + 1) AS k) AS chunks
FROM unnest(:repositories) AS r (id)
"""


class Ways(NamedTuple):
    """How to read the repositories of a search: single files, as a whole, or by index where there is one.

    `large` holds how many chunks the filter leaves; None where that was not counted.
    """

    files: Sequence[int]
    plain: Sequence[int]
    large: Mapping[int, int | None]


def near(
    connection: Connection,
    model_id: int,
    vector: NDArray[np.float32],
    wanted: ChunkFilter,
    depth: int,
    *,
    exact: bool = False,
) -> Sequence[Row[Any]]:
    """Return the id and the cosine distance of the `depth` chunks of a model that are nearest, nearest first.

    `vector` has the shape (dimension,). Chunks of equal distance come in the order of their ids. What an index yields
    misses one in a hundred; what has none, what a filter leaves few of, and with `exact` all is read as a whole.
    The settings of an index scan are those of the caller's transaction.
    """
    filters, values = conditions(wanted)
    values |= {"model": model_id, "vector": HalfVector(vector).to_text(), "depth": depth}
    ways = _ways(connection, wanted, values)
    indexed = {} if exact else vectors.indexed(connection, list(ways.large), model_id)
    plain = {*ways.plain, *ways.large} - indexed.keys()
    found: list[Row[Any]] = []
    for repository, chunks in indexed.items():
        numbers = {"repository": repository, "model": model_id, "dimension": len(vector)}
        rows = _by_index(connection, numbers, ways.large[repository] or chunks, chunks, wanted, values)
        found += rows
        if len(rows) < depth:
            plain.add(repository)
    if ways.files:
        of_files = f"AND c.file_id = ANY(:files) {BY_KIND if wanted.kinds else ''}"
        found += _execute(connection, EXACT.format(filters=of_files), {**values, "files": ways.files})
    if plain:
        found += _execute(connection, EXACT.format(filters=filters), {**values, "repositories": sorted(plain)})
    return nsmallest(depth, {row.id: row for row in found}.values(), key=lambda row: (row.distance, row.id))


def _ways(connection: Connection, wanted: ChunkFilter, values: Mapping[str, object]) -> Ways:
    """Choose by how many chunks the filter leaves of each repository: files know their language and their chunks."""
    left: dict[int, int | None] = dict.fromkeys(wanted.repository_ids)
    files: list[int] = []
    plain: list[int] = []
    if wanted.languages or wanted.path_pattern:
        asked = {OF_LANGUAGE: wanted.languages, OF_PATH: wanted.path_pattern}
        clauses = " ".join(clause for clause, value in asked.items() if value)
        rows = _execute(connection, OF_FILES.format(filters=clauses), {**values, "read": READ})
        files = [file for row in rows for file in row.files or ()]
        left = {row.repository_id: row.chunks for row in rows if row.files is None}
    if wanted.kinds and left:
        of_kind = _execute(connection, OF_KIND, {**values, "repositories": list(left), "read": READ})
        plain = [row.repository_id for row in of_kind if row.chunks <= READ]
    return Ways(files, plain, {repository: chunks for repository, chunks in left.items() if repository not in plain})


def _by_index(
    connection: Connection,
    index: Mapping[str, int],
    left: int,
    chunks: int,
    wanted: ChunkFilter,
    values: Mapping[str, Any],
) -> Sequence[Row[Any]]:
    """Return the nearest of the chunks that a filter leaves, by the index of all chunks of their repository."""
    filters, _ = conditions(wanted, BY_PATH_OF_CHUNK)
    visited = max(values["depth"], VISITED * isqrt(left))
    looked_at = max(visited, visited * chunks // max(left, 1))
    at_once = ceil(looked_at / ceil(looked_at / MOST_AT_ONCE))  # what is looked at beyond the visited costs as much
    connection.execute(SET_SCAN, {"at_once": str(at_once), "scanned": str(max(MOST_SCANNED, 2 * visited))})
    # One look yields the nearest first: what comes after the depth need not be fetched from the table.
    fetched = values["depth"] if at_once == visited and not filters else visited
    return _execute(connection, BY_INDEX.format(**index, fetched=fetched, filters=filters), values)


def _execute(connection: Connection, statement: str, values: Mapping[str, object]) -> Sequence[Row[Any]]:
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    typed = [bindparam(name, type_=kind) for name, kind in TYPES.items() if name in used]
    return connection.execute(text(statement).bindparams(*typed), used).all()
