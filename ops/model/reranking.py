"""Trains the reranker: among chunks that lie near a description, its own shall match it best, word by word."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ops.model.examples import encoded
from ops.model.training import Adam, summed, whole_numbers
from pipeline.reranking import (
    CENTRES,
    CLOSEST,
    FEATURES,
    GROUPS,
    IMPORTANCE,
    WIDTHS,
    Bags,
    Match,
    Reranker,
    Values,
    lengths,
    match,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ops.model.examples import Example
    from ops.model.pairs import Pair
    from pipeline.embedders.static_model import StaticModel

    Array = NDArray[np.float32]
    Rows = NDArray[np.integer[Any]]

DIMENSION: Final = 48
HIDDEN: Final = 24
BATCH: Final = 48
STEPS: Final = 9_000
RATE: Final = 1e-3
IMPORTANCE_RATE: Final = 1e-2
RATES: Final = (3e-3, 3e-2, 3e-3, 3e-3, 2e-2, 3e-3)
"""How fast the vectors, the importance of words and the shared values, in their order, learn."""
SHORTEST: Final = 1e-6
WARM_UP: Final = 50
NEAREST: Final = 50
FARTHEST: Final = 300
FROM_NEAREST: Final = 20
RIVALS: Final = 31
"""So many chunks are kept for a query, that many of its nearest ones among them; AT_A_TIME of them are drawn."""
AT_A_TIME: Final = 15
UNNAMED: Final = 0.3
"""How often a query loses the words of the definition's name, when others are left."""
DROPPED: Final = 0.1
LEAST_LEFT: Final = 2
LEARNED_OF_A_QUERY: Final = 16
SOFTENED: Final = 0.7
"""The power of the model's weight of a word that is its importance at first."""
FIRST_KERNELS: Final = (2.0, 2.0)
FIRST_DEVIATIONS: Final = (0.1, 0.7)


class Question(NamedTuple):
    """The rows of a query, and examples whose passages might answer it: the first one does."""

    rows: Rows
    answers: Sequence[Example]


class Slope(NamedTuple):
    """The loss of a question and its gradient: by `vectors` of the rows `touched`, by the importance of its words."""

    loss: float
    touched: Rows
    vectors: Array
    asked: Rows
    importance: Array
    values: Values


def first_values(chance: np.random.Generator, hidden: int = HIDDEN) -> Values:
    """Return where training begins: a word of the query counts where it, or one much like it, is."""
    kernels = np.zeros((GROUPS, len(CENTRES)), np.float32)
    kernels[:, : len(FIRST_KERNELS)] = FIRST_KERNELS
    inner, outer = FIRST_DEVIATIONS
    return Values(
        np.zeros(4, np.float32),
        kernels.ravel(),
        chance.normal(0, inner, (FEATURES + 1, hidden)).astype(np.float32),
        np.zeros(hidden, np.float32),
        chance.normal(0, outer, hidden).astype(np.float32),
        np.zeros(2, np.float32),
    )


def first_vectors(model: StaticModel, dimension: int) -> Array:
    """Return the main directions of the model's words."""
    vectors = model.vectors.astype(np.float32)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    known = units[: len(model.rows)]
    _, _, directions = np.linalg.svd(known - known.mean(axis=0), full_matrices=False)
    main: Array = units @ directions[:dimension].T
    return main


def slope(values: Values, vectors: Array, importance: Array, question: Question) -> Slope:
    """Return the softmax loss of a question, and its gradient."""
    bags = _bags_of(question.answers)
    asked, words = question.rows, np.unique(bags.rows)
    directions, of_asked = _units(vectors[asked])
    units, of_words = _units(vectors[words])
    power = np.exp(importance[asked] - importance[asked].max())
    shares = power / power.sum()
    found = match(values, (asked, directions, shares), (words, units), bags)
    chances = np.exp(found.scores - found.scores.max())
    chances /= chances.sum()
    pull = chances.astype(vectors.dtype)
    pull[0] -= 1
    by_values, by_shares, by_sums = _through_kernels(values, found, pull, shares)
    by_weights, by_near = _through_words(found, by_sums, len(words))
    by_weights += _by_masses(values, found, pull)[bags.owners]
    by_fields = np.bincount(bags.fields, by_weights * found.weights, len(values.fields)).astype(units.dtype)
    free = found.away[:, :, 0] < CLOSEST - 1 - 1e-6  # neither the same word, nor held back
    by_likeness = -(by_near * found.near * found.away / np.square(WIDTHS)).sum(axis=2) * free
    return Slope(
        -float(np.log(chances[0] + 1e-12)),
        np.concatenate([asked, words]),
        np.concatenate(
            [
                _by_raw(by_likeness.T @ units, directions, of_asked),
                _by_raw(by_likeness @ directions, units, of_words),
            ]
        ),
        asked,
        shares * (by_shares - (shares * by_shares).sum()),
        by_values._replace(fields=by_fields),
    )


