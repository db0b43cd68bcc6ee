"""Fits an answer into a number of tokens: the best results whole, others by the lines that matter, others by name."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from pipeline.enclosing import lines_of, signature
from pipeline.records import Shown
from pipeline.tokenizing import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.enclosing import Line
    from pipeline.records import SearchHit, SearchResults

CHARACTERS: Final = 4
"""How many characters of JSON count as a token."""
RESERVED: Final = 300
"""Characters kept for what a mouth adds: that something was shortened, and what to do next."""
EXCERPT: Final = 400
"""Characters of a result's lines that come before other results are shown whole."""
LINE_LENGTH: Final = 200
GAP: Final = "…"

_ENDING = re.compile(r"(?<=\w{3})(?:ies|ing|ed|es|s|e|y)$")


def fit(answer: SearchResults, most: int) -> SearchResults:
    """Return an answer of at most `most` tokens; what is shortened or left out is counted in it.

    The first result is always there. Only the last ones are left out: the next page begins after those that are here.
    """
    hits = answer.results
    room = CHARACTERS * most - RESERVED - len(answer.model_copy(update={"results": ()}).model_dump_json())
    if not hits or sum(map(_cost, hits)) <= room:
        return answer
    shown = _Shown(hits, room, answer.query)
    return answer.model_copy(
        update={
            "results": tuple(shown.forms),
            "shortened": sum(form.shown != Shown.WHOLE for form in shown.forms),
            "omitted": len(hits) - len(shown.forms),
        }
    )


class _Shown:
    """The forms that results are shown in, improved as long as there is room."""

    def __init__(self, hits: Sequence[SearchHit], room: int, query: str) -> None:
        self._hits, self._asked = hits, _stems(query)
        first = min(_cost(hits[0]), max(room // 2, min(room, _cost(_reference(hits[0])) + EXCERPT)))
        self.forms = list(_that_fit(map(_reference, hits), room - first))
        self._left = room - sum(map(_cost, self.forms))
        self._improve(0, first)
        for index in range(1, len(self.forms)):
            self._improve(index, _cost(self.forms[index]) + EXCERPT)
        for index in range(len(self.forms)):
            self._improve(index, room)

    def _improve(self, index: int, most: int) -> None:
        """Show more of a result, in at most so many characters, and not more than are left."""
        hit, cost = self._hits[index], _cost(self.forms[index])
        most = min(most, cost + self._left)
        better = hit if _cost(hit) <= most else self._excerpt(hit, most)
        if cost < _cost(better) <= most:
            self.forms[index] = better
            self._left -= _cost(better) - cost

    def _excerpt(self, hit: SearchHit, most: int) -> SearchHit:
        bare = hit.model_copy(update={"content": "", "shown": Shown.LINES})
        content = excerpt(hit, self._asked, most - _cost(bare))
        return bare.model_copy(update={"content": content}) if content else _reference(hit)


def excerpt(hit: SearchHit, asked: frozenset[str], most: int) -> str:
    """Return a result's most telling lines with their numbers, in at most so many characters of JSON; "" if none fit.

    Those are its signature, then lines with words of the query, the rarer the better, then the first ones.
    """
    lines = [line for line in lines_of(hit.content, hit.start_line) if line.text.strip()]
    kept: set[Line] = set()
    left = most - len(GAP)
    for line in _by_weight(lines, asked):
        left -= len(json.dumps(_numbered(line), ensure_ascii=False)) + len(rf"{GAP}\n")
        if left < 0:
            break
        kept.add(line)
    shown = [_numbered(line) if line in kept else GAP for line in lines] if kept else []
    return "\n".join(text for at, text in enumerate(shown) if text != GAP or shown[at - 1 : at] != [GAP])


def _by_weight(lines: list[Line], asked: frozenset[str]) -> list[Line]:
    """Return lines, those that tell most first."""
    found = {line: asked & _stems(line.text) for line in lines}
    frequency = Counter(word for held in found.values() for word in held)
    head = signature(lines) if lines else None
    return sorted(lines, key=lambda line: (line != head, -sum(1 / frequency[word] for word in found[line])))


def _stems(text: str) -> frozenset[str]:
    return frozenset(_ENDING.sub("", word) for word in words(text))


def _numbered(line: Line) -> str:
    text = line.text.rstrip()
    return f"{line.number}: {text if len(text) <= LINE_LENGTH else text[:LINE_LENGTH] + GAP}"


def _that_fit(references: Iterable[SearchHit], room: int) -> Iterable[SearchHit]:
    """Yield the first, and of the others as many as fit beside the room kept for it."""
    for index, reference in enumerate(references):
        room -= _cost(reference) if index else 0
        if room < 0 and index:
            return
        yield reference


def _reference(hit: SearchHit) -> SearchHit:
    return hit.model_copy(update={"content": "", "context": (), "shown": Shown.REFERENCE})


def _cost(hit: SearchHit) -> int:
    """Return the characters of a result as JSON, with the comma after it."""
    return len(hit.model_dump_json()) + 1
