"""How good answers are: the usual measures at ten, their means over sources, and how sure these are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ops.bench.quality.records import Answered

    Answers = Mapping[str, Sequence[Answered]]
    """By system; of every system the answers to the same questions in the same order."""

DEPTH: Final = 10
FEW_LINES: Final = 100
RESAMPLES: Final = 1_000
SEED: Final = 20_261
TAILS: Final = (2.5, 97.5)
LEAST: Final = 10
"""A source with fewer questions does not count in a mean of sources, where each of them would weigh too much."""


class Scores(NamedTuple):
    """The measures of one answer, or their means."""

    mrr: float
    recall_1: float
    recall_10: float
    ndcg: float
    early: float
    """Whether the first right answer ends within the first hundred lines."""


class Interval(NamedTuple):
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """What a system came to in a task, over all sources, those of a language, or one."""

    task: str
    scope: str
    name: str
    system: str
    queries: int
    mrr: Interval
    recall_1: Interval
    recall_10: Interval
    ndcg: Interval
    early: Interval
    ahead: Interval
    """By how much its MRR@10 is above that of the first system, question by question."""


def scores(answered: Answered) -> Scores:
    """Return the measures of one answer."""
    rank = answered.rank
    if rank is None or rank > DEPTH:
        return Scores(0.0, 0.0, 0.0, 0.0, 0.0)
    gain = _gain(answered) if answered.question.every else 1 / log2(rank + 1)
    lines = sum(hit.last - hit.first + 1 for hit in answered.hits[:rank])
    return Scores(1 / rank, float(rank == 1), 1.0, gain, float(lines <= FEW_LINES))


def _gain(answered: Answered) -> float:
    """Return the NDCG@10 where every right answer is wanted: a hit counts for those that none before it met."""
    left, gain = set(answered.question.answers), 0.0
    ideal = sum(1 / log2(place + 1) for place in range(1, min(len(left), DEPTH) + 1))
    for place, hit in enumerate(answered.hits[:DEPTH], 1):
        if met := {answer for answer in left if hit.meets(answer)}:
            gain += 1 / log2(place + 1)
            left -= met
    return gain / ideal


def rows(answers: Answers) -> list[Row]:
    """Return what every system came to in every task: over all, a language, a source."""
    return [row for task in _tasks(answers) for row in _of_task(task, answers)]


def _tasks(answers: Answers) -> list[str]:
    return list(dict.fromkeys(each.question.task for of_system in answers.values() for each in of_system))


def _of_task(task: str, answers: Answers) -> Iterator[Row]:
    chosen = {name: [each for each in found if each.question.task == task] for name, found in answers.items()}
    sources = _by_source(chosen)
    asked = {each.question.source: each.question.language for each in next(iter(chosen.values()))}
    counted = [source for source in asked if len(sources[source]) >= LEAST] or list(asked)
    languages = defaultdict(list)
    for source in counted:
        languages[asked[source]].append(source)
    scopes = [("all", "", counted), *(("language", name, found) for name, found in languages.items())]
    for scope, name, members in (*scopes, *(("source", name, [name]) for name in asked)):
        yield from _of_scope(task, (scope, name), [sources[member] for member in members], list(answers))


def _by_source(chosen: Answers) -> dict[str, NDArray[np.float64]]:
    """Return for each source the scores, shape (questions, systems, measures)."""
    parts: dict[str, list[list[Scores]]] = defaultdict(list)
    for answered in zip(*chosen.values(), strict=True):
        parts[answered[0].question.source].append([scores(each) for each in answered])
    return {source: np.array(found) for source, found in parts.items()}


def _of_scope(
    task: str, scope: tuple[str, str], sources: Sequence[NDArray[np.float64]], systems: Sequence[str]
) -> Iterator[Row]:
    values = np.mean([found.mean(axis=0) for found in sources], axis=0)
    spread = resampled(sources)
    for at, system in enumerate(systems):
        measures = (_interval(values[at, of], spread[:, at, of]) for of in range(len(Scores._fields)))
        mrr, first, tenth, ndcg, early = measures
        ahead = _interval(values[at, 0] - values[0, 0], spread[:, at, 0] - spread[:, 0, 0])
        yield Row(task, *scope, system, sum(map(len, sources)), mrr, first, tenth, ndcg, early, ahead)


def resampled(sources: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over sources for each of many draws of as many questions, with replacement, of every source.

    Sources have shape (questions, systems, measures), the result (draws, systems, measures). Systems share the draws,
    so that their difference is that of pairs.
    """
    chance = np.random.default_rng(SEED)
    means = []
    for found in sources:
        drawn = chance.multinomial(len(found), np.full(len(found), 1 / len(found)), size=RESAMPLES)
        means.append(np.tensordot(drawn / len(found), found, axes=1))
    return np.asarray(np.mean(means, axis=0))


def _interval(value: float, draws: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(draws, TAILS)
    return Interval(float(value), float(low), float(high))