def _through_kernels(values: Values, found: Match, pull: Array, shares: Array) -> tuple[Values, Array, Array]:
    """Return the gradient by the shared values but the fields', by the shares of importance, and by the sums."""
    passages, asked, _ = found.inputs.shape
    by_each = pull[:, None] * shares
    by_hidden = by_each[:, :, None] * values.outer * (1 - np.square(found.hidden))
    by_inputs = by_hidden @ values.inner.T
    by_features = by_inputs[:, :, :-1] + by_each[:, :, None] * values.kernels
    ordered = by_features.reshape(passages, asked, GROUPS, len(CENTRES)).transpose(0, 2, 1, 3)
    by_values = Values(
        np.empty(0, np.float32),
        np.einsum("nq,nqf->f", by_each, found.inputs[:, :, :-1]),
        np.tensordot(found.inputs, by_hidden, ((0, 1), (0, 1))),
        by_hidden.sum(axis=(0, 1)),
        np.einsum("nq,nqh->h", by_each, found.hidden),
        pull @ lengths(found.masses),
    )
    by_shares = pull @ found.each + IMPORTANCE * by_inputs[:, :, -1].sum(axis=0)
    return by_values, by_shares, ordered.reshape(found.sums.shape) / (1 + found.sums)


def _through_words(found: Match, by_sums: Array, words: int) -> tuple[Array, Array]:
    """Return the gradient by the weight of each word of the passages, and by the kernels of each different one."""
    back = by_sums[found.groups]
    by_weights = (found.near.reshape(words, -1)[found.inverse] * back).sum(axis=1)
    back *= found.weights[:, None]
    order = np.argsort(found.inverse, kind="stable")
    starts = np.searchsorted(found.inverse[order], np.arange(words))
    return by_weights, np.add.reduceat(back[order], starts).reshape(found.near.shape)


def _by_masses(values: Values, found: Match, pull: Array) -> Array:
    """Return the gradient by the sum of the weights of each passage's words."""
    linear, square = values.length
    by_masses: Array = pull * (linear + square * np.log1p(found.masses) / 5) / (1 + found.masses)
    return by_masses


def _units(raw: Array) -> tuple[Array, Array]:
    """Return unit vectors, and what their lengths were."""
    norms = np.sqrt(np.square(raw).sum(axis=1, keepdims=True) + SHORTEST)
    return raw / norms, norms


def _by_raw(gradient: Array, units: Array, norms: Array) -> Array:
    """Return the gradient by vectors, of the gradient by their unit vectors."""
    by_raw: Array = (gradient - units * (units * gradient).sum(axis=1, keepdims=True)) / norms
    return by_raw


def _bags_of(examples: Sequence[Example]) -> Bags:
    """Return the words of some passages."""
    return Bags(
        len(examples),
        np.concatenate([each.rows for each in examples]),
        np.concatenate([each.counts for each in examples]),
        np.concatenate([each.fields for each in examples]),
        np.repeat(np.arange(len(examples)), [len(each.rows) for each in examples]),
    )


