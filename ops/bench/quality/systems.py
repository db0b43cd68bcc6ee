"""The ways to search that are compared: the product as it is, with less, with another model, and without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from ops.bench.quality import bm25, ollama_server
from ops.bench.quality.records import Answered, Place
from pipeline import search as product
from pipeline.ranking import Signals
from pipeline.search import MAX_LIMIT, SearchRequest

if TYPE_CHECKING:
    from pathlib import Path

    from ops.bench.quality.home import Home
    from ops.bench.quality.records import Question

DEPTH: Final = 10
LOCAL: Final = "default"
MINILM: Final = "minilm"
INDEXED_WITH: Final = {
    LOCAL: {},
    MINILM: {"PENSTOCK_EMBEDDER": "ollama", "OLLAMA_EMBEDDING_MODEL": ollama_server.MODEL},
}
"""The projects of the home, and what is set when a tree is indexed in one."""
Ask = Callable[["Home", str, "Path", str, int], tuple[Place, ...]]
"""Given a home, a project, a tree, a query and how many hits are wanted, return their places, best first."""


@dataclass(frozen=True, slots=True)
class System:
    """A way to search; `project` is the one whose index it searches."""

    name: str
    ask: Ask
    project: str = LOCAL

    def answer(self, home: Home, tree: Path, question: Question) -> Answered:
        """Ask a question; where files count, only the first hit of each is kept."""
        hits = self.ask(home, self.project, tree, question.query, MAX_LIMIT if question.every else DEPTH)
        if question.every:
            hits = tuple({hit.path: hit for hit in reversed(hits)}.values())[::-1]
        return Answered(question, hits[:DEPTH])


def by_product(home: Home, project: str, tree: Path, query: str, most: int, *, signals: Signals) -> tuple[Place, ...]:
    """Ask the product, with these signals."""
    request = SearchRequest(query, project_id=project, repo_path=tree, limit=most)
    found = product.search(home.engine, home.embedder_for, request, signals)
    return tuple(Place(hit.path, hit.start_line, hit.end_line) for hit in found.results)


def by_bm25(home: Home, project: str, tree: Path, query: str, most: int) -> tuple[Place, ...]:
    """Rank the chunks of the store by BM25."""
    return bm25.best(home.engine, project, tree, query, most)


def systems() -> dict[str, System]:
    """Return all systems by their names, the product as it is first."""
    everything = partial(by_product, signals=Signals())
    vectors = partial(by_product, signals=_only("vectors"))
    found = [
        System("hybrid", everything),
        System("vectors", vectors),
        System("words", partial(by_product, signals=_only("words"))),
        System("bm25", by_bm25),
        System("minilm", everything, MINILM),
        System("minilm-vectors", vectors, MINILM),
        System("minilm-without-reranker", partial(by_product, signals=_without("reranker")), MINILM),
        *(System(f"without-{name}", partial(by_product, signals=_without(name))) for name in _names()),
    ]
    return {system.name: system for system in found}


def chosen(wanted: list[str] | None, *, compare: bool, ablate: bool) -> list[System]:
    """Return the systems of a run: those that are named, else the local ones, with MiniLM's or with each signal off."""
    found = systems()
    usual = [name for name in found if not name.startswith(("minilm", "without-"))]
    models = [name for name in found if compare and name.startswith("minilm")]
    less = [name for name in found if ablate and name.startswith("without-")]
    return [found[name] for name in wanted or [*(usual if compare or not ablate else usual[:1]), *models, *less]]


def _names() -> list[str]:
    return [field.name for field in fields(Signals)]


def _only(name: str) -> Signals:
    return Signals(**{each: float(each == name) for each in _names()})


def _without(name: str) -> Signals:
    return replace(Signals(), **{name: 0.0})
