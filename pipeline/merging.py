"""Joins neighbouring chunks of a file, which a search found apart, into spans: one result each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.ranking import Candidate, Ranked

MOST: Final = 3
"""How many chunks a span covers at most, one between its hits included: a chunk is bounded, and so a result is."""
NEAR: Final = (-2, -1, 1, 2)
"""How far from each other chunks may lie that join: side by side, or with one between them."""


@dataclass(slots=True)
class Span:
    """The chunks `first` to `last` of a file, of which `found` were, the best one first: it gives the span its name."""

    rank: int
    first: int
    last: int
    found: list[Ranked]

    @property
    def best(self) -> Ranked:
        """The chunk that ranks best."""
        return self.found[0]


Owners = dict[tuple[int, int], Span]
"""The span that has a chunk, by file and ordinal."""


def spans(rounds: Iterable[Sequence[Ranked]], enough: int) -> list[Span]:
    """Join neighbours of one definition among chunks; return at least `enough` spans where so many are found.

    Each round is a ranking, best first; a later one looks deeper. What it adds comes after, and changes nothing of what
    was there: so a list that is cut into pages loses and repeats nothing, however deep somebody looks.

    Pieces of one definition join, also with one chunk between them, and a piece joins a whole definition that it holds.
    Two definitions side by side stay two results: each is an answer of its own.
    """
    found: list[Span] = []
    owners: Owners = {}
    looked = 0
    for ranked in rounds:
        before = len(found)
        for item in ranked:
            _place(item, found, owners, before)
        if len(ranked) == looked or len(found) >= enough:
            break
        looked = len(ranked)
    return found


def _place(item: Ranked, found: list[Span], owners: Owners, before: int) -> None:
    """Add a chunk to the best span beside it that takes it, of those since `before`, or to none: then it is its own."""
    chunk = item.candidate
    if (chunk.file_id, chunk.ordinal) in owners:
        return
    beside = {owners[place].rank for step in NEAR if (place := (chunk.file_id, chunk.ordinal + step)) in owners}
    takers = (found[rank] for rank in sorted(beside) if rank >= before and _takes(found[rank], chunk, owners))
    span = next(takers, None)
    if span is None:
        span = Span(len(found), chunk.ordinal, chunk.ordinal, [])
        found.append(span)
    span.found.append(item)
    span.first, span.last = _reach(span, chunk)
    owners.update(((chunk.file_id, at), span) for at in range(span.first, span.last + 1))


def _reach(span: Span, chunk: Candidate) -> tuple[int, int]:
    return min(span.first, chunk.ordinal), max(span.last, chunk.ordinal)


def _takes(span: Span, chunk: Candidate, owners: Owners) -> bool:
    first, last = _reach(span, chunk)
    free = all(owners.get((chunk.file_id, at), span) is span for at in range(first, last + 1))
    return free and last - first < MOST and any(_belong_together(item.candidate, chunk) for item in span.found)


def _belong_together(one: Candidate, other: Candidate) -> bool:
    distance = abs(one.ordinal - other.ordinal)
    if one.symbol == other.symbol:
        return distance == 1 or (distance in NEAR and one.symbol != "")
    return distance == 1 and (_holds(one, other) or _holds(other, one))


def _holds(outer: Candidate, inner: Candidate) -> bool:
    """Tell whether a definition holds another; a module holds everything, and so joins nothing."""
    return outer.symbol != "" and outer.kind != "module" and inner.symbol.startswith(f"{outer.symbol}.")


def joined(pieces: Iterable[tuple[int, int, str]]) -> str:
    """Return the text of consecutive chunks (first line, last line, text) with the blank lines that no chunk keeps."""
    text, end = "", 0
    for start_line, end_line, content in pieces:
        if text:
            # Parts of a line that was too long for one chunk have the same number.
            text += "\n" * (start_line - end)
        text, end = text + content, end_line
    return text
