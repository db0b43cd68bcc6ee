"""Pairs as numbers: the rows and weights of their words, batches of neighbours, and how well the right one is found."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from ops.bench.quality.stemming import stem
from pipeline.embedders.static_model import Fields, bucket_of, fields_of
from pipeline.tokenizing import subwords

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ops.model.pairs import Pair

WORDS: Final = 32_000
BUCKETS: Final = 4_096
LEAST_SEEN: Final = 3
MOST_OF_A_QUERY: Final = 4
"""How many pairs of one source may have the same query: of generated code there are hundreds."""
LONGEST_FIELD: Final = 400
BATCH: Final = 512
GROUP: Final = 256


@dataclass(frozen=True, slots=True)
class Example:
    """A pair's words: rows, square roots of their counts, and for the passage the field that each is in.

    `named` says which words of the query are in the definition's name, whatever their endings.
    """

    query_rows: NDArray[np.int32]
    query_counts: NDArray[np.float32]
    named: NDArray[np.bool_]
    rows: NDArray[np.int32]
    counts: NDArray[np.float32]
    fields: NDArray[np.int8]


@cache
def words_of(pair: Pair) -> tuple[list[str], Fields | tuple[list[str], ...]]:
    """Return the words of the query and of each field; a query does not begin with the name, as Go's comments do."""
    fields = tuple(subwords(text)[:LONGEST_FIELD] for text in fields_of(pair.passage))
    name, query = subwords(pair.name), subwords(pair.query)
    return query[len(name) :] if pair.language == "go" and query[: len(name)] == name else query, fields


def vocabulary(pairs: Iterable[Pair]) -> dict[str, int]:
    """Return the commonest words with their rows, the same ones each time."""
    seen: Counter[str] = Counter()
    for pair in pairs:
        query, fields = words_of(pair)
        seen.update({word for words in (query, *fields) for word in words})
    commonest = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    return {word: row for row, (word, times) in enumerate(commonest) if times >= LEAST_SEEN}


def encoded(pair: Pair, rows: Mapping[str, int]) -> Example:
    """Return a pair as numbers."""
    query, fields = words_of(pair)
    counts = [Counter(_row(word, rows) for word in words) for words in fields]
    found = [(row, times, at) for at, field in enumerate(counts) for row, times in field.items()]
    asked = Counter(_row(word, rows) for word in query)
    name = {stem(word) for word in subwords(pair.name)}
    named = {_row(word, rows) for word in query if stem(word) in name}
    return Example(
        np.array(list(asked), np.int32),
        np.sqrt(np.array(list(asked.values()), np.float32)),
        np.array([row in named for row in asked], np.bool_),
        np.array([row for row, _, _ in found], np.int32),
        np.sqrt(np.array([times for _, times, _ in found], np.float32)),
        np.array([field for _, _, field in found], np.int8),
    )


def _row(word: str, rows: Mapping[str, int]) -> int:
    return rows[word] if word in rows else bucket_of(word, rows, BUCKETS)


def chosen(pairs: Iterable[Pair], most: int) -> list[Pair]:
    """Return up to `most` pairs of each source, few of them with the same query."""
    of_source: Counter[str] = Counter()
    of_query: Counter[str] = Counter()
    kept = []
    for pair in pairs:
        if of_source[pair.source] < most and of_query[pair.query] < MOST_OF_A_QUERY and len(words_of(pair)[0]) > 2:  # noqa: PLR2004
            of_source[pair.source] += 1
            of_query[pair.query] += 1
            kept.append(pair)
    return kept


def beside(pairs: Iterable[Pair], most: int) -> list[Pair]:
    """Return up to half of `most` chunks of each source that nothing is written about."""
    of_source: Counter[str] = Counter()
    kept = []
    for pair in pairs:
        if not pair.query and of_source[pair.source] < most // 2 and any(words_of(pair)[1]):
            of_source[pair.source] += 1
            kept.append(pair)
    return kept


def batches(pairs: Sequence[Pair], chance: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield batches of positions for ever: groups of one source and language, whose members are hard to tell apart."""
    groups = defaultdict(list)
    for at, pair in enumerate(pairs):
        groups[pair.source, pair.language].append(at)
    while True:
        shuffled = [chance.permutation(group) for group in groups.values()]
        blocks = [group[start : start + GROUP] for group in shuffled for start in range(0, len(group), GROUP)]
        order = np.concatenate([blocks[at] for at in chance.permutation(len(blocks))])
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


def reciprocal_ranks(
    queries: NDArray[np.float32], passages: NDArray[np.float32], sources: Sequence[str], depth: int = 10
) -> NDArray[np.float64]:
    """Return 1 / rank of each query's own passage among those of its source, 0 beyond `depth`."""
    found = np.zeros(len(sources))
    names = np.array(sources)
    for name in sorted(set(sources)):
        places = np.flatnonzero(names == name)
        scores = queries[places] @ passages[places].T
        ranks = (scores > scores.diagonal()[:, None]).sum(axis=1) + 1
        found[places] = np.where(ranks <= depth, 1 / ranks, 0)
    return found
