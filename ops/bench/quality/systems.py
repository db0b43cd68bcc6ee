"""The ways to search that are compared: the product as it is, and the product with less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from ops.bench.quality.records import Answered, Place
from pipeline import search as product
from pipeline.errors import EmbedderUnavailable
from pipeline.search import MAX_LIMIT, SearchRequest

if TYPE_CHECKING:
    from pathlib import Path

    from ops.bench.quality.home import Home
    from ops.bench.quality.records import Question

DEPTH: Final = 10
Ask = Callable[["Home", "Question", "Path"], tuple[Place, ...]]
"""Return the places of the first hits for a question to a tree, best first."""


@dataclass(frozen=True, slots=True)
class System:
    """A way to search; `project` is the one whose index it searches."""

    name: str
    ask: Ask
    project: str = "default"

    def answer(self, home: Home, question: Question, tree: Path) -> Answered:
        """Ask a question; where files count, only the first hit of each is kept."""
        hits = self.ask(home, question, tree)
        if question.every:
            hits = tuple({hit.path: hit for hit in reversed(hits)}.values())[::-1]
        return Answered(question, hits[:DEPTH])


def _away(_name: str, _model: str) -> NoReturn:
    message = "words only"
    raise EmbedderUnavailable(message)


def asking(project: str, *, vectors: bool = True) -> Ask:
    """Return what asks the product, by one of its projects."""

    def ask(home: Home, question: Question, tree: Path) -> tuple[Place, ...]:
        limit = MAX_LIMIT if question.every else DEPTH
        request = SearchRequest(question.query, project_id=project, repo_path=tree, limit=limit)
        found = product.search(home.engine, home.embedder_for if vectors else _away, request)
        return tuple(Place(hit.path, hit.start_line, hit.end_line) for hit in found.results)

    return ask


def systems() -> dict[str, System]:
    """Return all systems by their names; the first is what others are compared with."""
    found = (System("hybrid", asking("default")), System("words", asking("default", vectors=False)))
    return {system.name: system for system in found}
