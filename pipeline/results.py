"""Turns ranked chunks into a page of results: neighbours joined, with the definitions around them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from pipeline.enclosing import Head, around, context
from pipeline.merging import joined, spans
from pipeline.records import SearchHit
from pipeline.store import contents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Row

    from pipeline.merging import Span
    from pipeline.ranking import Ranked


MOSTLY: Final = 0.5
"""A chunk with more of what the query's words tell was found by its words, too."""


def page(connection: Connection, rounds: Iterable[Sequence[Ranked]], limit: int, offset: int) -> tuple[SearchHit, ...]:
    """Return a page of the results that ranked chunks make.

    Each round ranks more chunks than the one before, best first; the next is asked for when they are too few. They must
    not depend on the page: neighbours are joined before it is cut, so that pages neither repeat nor lose a line. What
    the results hold is read for this page alone, on a snapshot of the index.
    """
    wanted = spans(rounds, offset + limit)[offset : offset + limit]
    if not wanted:
        return ()
    places = [(span.best.candidate.file_id, span.first, span.last) for span in wanted]
    chunks = {place: list(rows) for place, rows in groupby(contents.of_spans(connection, places), lambda row: row.span)}
    firsts = [rows[0] for rows in chunks.values()]
    heads = _heads(connection, firsts)
    return tuple(
        _hit(span, rows, heads.get((rows[0].file_id, span.first), []))
        for span, rows in zip(wanted, chunks.values(), strict=True)
    )


def _heads(connection: Connection, firsts: Sequence[Row[Any]]) -> dict[tuple[int, int], list[Head]]:
    """Return the first chunks of the definitions around others, by file and ordinal of those."""
    wanted = [(row.file_id, row.ordinal, path) for row in firsts if row.ordinal for path in around(row.symbol)]
    found: dict[tuple[int, int], list[Head]] = {}
    for row in contents.heads(connection, wanted) if wanted else ():
        head = Head(row.path, row.symbol, row.kind, row.start_line, row.content)
        found.setdefault((row.file_id, row.before), []).append(head)
    return found


def _hit(span: Span, chunks: Sequence[Row[Any]], heads: Iterable[Head]) -> SearchHit:
    first, best = chunks[0], span.best.candidate
    content = joined((row.start_line, row.end_line, row.content) for row in chunks)
    return SearchHit(
        path=first.path,
        start_line=first.start_line,
        end_line=chunks[-1].end_line,
        symbol=best.symbol,
        kind=best.kind,
        language=best.language,
        content=content,
        score=round(span.best.score, 6),
        repository=first.root_path,
        project_id=first.project_id,
        revision=first.revision,
        best_line=best.start_line,
        context=context(content, first.start_line, heads),
        matched=_matched(span.best),
    )


def _matched(best: Ranked) -> tuple[str, ...]:
    """Return what a chunk was found by: as a definition, by its path, by most of the words, or else by meaning."""
    found = best.candidate
    signals = {"definition": found.defines > 0, "path": found.placed, "words": best.covered > MOSTLY}
    return tuple(name for name, holds in signals.items() if holds) or ("meaning",)
