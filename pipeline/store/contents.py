"""What a search reads of chunks that it has ranked: their texts, the chunks of a page, and what opens around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row

CHUNKS: Final = text("""
SELECT s.span, c.file_id, c.ordinal, c.start_line, c.end_line, c.symbol, c.content,
    f.path, r.root_path, r.project_id, r.revision
FROM unnest(CAST(:files AS bigint[]), CAST(:firsts AS integer[]), CAST(:lasts AS integer[])) WITH ORDINALITY
    AS s (file_id, first, last, span)
JOIN penstock.chunks c ON c.file_id = s.file_id AND c.ordinal BETWEEN s.first AND s.last
JOIN penstock.files f ON f.id = c.file_id
JOIN penstock.repositories r ON r.id = c.repository_id
ORDER BY s.span, c.ordinal
""")


TEXTS: Final = text("SELECT id, content FROM penstock.chunks WHERE id = ANY(CAST(:ids AS bigint[]))")


def of_chunks(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Return the texts of chunks by their ids."""
    return {row.id: row.content for row in connection.execute(TEXTS, {"ids": list(ids)})}


def of_spans(connection: Connection, spans: Sequence[tuple[int, int, int]]) -> Sequence[Row[Any]]:
    """Return the chunks of one or more spans (file, first and last ordinal), in order; `span` counts them from 1."""
    files, firsts, lasts = map(list, zip(*spans, strict=True))
    return connection.execute(CHUNKS, {"files": files, "firsts": firsts, "lasts": lasts}).all()


# A definition's chunks follow each other, so it opens after the last chunk before this one that is outside of it. Its
# comment comes first, so the line that names it may be in a later chunk.
HEADS: Final = text("""
SELECT w.path, w.file_id, w.before, h.symbol, h.kind, h.start_line, h.content
FROM unnest(CAST(:files AS bigint[]), CAST(:befores AS integer[]), CAST(:paths AS text[])) AS w (file_id, before, path)
CROSS JOIN LATERAL (
    SELECT coalesce((
        SELECT c.ordinal FROM penstock.chunks c
        WHERE c.file_id = w.file_id AND c.ordinal < w.before
            AND c.symbol <> w.path AND NOT starts_with(c.symbol, w.path || '.')
        ORDER BY c.ordinal DESC LIMIT 1), -1) + 1 AS ordinal) AS o
JOIN penstock.chunks h ON h.file_id = w.file_id AND h.ordinal BETWEEN o.ordinal AND least(o.ordinal + 3, w.before) - 1
ORDER BY h.ordinal
""")


def heads(connection: Connection, wanted: Sequence[tuple[int, int, str]]) -> Sequence[Row[Any]]:
    """Return the first chunks of definitions before others: given are the file, the other's ordinal, and the path."""
    files, befores, paths = map(list, zip(*wanted, strict=True))
    return connection.execute(HEADS, {"files": files, "befores": befores, "paths": paths}).all()
