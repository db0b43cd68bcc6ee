"""The lexicon table: how common the lexemes of a repository are, counted after a load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

RARE: Final = 5
"""A lexeme of fewer chunks is not counted: such words are all equally telling, and most of the vocabulary."""

CLEAR: Final = text("DELETE FROM penstock.lexicon WHERE repository_id = :repository")
COUNT: Final = text("""
INSERT INTO penstock.lexicon (repository_id, lexeme, chunks)
SELECT :repository, word, ndoc
FROM ts_stat('SELECT lexemes FROM penstock.chunks WHERE repository_id = ' || CAST(:repository AS bigint))
WHERE ndoc >= :rare AND word NOT LIKE '=%'
""")
NOTE: Final = text("UPDATE penstock.repositories SET counted_chunks = chunks WHERE id = :repository")


def refresh(connection: Connection, repository_id: int) -> None:
    """Count a repository's lexemes anew: about a second for 100,000 chunks."""
    values = {"repository": repository_id, "rare": RARE}
    for statement in (CLEAR, COUNT, NOTE):
        connection.execute(statement, values)


LOOK_UP: Final = text("""
SELECT t.lexeme, t.positions, coalesce((
    SELECT sum(l.chunks) FROM penstock.lexicon l
    WHERE l.repository_id = ANY(:repositories) AND l.lexeme = t.lexeme), 0) AS chunks
FROM unnest(to_tsvector('english', :words)) AS t
""").bindparams(bindparam("repositories", type_=ARRAY(BigInteger)))


def look_up(
    connection: Connection, repository_ids: Sequence[int], words: Sequence[str]
) -> list[tuple[str, list[int], int]]:
    """Return the lexemes of the words, without stop words: their positions, and in how many chunks each is, or 0."""
    rows = connection.execute(LOOK_UP, {"repositories": list(repository_ids), "words": " ".join(words)})
    return [(row.lexeme, row.positions, int(row.chunks)) for row in rows]
