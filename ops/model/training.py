"""Trains the static model: what was written about a definition shall be nearer to it than to its neighbours."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

from ops.model.examples import BUCKETS, batches, encoded
from pipeline.embedders.static_model import StaticModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ops.model.examples import Example
    from ops.model.pairs import Pair

    Array = NDArray[np.float32]
    Rows = NDArray[np.integer[Any]] | tuple[int, NDArray[np.integer[Any]]] | slice

RATE: Final = 1e-3
GAIN_RATE: Final = 10 * RATE
WARM_UP: Final = 50
DROPPED: Final = 0.2
FIRST_TEMPERATURE: Final = 20.0
FIRST_FIELDS: Final = (3.4, 1.0, 1.4, 1.0)
QUESTIONS: Final = 0.15
"""How often a query is turned into a question, so that what makes it one does not count."""
ADDED: Final = 3
UNNAMED: Final = 0.15
"""How often a query has none of the words of the definition's name, when others are left: who asks may not know it."""
LEAST_LEFT: Final = 2
OTHERS: Final = 256
"""How many chunks besides those that are asked for a query is held against, of the same sources."""
QUESTION_WORDS: Final = "how where what which when why who is are do does did can should we you i the in it".split()
BLOCK: Final = 2_048
"""Words that are worked on at a time: so they stay in the processor's cache."""
DECAYS: Final = (0.9, 0.98)


@dataclass(slots=True)
class Adam:
    """Adam's two moments of one array; rows that a step does not touch keep theirs."""

    values: Array
    rate: float
    first: Array = field(init=False)
    second: Array = field(init=False)

    def __post_init__(self) -> None:
        self.first, self.second = np.zeros_like(self.values), np.zeros_like(self.values)

    def step(self, gradient: NDArray[Any], number: int, slow: float, rows: Rows = slice(None)) -> None:
        """Move the rows against their gradient; `slow` lowers the rate towards the end."""
        first = self.first[rows] * DECAYS[0] + gradient * (1 - DECAYS[0])
        second = self.second[rows] * DECAYS[1] + np.square(gradient) * (1 - DECAYS[1])
        self.first[rows], self.second[rows] = first, second
        length = np.sqrt(second / (1 - DECAYS[1] ** number)) + 1e-8
        self.values[rows] -= self.rate * slow * (first / (1 - DECAYS[0] ** number)) / length


@dataclass(frozen=True, slots=True)
class Bags:
    """The words of a batch: those of its queries, then of their passages, then of others, each a run of `rows`."""

    rows: NDArray[np.int32]
    weights: Array
    fields: NDArray[np.int8]
    owners: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        chance: np.random.Generator,
        asking: Sequence[int] = (),
        others: Sequence[Example] = (),
    ) -> Bags:
        """Return the bags of a batch, with a fifth of the words left out; the field of a query's word is -1.

        Some queries get a few of the rows `asking` added, and some lose the words of the name.
        """
        queries = [_asked(each, chance, asking) for each in examples]
        passages = [*examples, *others]
        rows = [*(row for row, _ in queries), *(each.rows for each in passages)]
        counts = np.concatenate([*(count for _, count in queries), *(each.counts for each in passages)])
        unasked = np.concatenate([each.fields for each in passages])
        fields = np.append(np.full(len(counts) - len(unasked), -1, np.int8), unasked)
        lengths = np.array([len(each) for each in rows])
        ends = np.cumsum(lengths)
        kept = chance.random(len(counts), np.float32) > DROPPED
        kept[ends - 1] = True  # no bag is empty
        owners = np.repeat(np.arange(len(rows)), lengths)[kept]
        return cls(
            np.concatenate(rows)[kept], counts[kept], fields[kept], owners, np.searchsorted(owners, range(len(rows)))
        )


