"""Joins neighbouring chunks of a file, which a search found apart, into spans: one result each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.ranking import Candidate, Ranked

MOST: Final = 3
"""How many chunks a span covers at most, one between its hits included: a chunk is bounded, and so a result is."""


@dataclass(slots=True)
class Span:
    """The chunks `first` to `last` of a file, of which `found` were, the best one first: it gives the span its name."""

    first: int
    last: int
    found: list[Ranked]

    @property
    def best(self) -> Ranked:
        """The chunk that ranks best."""
        return self.found[0]

    def with_(self, chunk: Candidate) -> tuple[int, int]:
        """Return the first and the last chunk that the span has when it takes another."""
        return min(self.first, chunk.ordinal), max(self.last, chunk.ordinal)


def spans(ranked: Iterable[Ranked]) -> list[Span]:
    """Join neighbours of one definition among chunks that are given best first; return the spans in that order.

    Pieces of one definition join, also with one chunk between them, and a piece joins a whole definition that it holds.
    Two definitions side by side stay two results: each is an answer of its own. No two spans share a chunk, so that a
    list cut into pages loses and repeats nothing.
    """
    result: list[Span] = []
    of_file: defaultdict[int, list[Span]] = defaultdict(list)
    for item in ranked:
        chunk = item.candidate
        near = of_file[chunk.file_id]
        if any(span.first <= chunk.ordinal <= span.last for span in near):
            continue
        home = next((span for span in near if _takes(span, chunk, near)), None)
        if home is not None:
            home.first, home.last = home.with_(chunk)
            home.found.append(item)
        else:
            near.append(Span(chunk.ordinal, chunk.ordinal, [item]))
            result.append(near[-1])
    return result


def _takes(span: Span, chunk: Candidate, others: Iterable[Span]) -> bool:
    first, last = span.with_(chunk)
    free = all(other is span or other.last < first or last < other.first for other in others)
    return free and last - first < MOST and any(_belong_together(item.candidate, chunk) for item in span.found)


def _belong_together(one: Candidate, other: Candidate) -> bool:
    distance = abs(one.ordinal - other.ordinal)
    if one.symbol == other.symbol:
        return distance == 1 or (distance == 2 and one.symbol != "")  # noqa: PLR2004 - one chunk between them
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