class RerankerTrainer:
    """The parameters in training, beside a static model that stays as it is; nobody asks for the `others`."""

    def __init__(self, model: StaticModel, pairs: Sequence[Pair], others: Sequence[Pair], seed: int = 0) -> None:
        self._model = model
        self._examples = [encoded(pair, model.rows) for pair in (*pairs, *others)]
        self._chance = np.random.default_rng(seed)
        sources = [pair.source for pair in (*pairs, *others)]
        self._rivals = rivals(model, self._examples, sources, len(pairs), self._chance)
        self._values = [Adam(value, rate) for value, rate in zip(first_values(self._chance), RATES, strict=True)]
        self._vectors = Adam(first_vectors(model, DIMENSION), RATE)
        weights = np.linalg.norm(model.vectors.astype(np.float32), axis=1) * model.query_weights
        self._importance = Adam(SOFTENED * np.log(weights + 1e-3), IMPORTANCE_RATE)

    def run(self, tell: Callable[[int, float], None], steps: int, every: int = 250) -> None:
        """Train; `tell` hears the step and the mean loss now and then."""
        losses: list[float] = []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for number, batch in zip(range(1, steps + 1), self._batches(), strict=False):
                slow = (1 - (number - 1) / steps) * min(1.0, number / WARM_UP)
                questions = [self._question(at) for at in batch]
                slopes = list(threads.map(self._slope, questions))
                self._move(slopes, number, slow)
                losses += [each.loss for each in slopes]
                if number % every == 0 or number == steps:
                    tell(number, float(np.mean(losses[-every * BATCH :])))

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        able = np.flatnonzero(self._rivals[:, -1] >= 0)
        while True:
            order = self._chance.permutation(able)
            yield from np.split(order[: len(order) // BATCH * BATCH], len(order) // BATCH)

    def _question(self, at: int) -> Question:
        """Return an example's question as it is asked this time; who has the same query is no rival."""
        example = self._examples[at]
        rows, unnamed = example.query_rows, ~example.named
        if unnamed.sum() >= LEAST_LEFT and self._chance.random() < UNNAMED:
            rows = rows[unnamed]
        kept = self._chance.random(len(rows)) > DROPPED
        if kept.sum() >= LEAST_LEFT:
            rows = rows[kept]
        drawn = [self._examples[rival] for rival in self._chance.choice(self._rivals[at], AT_A_TIME, replace=False)]
        told = [each for each in drawn if not np.array_equal(each.query_rows, example.query_rows)]
        return Question(rows[:LEARNED_OF_A_QUERY], [example, *told])

    def _slope(self, question: Question) -> Slope:
        values = Values(*(each.values for each in self._values))
        return slope(values, self._vectors.values, self._importance.values, question)

    def _move(self, slopes: Sequence[Slope], number: int, slow: float) -> None:
        rows, gradient = _added([(each.touched, each.vectors) for each in slopes])
        self._vectors.step(gradient / len(slopes), number, slow, rows)
        rows, gradient = _added([(each.asked, each.importance) for each in slopes])
        self._importance.step(gradient / len(slopes), number, slow, rows)
        for at, value in enumerate(self._values):
            value.step(np.mean([each.values[at] for each in slopes], axis=0), number, slow)

    def reranker(self) -> Reranker:
        """Return what was learned so far, its vectors as whole numbers."""
        vectors, _ = whole_numbers(self._vectors.values)
        return Reranker(
            self._model,
            vectors,
            self._importance.values.astype(np.float16),
            Values(*(each.values for each in self._values)),
        )


def _added(found: Sequence[tuple[Rows, Array]]) -> tuple[Rows, Array]:
    """Return the different rows of gradients, and the sums of what belongs to each."""
    rows, gradients = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(rows, kind="stable")
    used, starts = np.unique(rows[order], return_index=True)
    return used, np.add.reduceat(gradients[order], starts)


def rivals(
    model: StaticModel,
    examples: Sequence[Example],
    sources: Sequence[str],
    asked: int,
    chance: np.random.Generator,
) -> NDArray[np.int32]:
    """Return which others of its source a search would find with each of the first `asked`, -1 where too few are."""
    fields = np.array(model.field_weights, np.float32)
    queries = _embedded(
        model,
        [(each.query_rows, each.query_counts * model.query_weights[each.query_rows]) for each in examples[:asked]],
    )
    passages = _embedded(
        model,
        [(each.rows, each.counts * model.passage_weights[each.rows] * fields[each.fields]) for each in examples],
    )
    of_source = defaultdict[str, list[int]](list)
    for at, source in enumerate(sources):
        of_source[source].append(at)
    found = np.full((asked, RIVALS), -1, np.int32)
    for members in of_source.values():
        places = np.array(members)
        some = places[places < asked]
        if len(places) > NEAREST + RIVALS and len(some):
            likeness = queries[some] @ passages[places].T
            likeness[np.arange(len(some)), np.searchsorted(places, some)] = -np.inf
            nearest = np.argsort(-likeness, axis=1)[:, :FARTHEST]
            for at, order in zip(some, nearest, strict=True):
                near, far = order[:NEAREST], order[NEAREST:]
                drawn = [chance.permutation(near)[:FROM_NEAREST], chance.permutation(far)[: RIVALS - FROM_NEAREST]]
                found[at] = places[np.concatenate(drawn)]
    return found


def _embedded(model: StaticModel, bags: Sequence[tuple[Rows, Array]]) -> Array:
    """Return the unit vectors of bags of words, given as rows and weights."""
    rows, weights = (np.concatenate(each) for each in zip(*bags, strict=True))
    starts = np.append(0, np.cumsum([len(each) for each, _ in bags])[:-1])
    sums = summed(model.vectors.astype(np.float32), rows, weights.astype(np.float32), starts)
    units: Array = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return units