def _asked(
    example: Example, chance: np.random.Generator, asking: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the words of a query as it is asked this time, and their weights."""
    rows, counts, unnamed = example.query_rows, example.query_counts, ~example.named
    if unnamed.sum() >= LEAST_LEFT and chance.random() < UNNAMED:
        rows, counts = rows[unnamed], counts[unnamed]
    if asking and chance.random() < QUESTIONS:
        more = chance.choice(asking, ADDED).astype(np.int32)
        rows, counts = np.append(rows, more), np.append(counts, np.ones(ADDED, np.float32))
    return rows, counts


class Trainer:
    """The parameters in training: a vector a row, a gain a row for each side, a weight a field, a temperature."""

    def __init__(
        self, pairs: Sequence[Pair], rows: Mapping[str, int], vectors: Array, others: Sequence[Pair] = (), seed: int = 0
    ) -> None:
        self._pairs, self._rows = pairs, rows
        self._examples = [encoded(pair, rows) for pair in pairs]
        self._others = [encoded(pair, rows) for pair in others]
        self._places = defaultdict[str, list[int]](list)
        for at, pair in enumerate(others):
            self._places[pair.source].append(at)
        self._labels = np.array([[_label(pair.query.lower()), _label(pair.passage.content)] for pair in pairs])
        self._chance = np.random.default_rng(seed)
        self._asking = [rows[word] for word in QUESTION_WORDS if word in rows]
        rarity = self._rarity(len(vectors))
        self._vectors = Adam(vectors, RATE)
        self._gains = Adam(np.stack([rarity, rarity]), GAIN_RATE)
        self._fields = Adam(np.log(np.array(FIRST_FIELDS, np.float32)), GAIN_RATE)
        self._temperature = Adam(np.array([math.log(FIRST_TEMPERATURE)], np.float32), GAIN_RATE)

    def _rarity(self, size: int) -> Array:
        """Return the logarithm of each row's inverse document frequency."""
        seen = np.zeros(size)
        for each in self._examples:
            seen[np.union1d(each.query_rows, each.rows)] += 1
        return np.log(np.maximum(np.log((len(self._examples) + 1) / (seen + 1)), 0.3)).astype(np.float32)

    def run(self, tell: Callable[[int, float], None], rounds: int, every: int = 200) -> None:
        """Train; `tell` hears the step and the mean loss now and then."""
        total = rounds * (len(self._pairs) // 512)
        losses = []
        for number, batch in enumerate(batches(self._pairs, self._chance), 1):
            slow = (1 - (number - 1) / total) * min(1.0, number / WARM_UP)
            losses.append(self._step(batch, number, slow))
            if number % every == 0 or number == total:
                tell(number, float(np.mean(losses[-every:])))
            if number >= total:
                return

    def _step(self, batch: NDArray[np.int64], number: int, slow: float) -> float:
        bags = Bags.of([self._examples[at] for at in batch], self._chance, self._asking, self._beside(batch))
        sides = (bags.fields >= 0).astype(np.int8)
        fields = np.concatenate([self._fields.values, np.zeros(1, np.float32)])  # the last is a query's
        weights = bags.weights * np.exp(self._gains.values[sides, bags.rows] + fields[bags.fields])
        sums = summed(self._vectors.values, bags.rows, weights, bags.starts)
        loss, pull, warmer = contrast(sums, self._labels[batch], float(np.exp(self._temperature.values[0])))
        used, gradient, felt = spread(self._vectors.values, bags.rows, weights, pull, bags.owners)
        self._vectors.step(gradient, number, slow, used)
        for side in (0, 1):
            by_row = np.bincount(bags.rows, felt * (sides == side), len(self._vectors.values))
            self._gains.step(by_row[used], number, slow, (side, used))
        self._fields.step(np.bincount(bags.fields[sides == 1], felt[sides == 1], len(FIRST_FIELDS)), number, slow)
        self._temperature.step(np.array([warmer]), number, slow)
        return loss

    def _beside(self, batch: NDArray[np.int64]) -> list[Example]:
        """Return some other chunks of the batch's sources."""
        drawn = set()
        for at in self._chance.choice(batch, OTHERS).tolist():
            if places := self._places.get(self._pairs[at].source):
                drawn.add(places[self._chance.integers(len(places))])
        return [self._others[at] for at in sorted(drawn)]

    def model(self, name: str) -> StaticModel:
        """Return what was learned so far, its vectors as whole numbers."""
        vectors, scales = whole_numbers(self._vectors.values)
        query, passage = np.exp(self._gains.values) * scales
        fields = np.exp(self._fields.values - self._fields.values[-1])
        return StaticModel(
            name,
            self._rows,
            vectors,
            passage.astype(np.float32),
            query.astype(np.float32),
            tuple(round(float(weight), 4) for weight in fields),  # type: ignore[arg-type]
        )


def whole_numbers(vectors: Array) -> tuple[NDArray[np.int8], Array]:
    """Return vectors as whole numbers, and by what each has to be multiplied to be what it was."""
    scales = np.maximum(np.abs(vectors).max(axis=1), 1e-9) / 127
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales


def summed(vectors: Array, rows: NDArray[np.int32], weights: Array, starts: NDArray[np.int64]) -> Array:
    """Return the weighted sums of the vectors of bags, each a run of `rows`."""
    sums = np.empty((len(starts), vectors.shape[1]), np.float32)

    def add(run: tuple[slice, slice]) -> None:
        bags, words = run
        known = vectors[rows[words]] * weights[words, None]
        sums[bags] = np.add.reduceat(known, starts[bags] - words.start, axis=0)

    _side_by_side(add, _runs(starts, len(rows)))
    return sums


def spread(
    vectors: Array, rows: NDArray[np.int32], weights: Array, pull: Array, owners: NDArray[np.int64]
) -> tuple[NDArray[np.int32], Array, Array]:
    """Return which rows are used, the gradient by each, and by the logarithm of each word's weight."""
    order = np.argsort(rows, kind="stable")
    used, starts = np.unique(rows[order], return_index=True)
    gradient, felt = np.empty((len(used), vectors.shape[1]), np.float32), np.empty(len(rows), np.float32)

    def add(run: tuple[slice, slice]) -> None:
        some, words = run
        places = order[words]
        moved = pull[owners[places]]
        felt[places] = np.einsum("ij,ij->i", vectors[rows[places]], moved) * weights[places]
        gradient[some] = np.add.reduceat(moved * weights[places, None], starts[some] - words.start, axis=0)

    _side_by_side(add, _runs(starts, len(rows)))
    return used, gradient, felt


def _side_by_side(work: Callable[[tuple[slice, slice]], None], runs: Iterable[tuple[slice, slice]]) -> None:
    """Work on all runs, in a thread a core: numpy lets go of the interpreter meanwhile, and no run touches another."""
    for _ in _threads().map(work, runs):
        pass


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


def _runs(starts: NDArray[np.int64], size: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of segments that hold a block of the `size` words together, and of these words."""
    cuts = np.unique(np.append(np.searchsorted(starts, np.arange(0, size, BLOCK)), len(starts)))
    ends = np.append(starts, size)
    for first, last in pairwise(cuts.tolist()):
        yield slice(first, last), slice(int(ends[first]), int(ends[last]))


def contrast(sums: NDArray[Any], labels: NDArray[np.int64], heat: float) -> tuple[float, Array, float]:
    """Return the softmax loss of b queries, their passages and m others, and its gradients by the sums and log `heat`.

    `labels`, shape (b, 2), name queries and passages: pairs that have one of them in common are not told apart. Each
    query is held against all passages, each of the b passages against the queries.
    """
    half = len(labels)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True) + 1e-6
    units = sums / lengths
    scores = (units[:half] @ units[half:].T) * heat
    own = np.eye(*scores.shape, dtype=np.bool_)
    same = np.zeros(scores.shape, np.bool_)
    same[:, :half] = (labels[:, None] == labels).any(axis=2)
    same &= ~own
    scores[same] = -1e4
    by_query, by_passage = _softmax(scores, 1), _softmax(scores[:, :half], 0)
    right = np.log(by_query.diagonal() + 1e-12) + np.log(by_passage.diagonal() + 1e-12)
    gradient = by_query / 2 - own
    gradient[:, :half] += by_passage / 2
    gradient[same] = 0
    gradient /= half
    warmer = float((gradient * scores)[~same].sum())
    pull = np.concatenate([gradient @ units[half:], gradient.T @ units[:half]]) * np.float32(heat)
    pull = (pull - units * (units * pull).sum(axis=1, keepdims=True)) / lengths
    return -float(right.mean()) / 2, pull.astype(np.float32), warmer


def _label(text: str) -> int:
    return crc32(text.encode("utf-8", "replace"))


def _softmax(scores: Array, axis: int) -> Array:
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    result: Array = powers / powers.sum(axis=axis, keepdims=True)
    return result


def first_vectors(rows: Mapping[str, int], meanings: Array, dimension: int, seed: int = 0) -> Array:
    """Return where training begins: the main directions of the words' meanings, and chance for the buckets."""
    centred = meanings - meanings.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    known = centred @ directions[:dimension].T
    chance = np.random.default_rng(seed).standard_normal((BUCKETS, dimension)) / math.sqrt(dimension)
    assert len(known) == len(rows)  # noqa: S101
    return np.concatenate([known / np.linalg.norm(known, axis=1, keepdims=True), chance]).astype(np.float32)
