"""The chunks table as a search reads it: what words and paths find, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgvector import HalfVector
from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from pipeline.querying import quoted
from pipeline.ranking import Candidate
from pipeline.store.narrowing import BY_PATH_OF_CHUNK, TYPES, conditions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection, TextClause

    from pipeline.querying import Term
    from pipeline.store.narrowing import ChunkFilter


@dataclass(frozen=True, slots=True)
class Wording:
    """What the text of a query looks for.

    `terms` are weighed, `matching` is the tsquery of the chunks that are worth it, `keys` those of definitions (the
    most telling first), `paths` the ends of file paths. `depth` is how many chunks words and paths may find each.
    """

    terms: Sequence[Term]
    matching: str
    keys: Sequence[str]
    paths: Sequence[str]
    depth: int


WEIGHED: Final = 4
"""How many terms, the rarest, decide which chunks become candidates; all of them decide how these are ranked."""
# The columns are a Candidate's fields, in their order. Of a chunk's words only the query's are unnested: most of what a
# candidate costs is what is unnested.
# ts_rank takes the weights of code, comments, what a chunk lies in, and its names; 1 damps long chunks.
WORTH: Final = """:weight_{at} * ts_rank('{{0.2, 0.3, 0.4, 1.0}}', c.lexemes, CAST(:term_{at} AS tsquery), 1)"""
FIND: Final = """
WITH matching AS (
    SELECT c.id, {worth} AS worth FROM penstock.chunks c
    WHERE c.repository_id = ANY(:repositories) AND c.lexemes @@ CAST(:matching AS tsquery) {filters}
    ORDER BY worth DESC, c.id LIMIT :depth
), placed AS (
    SELECT c.id FROM penstock.chunks c JOIN penstock.files f ON f.id = c.file_id
    WHERE CAST(:paths AS text[]) <> '{{}}'
        AND f.repository_id = ANY(:repositories) AND f.path LIKE ANY(:paths) {filters}
    ORDER BY length(f.path), f.path, c.ordinal LIMIT :depth
)
SELECT c.id, c.file_id, c.ordinal, c.start_line, c.symbol, c.kind, c.language, f.path,
    c.content_hash, length(c.content) AS length, (
        SELECT json_object_agg(u.lexeme, json_build_array(array_to_string(u.weights, ''), u.positions))
        FROM unnest(ts_delete(c.lexemes, tsvector_to_array(
            ts_delete(strip(c.lexemes), CAST(:lexemes AS text[]))))) AS u) AS found,
    CAST(c.lexemes @@ CAST(:key AS tsquery) AS integer) + CAST(c.lexemes @@ CAST(:keys AS tsquery) AS integer)
        AS defines,
    f.path LIKE ANY(:paths) AS placed, 1 - (c.embedding <=> v.vector) AS similarity
FROM penstock.chunks c JOIN penstock.files f ON f.id = c.file_id
LEFT JOIN unnest(CAST(:models AS bigint[]), CAST(CAST(:vectors AS text[]) AS halfvec[])) AS v (model_id, vector)
    ON v.model_id = c.model_id
WHERE c.id IN (SELECT id FROM matching UNION SELECT id FROM placed UNION SELECT unnest(CAST(:near AS bigint[])))
"""


def find(
    connection: Connection,
    wording: Wording,
    wanted: ChunkFilter,
    near: Sequence[int],
    vectors: Mapping[int, NDArray[np.float32]],
) -> list[Candidate]:
    """Return the chunks that words or paths find and those of `near`, in no order.

    `vectors` holds the query's vector by model.
    """
    return list(map(Candidate._make, connection.execute(*finding(wording, wanted, near, vectors)).all()))


def finding(
    wording: Wording, wanted: ChunkFilter, near: Sequence[int], vectors: Mapping[int, NDArray[np.float32]]
) -> tuple[TextClause, dict[str, object]]:
    """Return the statement that finds candidates, and its values."""
    # A plan that is kept knows no pattern, and expects so few files that it would begin with these: ten times as slow.
    filters, values = conditions(wanted, BY_PATH_OF_CHUNK)
    telling = wording.terms[:WEIGHED]
    worth = " + ".join(WORTH.format(at=at) for at in range(len(telling))) or "0.0"
    for at, term in enumerate(telling):
        values |= {f"weight_{at}": term.weight, f"term_{at}": quoted(term.lexeme)}
    values |= {
        "matching": wording.matching,
        "key": quoted(wording.keys[0]) if wording.keys else "",
        "keys": " | ".join(map(quoted, wording.keys)),
        "paths": [pattern for path in wording.paths for pattern in _endings(path)],
        "lexemes": [term.lexeme for term in wording.terms],
        "near": list(near),
        "models": list(vectors),
        "vectors": [HalfVector(vector).to_text() for vector in vectors.values()],
        "depth": wording.depth,
    }
    types = {
        **TYPES,
        **dict.fromkeys(("paths", "lexemes"), ARRAY(Text)),
        **dict.fromkeys(("near", "models"), ARRAY(BigInteger)),
    }
    typed = [bindparam(name, type_=kind) for name, kind in types.items() if name in values]
    return text(FIND.format(worth=worth, filters=filters)).bindparams(*typed), values


def _endings(path: str) -> tuple[str, str]:
    plain = path.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return plain, f"%/{plain}"


SCOPE: Final = text("""
SELECT r.id, r.project_id, r.root_path, r.index_state, r.counted_chunks, m.id AS model_id, m.embedder, m.model,
    r.files AS searchable,
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
