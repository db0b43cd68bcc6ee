"""The static model: a vector and two weights for each word, learned from code, in files that all processes share."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

import numpy as np

from pipeline.tokenizing import CACHED_IDENTIFIERS, identifiers, subwords_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from pipeline.embedders import Passage

WEIGHTS: Final = Path(__file__).parent / "weights"
LEAD: Final = re.compile(r"\s*(?:#(?!\s*define)|//|/\*|\*|@|\"\"\"|'''|--|;|<!--|\[|$)")
"""A line before a definition, or blank: comments, decorators, attributes."""


class Fields(NamedTuple):
    """The parts of a passage that count differently: its own name, what it lies in, its first line, and the rest."""

    name: str
    path: str
    signature: str
    body: str


def fields_of(passage: Passage) -> Fields:
    """Divide a passage; comments and decorators before its first line of code are part of the body."""
    path, _, name = passage.symbol.rpartition(".")
    lines = passage.content.split("\n")
    first = next((at for at, line in enumerate(lines) if not LEAD.match(line)), 0)
    signature = lines.pop(first)
    return Fields(name, path, signature, "\n".join(lines))


def bucket_of(word: str, rows: Mapping[str, int], buckets: int) -> int:
    """Return the row that a word without one of its own shares, in training as in use."""
    return len(rows) + crc32(word.encode("utf-8", "replace")) % buckets


@dataclass(frozen=True, slots=True)
class StaticModel:
    """The weights of t words, the last of them buckets for the words that have no row of their own.

    `vectors` has shape (t, dimension), int8; `passage_weights` and `query_weights`, shape (t,), float32, include the
    scale of each row. `field_weights` are those of `Fields`.
    """

    name: str
    rows: Mapping[str, int]
    vectors: NDArray[np.int8]
    passage_weights: NDArray[np.float32]
    query_weights: NDArray[np.float32]
    field_weights: tuple[float, float, float, float]
    known: Callable[[str], tuple[int, ...]] = field(init=False, repr=False, compare=False)
    """The rows of an identifier's words: most of a text is identifiers that were seen before."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", lru_cache(maxsize=CACHED_IDENTIFIERS)(self._rows_of))

    @property
    def dimension(self) -> int:
        """How many components a vector has."""
        return int(self.vectors.shape[1])

    def of_passage(self, passage: Passage) -> NDArray[np.float32]:
        """Return the unit vector of a passage, shape (dimension,)."""
        total: dict[int, float] = {}
        for text, gain in zip(fields_of(passage), self.field_weights, strict=True):
            for row, count in Counter(self.rows_in(text)).items():
                total[row] = total.get(row, 0.0) + gain * count**0.5
        return self._sum(total or self._odd(passage.content), self.passage_weights)

    def of_query(self, query: str) -> NDArray[np.float32]:
        """Return the unit vector of a query, shape (dimension,)."""
        counts = Counter(self.rows_in(query))
        weights = {row: count**0.5 for row, count in counts.items()}
        return self._sum(weights or self._odd(query), self.query_weights)

    def rows_in(self, text: str) -> list[int]:
        """Return the rows of the words of a text, in order, buckets included."""
        return list(chain.from_iterable(map(self.known, identifiers(text))))

    def _rows_of(self, identifier: str) -> tuple[int, ...]:
        rows, buckets = self.rows, len(self.vectors) - len(self.rows)
        words = subwords_of(identifier)
        return tuple(rows[word] if word in rows else bucket_of(word, rows, buckets) for word in words)

    def _odd(self, text: str) -> dict[int, float]:
        """Return weights for a text without words: of what stands between its blanks."""
        buckets = len(self.vectors) - len(self.rows)
        return {bucket_of(piece, self.rows, buckets): 1.0 for piece in text.split() or [""]}

    def _sum(self, weights: Mapping[int, float], gains: NDArray[np.float32]) -> NDArray[np.float32]:
        places = list(weights)
        factors = np.fromiter(weights.values(), np.float32, len(weights)) * gains[places]
        total: NDArray[np.float32] = factors @ self.vectors[places].astype(np.float32)
        return total / np.float32(max(float(np.sqrt(np.square(total).sum())), 1e-12))


@cache
def load(folder: Path = WEIGHTS) -> StaticModel:
    """Return the model of a folder, its vectors mapped from the file; some 20 ms the first time."""
    facts = json.loads((folder / "model.json").read_text())
    words = (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    gains = np.load(folder / "gains.npy")
    return StaticModel(
        facts["name"],
        {word: row for row, word in enumerate(words)},
        np.load(folder / "vectors.npy", mmap_mode="r"),
        gains[0],
        gains[1],
        tuple(facts["field_weights"]),
    )


def save(model: StaticModel, folder: Path, **facts: object) -> None:
    """Write a model's files; `facts` say where it comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"name": model.name, "field_weights": model.field_weights, **facts}
    (folder / "model.json").write_text(json.dumps(told, indent=1) + "\n")
    (folder / "vocabulary.txt").write_text("\n".join(model.rows), encoding="utf-8")
    np.save(folder / "gains.npy", np.stack([model.passage_weights, model.query_weights]))
    np.save(folder / "vectors.npy", model.vectors)
