"""What travels through the bench: questions, their right answers, and what a system answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WHOLE: Final = "whole"
BARE: Final = "bare"
END: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Place:
    """Lines of a file, from 1, both ends included; without more said the whole file."""

    path: str
    first: int = 1
    last: int = END

    def meets(self, other: Place) -> bool:
        """Return whether the two have a line in common."""
        return self.path == other.path and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Question:
    """A query and its right answers: any of them will do, or `every` one is wanted, and then files are what counts.

    It is asked of a source's tree, `whole` or `bare` of what describes its code.
    """

    task: str
    source: str
    language: str
    query: str
    answers: tuple[Place, ...]
    tree: str = WHOLE
    every: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and a system's first hits, best first."""

    question: Question
    hits: tuple[Place, ...]

    @property
    def rank(self) -> int | None:
        """The place of the first right hit, from 1; None when there is none."""
        right = (at for at, hit in enumerate(self.hits, 1) if any(map(hit.meets, self.question.answers)))
        return next(right, None)
