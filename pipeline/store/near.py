"""The near half of a search: the chunks whose vectors are nearest to a query's, by index where there is one."""

from __future__ import annotations

from heapq import nsmallest
from math import isqrt
from typing import TYPE_CHECKING, Any, Final

from pgvector import HalfVector
from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from pipeline.store import vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from pipeline.store.chunks import ChunkFilter

FEW: Final = 10_000
"""So many chunks of files that a filter names are read one by one; of more, the nearest are looked up."""
VISITED: Final = 2
"""An index visits so many times the square root of its chunks: more chunks need more for the same recall."""
MOST_VISITED: Final = 1_000
"""The largest hnsw.ef_search that pgvector takes."""
MOST_SCANNED: Final = 10_000
"""After so many chunks without `depth` that fit a filter, reading them all is quicker than looking on."""

BY_LANGUAGE: Final = "AND c.language = ANY(:languages)"
BY_KIND: Final = "AND c.kind = ANY(:kinds)"
BY_PATH: Final = """AND c.file_id IN (
    SELECT f.id FROM penstock.files f WHERE f.repository_id = ANY(:repositories) AND f.path ~ :pattern)"""
TYPES: Final[dict[str, ARRAY[Any]]] = {
    "repositories": ARRAY(BigInteger),
    "files": ARRAY(BigInteger),
    "languages": ARRAY(Text),
    "kinds": ARRAY(Text),
}
EXACT: Final = """
SELECT c.id, c.embedding <=> CAST(:vector AS halfvec) AS distance FROM penstock.chunks c
WHERE c.repository_id = ANY(:repositories) AND c.model_id = :model {filters}
ORDER BY distance, c.id LIMIT :depth
"""
# The planner proves from numbers in the text that a partial index holds what is wanted, never from parameters. A path
# is looked up for each chunk that the index yields: a join would have all chunks of the repository read.
BY_INDEX: Final = """
SELECT c.id, CAST(c.embedding AS halfvec({dimension})) <=> CAST(:vector AS halfvec({dimension})) AS distance
FROM penstock.chunks c WHERE c.repository_id = {repository} AND c.model_id = {model} {filters}
ORDER BY distance LIMIT :depth
"""
BY_PATH_OF_CHUNK: Final = "AND (SELECT f.path FROM penstock.files f WHERE f.id = c.file_id) ~ :pattern"
SET_SCAN: Final = text("""
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', :visited, true),
    set_config('hnsw.max_scan_tuples', :scanned, true)
""")
FILES: Final = """
SELECT f.repository_id, CASE WHEN sum(f.chunk_count) <= :few THEN array_agg(f.id) END AS few FROM penstock.files f
WHERE f.repository_id = ANY(:repositories) AND f.chunk_count > 0 {filters} GROUP BY f.repository_id
"""
OF_LANGUAGE: Final = "AND f.language = ANY(:languages)"
OF_PATH: Final = "AND f.path ~ :pattern"


def near(
    connection: Connection, model_id: int, vector: NDArray[np.float32], wanted: ChunkFilter, depth: int
) -> Sequence[Row[Any]]:
    """Return the id and the cosine distance of the `depth` chunks of a model that are nearest, nearest first.

    `vector` has the shape (dimension,). Chunks of equal distance come in the order of their ids. What an index yields
    misses one in a hundred; repositories without one, and the few chunks that a filter leaves, are read as a whole.
    The settings of an index scan are those of the caller's transaction.
    """
    filters, values = conditions(wanted)
    values |= {"model": model_id, "vector": HalfVector(vector).to_text(), "depth": depth}
    found: list[Row[Any]] = []
    repositories: Sequence[int] = wanted.repository_ids
    if wanted.languages or wanted.path_pattern:
        repositories, few = _named_files(connection, wanted, values)
        if few:
            of_kind = f"AND c.file_id = ANY(:files) {BY_KIND if wanted.kinds else ''}"
            found += _execute(connection, EXACT.format(filters=of_kind), {**values, "files": few})
    indexed = vectors.indexed(connection, repositories, model_id)
    by_index, _ = conditions(wanted, BY_PATH_OF_CHUNK)
    plain = [repository for repository in repositories if repository not in indexed]
    for repository, chunks in indexed.items():
        numbers = {"repository": repository, "model": model_id, "dimension": len(vector)}
        _set_scan(connection, chunks, depth)
        rows = _execute(connection, BY_INDEX.format(**numbers, filters=by_index), values)
        if len(rows) == depth:
            found += rows
        else:
            plain.append(repository)
    if plain:
        found += _execute(connection, EXACT.format(filters=filters), {**values, "repositories": plain})
    return nsmallest(depth, found, key=lambda row: (row.distance, row.id))


def _named_files(
    connection: Connection, wanted: ChunkFilter, values: Mapping[str, object]
) -> tuple[list[int], list[int]]:
    """Return the repositories of which a filter names files with many chunks, and the files of the others."""
    asked = {OF_LANGUAGE: wanted.languages, OF_PATH: wanted.path_pattern}
    filters = " ".join(clause for clause, value in asked.items() if value)
    named = _execute(connection, FILES.format(filters=filters), {**values, "few": FEW})
    return [row.repository_id for row in named if row.few is None], [id_ for row in named for id_ in row.few or ()]


def _set_scan(connection: Connection, chunks: int, depth: int) -> None:
    visited = min(max(depth, VISITED * isqrt(chunks)), MOST_VISITED)
    connection.execute(SET_SCAN, {"visited": str(visited), "scanned": str(max(MOST_SCANNED, 2 * depth))})


DISTANCES: Final = text("""
SELECT c.id, c.embedding <=> CAST(:vector AS halfvec) AS distance FROM penstock.chunks c
WHERE c.id = ANY(:ids) AND c.model_id = :model
""").bindparams(bindparam("ids", type_=ARRAY(BigInteger)))


def similarities(
    connection: Connection, model_id: int, vector: NDArray[np.float32], ids: Sequence[int]
) -> dict[int, float]:
    """Return the cosine of a query's vector and that of each of these chunks, of those that the model has."""
    values = {"ids": list(ids), "model": model_id, "vector": HalfVector(vector).to_text()}
    return {row.id: 1 - row.distance for row in connection.execute(DISTANCES, values)}


def conditions(wanted: ChunkFilter, by_path: str = BY_PATH) -> tuple[str, dict[str, object]]:
    """Return the conditions that a filter stands for, and their values; only what is asked for costs anything."""
    chosen = {
        "languages": (BY_LANGUAGE, list(wanted.languages)),
        "kinds": (BY_KIND, list(wanted.kinds)),
        "pattern": (by_path, wanted.path_pattern),
    }
    asked = {name: both for name, both in chosen.items() if both[1]}
    values: dict[str, object] = {name: value for name, (_, value) in asked.items()}
    return " ".join(clause for clause, _ in asked.values()), values | {"repositories": list(wanted.repository_ids)}


def _execute(connection: Connection, statement: str, values: Mapping[str, object]) -> Sequence[Row[Any]]:
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    typed = [bindparam(name, type_=kind) for name, kind in TYPES.items() if name in used]
    return connection.execute(text(statement).bindparams(*typed), used).all()
