"""Reranks what was found: each word of the query is matched with the words of a chunk, by learned likeness.

Kernel pooling (Xiong and others, "End-to-End Neural Ad-hoc Ranking with Kernel Pooling", SIGIR 2017), whose kernels are
judged for each word of the query before they are summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from pipeline.embedders import static_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pipeline.embedders import Passage
    from pipeline.embedders.static_model import StaticModel

    Array = NDArray[np.float32]
    Rows = NDArray[np.integer[Any]]

CENTRES: Final = np.array([1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, -0.05], np.float32)
WIDTHS: Final = np.array([0.02] + [0.1] * 7, np.float32)
"""The kernels: each counts the words that are about so like a word of the query; the first one, that word itself."""
CLOSEST: Final = 0.93
"""How like each other two words are at most."""
GROUP_OF: Final = np.array([0, 0, 1, 2])
"""Where a field of a passage is counted: its name and what it lies in, its first line, the rest."""
GROUPS: Final = 3
FEATURES: Final = GROUPS * len(CENTRES)
IMPORTANCE: Final = 5.0
SHARED: Final = "reranker.npz"
VECTORS: Final = "reranker_vectors.npy"
LONGEST_QUERY: Final = 32
"""How many different words of a query are matched."""


class Bags(NamedTuple):
    """The words of some passages, in the order of passages, and of fields in these.

    `counts` are the square roots of how often a word is in a field, `owners` say which passage it is in.
    """

    passages: int
    rows: Rows
    counts: Array
    fields: NDArray[np.int_]
    owners: NDArray[np.int64]


class Values(NamedTuple):
    """The parameters that all words share: f features of a word of the query, h of a hidden layer.

    `fields`, shape (4,), are logarithms; `kernels` (f,), `inner` (f + 1, h), `bias` (h,), `outer` (h,), `length` (2,).
    """

    fields: Array
    kernels: Array
    inner: Array
    bias: Array
    outer: Array
    length: Array


class Match(NamedTuple):
    """What n passages are worth to a query of q words, and how that came about; training goes back the same way."""

    inverse: NDArray[np.int64]
    away: Array
    near: Array
    weights: Array
    groups: NDArray[np.int64]
    sums: Array
    inputs: Array
    hidden: Array
    each: Array
    masses: Array
    scores: Array


def match(values: Values, query: tuple[Rows, Array, Array], words: tuple[Rows, Array], bags: Bags) -> Match:
    """Match the words of passages with those of a query, given as rows, unit vectors and their share of importance.

    `words` are the different rows of the passages, in order, and their unit vectors.
    """
    asked, directions, shares = query
    rows, units = words
    likeness = np.minimum(units @ directions.T, np.float32(CLOSEST))
    likeness[rows[:, None] == asked] = 1
    away = likeness[:, :, None] - CENTRES
    near = np.exp(-np.square(away) / (2 * np.square(WIDTHS)))
    inverse = np.searchsorted(rows, bags.rows)
    weights = bags.counts * np.exp(values.fields)[bags.fields]
    groups = bags.owners * GROUPS + GROUP_OF[bags.fields]
    size = bags.passages
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    sums = np.zeros((size * GROUPS, near[0].size), near.dtype)
    sums[groups[starts]] = np.add.reduceat(near.reshape(len(rows), -1)[inverse] * weights[:, None], starts)
    pooled = np.log1p(sums).reshape(size, GROUPS, len(asked), len(CENTRES)).transpose(0, 2, 1, 3)
    importance = np.broadcast_to((IMPORTANCE * shares)[:, None], (size, len(asked), 1))
    inputs = np.concatenate([pooled.reshape(size, len(asked), FEATURES), importance], axis=2)
    hidden = np.tanh(inputs @ values.inner + values.bias)
    each = hidden @ values.outer + inputs[:, :, :-1] @ values.kernels
    masses = np.bincount(bags.owners, weights, size).astype(near.dtype)
    scores = each @ shares + lengths(masses) @ values.length
    return Match(inverse, away, near, weights, groups, sums, inputs, hidden, each, masses, scores)


def lengths(masses: Array) -> Array:
    """Return what the length of n passages, as the sum of their words' weights, may count by, shape (n, 2)."""
    long = np.log1p(masses)
    return np.stack([long, np.square(long) / 10], axis=1)


@dataclass(frozen=True, slots=True)
class Reranker:
    """A static model's words with other vectors: `vectors`, shape (t, d), int8, and `importance`, shape (t,)."""

    model: StaticModel
    vectors: NDArray[np.int8]
    importance: NDArray[np.float16]
    values: Values

    def scores(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """Return how well each passage matches a query, in deviations from their mean; 0 without a word to match."""
        asked = np.array(list(dict.fromkeys(self.model.rows_in(query)))[:LONGEST_QUERY], np.int32)
        bags = self._bags(passages)
        if not len(asked) or not len(bags.rows):
            return [0.0] * len(passages)
        power = np.exp(self.importance[asked].astype(np.float32))
        words = np.unique(bags.rows)
        found = match(
            self.values, (asked, self._units(asked), power / power.sum()), (words, self._units(words)), bags
        ).scores
        return [float(score) for score in (found - found.mean()) / max(float(found.std()), 1e-6)]

    def _units(self, rows: Rows) -> Array:
        vectors = self.vectors[rows].astype(np.float32)
        units: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-6))
        return units

    def _bags(self, passages: Sequence[Passage]) -> Bags:
        texts = [text for passage in passages for text in static_model.fields_of(passage)]
        words = list(map(self.model.rows_in, texts))
        places = np.repeat(np.arange(len(texts)), list(map(len, words)))
        rows = np.fromiter(chain.from_iterable(words), np.int64, len(places))
        found, counts = np.unique(places * len(self.vectors) + rows, return_counts=True)
        places, rows = np.divmod(found, len(self.vectors))
        owners, fields = np.divmod(places, len(static_model.Fields._fields))
        return Bags(len(passages), rows, np.sqrt(counts.astype(np.float32)), fields, owners)


@cache
def load(folder: Path = static_model.WEIGHTS) -> Reranker:
    """Return the reranker of a folder, its vectors mapped from the file, with the static model there."""
    facts = np.load(folder / SHARED)
    values = Values(*(facts[name] for name in Values._fields))
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    return Reranker(static_model.load(folder), vectors, facts["importance"], values)


def save(reranker: Reranker, folder: Path) -> None:
    """Write a reranker's files, beside those of its static model."""
    np.savez(folder / SHARED, importance=reranker.importance, **reranker.values._asdict())
    np.save(folder / VECTORS, reranker.vectors)
