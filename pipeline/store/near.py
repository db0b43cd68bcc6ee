"""The near half of a search: the chunks whose vectors are nearest to a query's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgvector import HalfVector
from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from pipeline.store.chunks import ChunkFilter

EXACT: Final = """
SELECT c.id, c.embedding <=> CAST(:vector AS halfvec) AS distance FROM penstock.chunks c
WHERE c.repository_id = ANY(:repositories) AND c.model_id = :model {filters}
ORDER BY distance, c.id LIMIT :depth
"""
BY_LANGUAGE: Final = "AND c.language = ANY(:languages)"
BY_KIND: Final = "AND c.kind = ANY(:kinds)"
BY_PATH: Final = """AND c.file_id IN (
    SELECT f.id FROM penstock.files f WHERE f.repository_id = ANY(:repositories) AND f.path ~ :pattern)"""
TYPES: Final[dict[str, ARRAY[Any]]] = {
    "repositories": ARRAY(BigInteger),
    "languages": ARRAY(Text),
    "kinds": ARRAY(Text),
}


def near(
    connection: Connection, model_id: int, vector: NDArray[np.float32], wanted: ChunkFilter, depth: int
) -> Sequence[Row[Any]]:
    """Return the id and the cosine distance of the `depth` chunks of a model that are nearest, nearest first.

    `vector` has the shape (dimension,). Chunks of equal distance come in the order of their ids.
    """
    filters, values = conditions(wanted)
    values |= {"model": model_id, "vector": HalfVector(vector).to_text(), "depth": depth}
    typed = [bindparam(name, type_=kind) for name, kind in TYPES.items() if name in values]
    return connection.execute(text(EXACT.format(filters=filters)).bindparams(*typed), values).all()


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


def conditions(wanted: ChunkFilter) -> tuple[str, dict[str, object]]:
    """Return the conditions that a filter stands for, and their values; only what is asked for costs anything."""
    chosen = {
        "languages": (BY_LANGUAGE, list(wanted.languages)),
        "kinds": (BY_KIND, list(wanted.kinds)),
        "pattern": (BY_PATH, wanted.path_pattern),
    }
    asked = {name: both for name, both in chosen.items() if both[1]}
    values: dict[str, object] = {name: value for name, (_, value) in asked.items()}
    return " ".join(clause for clause, _ in asked.values()), values | {"repositories": list(wanted.repository_ids)}
