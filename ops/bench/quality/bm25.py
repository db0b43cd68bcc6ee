"""BM25 over stemmed sub-words, of the chunks as the store holds them: what any text search should beat."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import select

from ops.bench.quality.records import Place
from ops.bench.quality.stemming import stem
from pipeline.store.engine import reading
from pipeline.tables import chunks, files, repositories
from pipeline.tokenizing import subwords

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine

SATURATION: Final = 1.2
LENGTH_WEIGHT: Final = 0.75


class Bm25:
    """An index of n texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = []
        for at, text in enumerate(texts):
            counts = Counter(_words(text))
            lengths.append(counts.total())
            for word, times in counts.items():
                found[word].append((at, times))
        self._postings = {word: np.array(places).T for word, places in found.items()}
        relative = np.array(lengths) / max(1.0, float(np.mean(lengths or [0])))
        self._norms = SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * relative)

    def scores(self, query: str) -> NDArray[np.float64]:
        """Return the score of every text, shape (n,)."""
        scores = np.zeros(len(self._norms))
        for word in dict.fromkeys(_words(query)):
            if word in self._postings:
                at, times = self._postings[word]
                rarity = np.log(1 + (len(scores) - len(at) + 0.5) / (len(at) + 0.5))
                scores[at] += rarity * times * (SATURATION + 1) / (times + self._norms[at])
        return scores


def _words(text: str) -> list[str]:
    return [stem(word) for word in subwords(text)]


def best(engine: Engine, project: str, tree: Path, query: str, most: int) -> tuple[Place, ...]:
    """Return the places of the best chunks of a tree; of equal ones the first in the order of paths."""
    places, index = _index(engine, project, tree)
    scores = index.scores(query)
    order = np.argsort(-scores, kind="stable")[:most]
    return tuple(places[at] for at in order if scores[at] > 0)


@lru_cache(maxsize=2)
def _index(engine: Engine, project: str, tree: Path) -> tuple[list[Place], Bm25]:
    statement = (
        select(files.c.path, chunks.c.start_line, chunks.c.end_line, chunks.c.symbol, chunks.c.content)
        .join(files, files.c.id == chunks.c.file_id)
        .join(repositories, repositories.c.id == chunks.c.repository_id)
        .where(repositories.c.root_path == str(tree), repositories.c.project_id == project)
        .order_by(files.c.path, chunks.c.ordinal)
    )
    with reading(engine) as connection:
        rows = connection.execute(statement).all()
    return [Place(*row[:3]) for row in rows], Bm25(f"{row.symbol} {row.content}" for row in rows)
