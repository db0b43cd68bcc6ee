"""The reranker: what its scores say, and how it learns them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from ops.model.examples import BUCKETS, encoded, vocabulary
from ops.model.pairs import Pair
from ops.model.reranking import Question, RerankerTrainer, first_values, slope
from pipeline.embedders import Passage
from pipeline.embedders.static_model import WEIGHTS, StaticModel
from pipeline.reranking import Values, load, save

if TYPE_CHECKING:
    from pathlib import Path

    from ops.model.examples import Example

DELAY: Final = Passage("Retry.delay", "def delay(self, attempt):\n    return min(2**attempt, self.longest)")
TOTAL: Final = Passage("Till.total", "def total(self):\n    return sum(item.price for item in self.items)")
OPEN: Final = Passage("open_shop", "def open_shop(street, number):\n    return Shop(street, number)")
QUESTION: Final = "how long to wait before the next attempt"


def test_the_passage_that_says_it_matches_best() -> None:
    """What shares or means the query's words is ahead, wherever it stands among the others."""
    for passages in ([DELAY, TOTAL, OPEN], [OPEN, TOTAL, DELAY]):
        scores = load().scores(QUESTION, passages)
        assert max(scores) == scores[passages.index(DELAY)]
        assert (np.mean(scores), np.std(scores)) == pytest.approx((0, 1), abs=1e-5)


def test_the_same_passage_scores_the_same() -> None:
    """A copy is as good as what it is a copy of."""
    first, _, second = load().scores(QUESTION, [DELAY, TOTAL, DELAY])
    assert first == pytest.approx(second)


@pytest.mark.parametrize("query", ["", "?!", "一 二", "\udcff", "x " * 900])
def test_odd_queries_are_answered(query: str) -> None:
    """A query without words, with words that nobody knows, or with many, is no error."""
    assert len(load().scores(query, [DELAY, Passage("", "...\n{}"), Passage("", "")])) == 3


def test_nothing_to_match_says_nothing() -> None:
    """Without a word in the query or in any passage all passages are equal; without passages there are no scores."""
    assert load().scores("?!", [DELAY, TOTAL]) == [0, 0]
    assert load().scores(QUESTION, [Passage("", "{}"), Passage("", "()")]) == [0, 0]
    assert load().scores(QUESTION, []) == []


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """A reranker that was written with its model gives the same scores."""
    known = load()
    for file in ("model.json", "vocabulary.txt", "gains.npy", "vectors.npy"):
        (tmp_path / file).symlink_to(WEIGHTS / file)
    save(known, tmp_path)
    assert load(tmp_path).scores(QUESTION, [DELAY, TOTAL]) == known.scores(QUESTION, [DELAY, TOTAL])


THINGS: Final = [f"{first}{second}" for first in "bdfgklmp" for second in "aeioruvy"]


def pairs() -> list[Pair]:
    """Return pairs whose queries and passages have no word in common, but always the same words for the same thing."""
    return [
        Pair("shop", "python", "function", f"ask {thing}x", Passage(f"{thing}z", f"def {thing}z():\n    tell"))
        for thing in THINGS * 4
    ]


def setting() -> tuple[StaticModel, list[Example]]:
    """Return a model of chance, and the pairs as numbers."""
    rows = vocabulary(pairs())
    chance = np.random.default_rng(6)
    size = len(rows) + BUCKETS
    vectors = chance.integers(-127, 128, (size, 64)).astype(np.int8)
    ones = np.ones(size, np.float32)
    return StaticModel("chance", rows, vectors, ones, ones, (1, 1, 1, 1)), [encoded(pair, rows) for pair in pairs()]


def trained(steps: int) -> RerankerTrainer:
    """Return a trainer after some steps."""
    model, _ = setting()
    trainer = RerankerTrainer(model, pairs(), pairs()[:9])
    trainer.run(lambda _step, _loss: None, steps)
    return trainer


def found(trainer: RerankerTrainer) -> float:
    """Return how often the right one of all things is first."""
    passages = [pair.passage for pair in pairs()[: len(THINGS)]]
    scores = [trainer.reranker().scores(f"ask {thing}x", passages) for thing in THINGS]
    return float(np.mean([np.argmax(each) == at for at, each in enumerate(scores)]))


def test_training_finds_what_words_mean() -> None:
    """What is asked for in other words is found after training."""
    assert found(trained(1)) < 0.1
    assert found(trained(200)) > 0.4


def test_training_is_repeatable() -> None:
    """The same pairs give the same weights, bit by bit."""
    first, second = trained(3).reranker(), trained(3).reranker()
    assert np.array_equal(first.vectors, second.vectors)
    assert all(np.array_equal(*each) for each in zip(first.values, second.values, strict=True))


def test_the_gradient_is_that_of_the_loss() -> None:
    """Moving every parameter a little changes the loss as the gradient says."""
    model, examples = setting()
    chance = np.random.default_rng(7)
    words = replace(examples[0], rows=np.arange(9, dtype=np.int32), counts=np.sqrt(np.arange(1, 10, dtype=np.float32)),
                    fields=np.sort(np.arange(9) % 4).astype(np.int8))  # fmt: skip
    question = Question(np.array([3, 60, 5], np.int32), [words, *examples[1:6]])
    vectors, importance = chance.standard_normal((2, len(model.vectors), 16))
    values = Values._make(each + chance.normal(0, 0.3, each.shape) for each in first_values(chance))
    found = slope(values, vectors, importance[:, 0], question)
    moves = Values._make(chance.normal(0, 1e-6, each.shape) for each in values)
    move, heavier = chance.normal(0, 1e-6, vectors.shape), chance.normal(0, 1e-6, len(importance))
    losses = [
        slope(
            Values._make(value + way * moved for value, moved in zip(values, moves, strict=True)),
            vectors + way * move,
            importance[:, 0] + way * heavier,
            question,
        ).loss
        for way in (1, -1)
    ]
    expected = sum(float((gradient * moved).sum()) for gradient, moved in zip(found.values, moves, strict=True))
    expected += float((found.vectors * move[found.touched]).sum() + (found.importance * heavier[found.asked]).sum())
    assert (losses[0] - losses[1]) / 2 == pytest.approx(expected, rel=1e-3)
