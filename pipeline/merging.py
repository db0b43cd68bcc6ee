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


def spans(rounds: Iterable[Iterable[Ranked]], enough: int) -> list[Span]:
    """Join neighbours of one definition among chunks; return at least `enough` spans where so many are found.

    Each round is a ranking, best first; a later one looks deeper. What it adds comes after, and changes nothing of what
    was there: so a list that is cut into pages loses and repeats nothing, however deep somebody looks.

    Pieces of one definition join, also with one chunk between them, and a piece joins a whole definition that it holds.
    Two definitions side by side stay two results: each is an answer of its own.
    """
    found: list[Span] = []
    before: defaultdict[int, list[Span]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()
    for ranked in rounds:
        fresh = [item for item in ranked if (item.candidate.file_id, item.candidate.ordinal) not in seen]
        if not fresh:
            break
        seen |= {(item.candidate.file_id, item.candidate.ordinal) for item in fresh}
        found += _joined_in(fresh, before)
        if len(found) >= enough:
            break
    return found


def _joined_in(ranked: Iterable[Ranked], before: defaultdict[int, list[Span]]) -> list[Span]:
    """Return the spans of chunks, the best first, and add them to those `before`, by file."""
    found: list[Span] = []
    fixed = {file_id: len(spans) for file_id, spans in before.items()}
    for item in ranked:
        chunk = item.candidate
        near = before[chunk.file_id]
        if any(span.first <= chunk.ordinal <= span.last for span in near):
            continue
        home = next((span for span in near[fixed.get(chunk.file_id, 0) :] if _takes(span, chunk, near)), None)
        if home is not None:
            home.first, home.last = home.with_(chunk)
            home.found.append(item)
        else:
            near.append(Span(chunk.ordinal, chunk.ordinal, [item]))
            found.append(near[-1])
    return found


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
