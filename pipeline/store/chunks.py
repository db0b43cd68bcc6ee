"""The chunks table: the two rankings of a search and their merge, in one statement."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class ChunkFilter:
    """Which chunks a search may return; an empty tuple or None means any.

    `path_pattern` is a POSIX regular expression over the path in the repository.
    """

    repository_ids: tuple[int, ...]
    languages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    path_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """What to rank by: the query's vector (dimension,) in a model's space, and a tsquery; each may be missing.

    `depth` is how many of each ranking are merged.
    """

    model_id: int | None
    vector: NDArray[np.float32] | None
    tsquery: str
    depth: int


# Reciprocal rank fusion: a chunk's score is the sum of 1 / (60 + its rank) over the rankings that found it.
SEARCH: Final = """
WITH wanted AS NOT MATERIALIZED (
    SELECT c.id, c.embedding, c.lexemes, c.model_id FROM penstock.chunks c
    WHERE c.repository_id = ANY(:repositories)
        AND (CAST(:languages AS text[]) = '{}' OR c.language = ANY(:languages))
        AND (CAST(:kinds AS text[]) = '{}' OR c.kind = ANY(:kinds))
        AND (CAST(:pattern AS text) IS NULL OR EXISTS (
            SELECT FROM penstock.files f WHERE f.id = c.file_id AND f.path ~ :pattern))
), near AS (
    SELECT id, row_number() OVER (ORDER BY distance, id) AS rank FROM (
        SELECT id, embedding <=> CAST(:vector AS halfvec) AS distance FROM wanted
        WHERE model_id = :model ORDER BY distance, id LIMIT :depth) AS n
), matching AS (
    SELECT id, row_number() OVER (ORDER BY weight DESC, id) AS rank FROM (
        SELECT id, ts_rank(lexemes, CAST(:tsquery AS tsquery), 1) AS weight FROM wanted
        WHERE lexemes @@ CAST(:tsquery AS tsquery) ORDER BY weight DESC, id LIMIT :depth) AS m
), merged AS (
    SELECT id, sum(1.0 / (60 + rank)) AS score
    FROM (SELECT * FROM near UNION ALL SELECT * FROM matching) AS found
    GROUP BY id ORDER BY score DESC, id LIMIT :limit OFFSET :offset
)
SELECT c.id, f.path, c.start_line, c.end_line, c.symbol, c.kind, c.language, c.content, m.score,
    r.root_path, r.project_id, r.revision
FROM merged m
JOIN penstock.chunks c USING (id)
JOIN penstock.files f ON f.id = c.file_id
JOIN penstock.repositories r ON r.id = c.repository_id
ORDER BY m.score DESC, m.id
"""
STATEMENT: Final = text(SEARCH).bindparams(
    bindparam("repositories", type_=ARRAY(BigInteger)),
    bindparam("languages", type_=ARRAY(Text)),
    bindparam("kinds", type_=ARRAY(Text)),
)


def search(
    connection: Connection, ranking: Ranking, wanted: ChunkFilter, limit: int, offset: int
) -> Sequence[Row[Any]]:
    """Return the best chunks by both rankings, best first."""
    return connection.execute(STATEMENT, parameters(ranking, wanted, limit, offset)).all()


def parameters(ranking: Ranking, wanted: ChunkFilter, limit: int, offset: int) -> dict[str, object]:
    """Return the values of the search statement."""
    vector = None if ranking.vector is None else HalfVector(ranking.vector).to_text()
    return {
        "repositories": list(wanted.repository_ids),
        "languages": list(wanted.languages),
        "kinds": list(wanted.kinds),
        "pattern": wanted.path_pattern,
        "vector": vector,
        "model": ranking.model_id,
        "tsquery": ranking.tsquery,
        "depth": ranking.depth,
        "limit": limit,
        "offset": offset,
    }


TO_QUERY: Final = text("SELECT CAST(to_tsquery('english', :words) AS text)")


def tsquery(connection: Connection, words: Sequence[str]) -> str:
    """Return the tsquery that any of the words satisfies, as text; "" when all are stop words."""
    quoted = " | ".join("'" + word.replace("\\", "\\\\").replace("'", "''") + "'" for word in words)
    return str(connection.execute(TO_QUERY, {"words": quoted}).scalar_one()) if quoted else ""


SCOPE: Final = text("""
SELECT r.id, r.project_id, r.root_path, r.index_state, m.id AS model_id, m.embedder, m.model,
    (SELECT count(*) FROM penstock.files f WHERE f.repository_id = r.id AND f.skip_reason IS NULL) AS searchable,
    j.files_listed - j.files_skipped - j.files_failed AS listed, j.status
FROM penstock.repositories r
LEFT JOIN LATERAL (
    SELECT * FROM penstock.indexing_jobs j WHERE j.repository_id = r.id ORDER BY j.created_at DESC LIMIT 1) AS j ON true
LEFT JOIN penstock.models m ON m.id = r.model_id OR m.id = (
    SELECT max(n.id) FROM penstock.models n WHERE n.embedder = j.embedder AND n.model = j.model)
WHERE (CAST(:project AS text) IS NULL OR r.project_id = :project)
    AND (CAST(:root AS text) IS NULL OR r.root_path = :root)
ORDER BY r.id, m.id
""")


def scope(connection: Connection, project_id: str | None, root_path: str | None) -> Sequence[Row[Any]]:
    """Return the repositories that a search covers, with their state; one row for each model they have vectors of."""
    return connection.execute(SCOPE, {"project": project_id, "root": root_path}).all()
