"""The order of what a search found: each signal adds to a chunk's score."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise, repeat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.querying import Query, Term

PROSE: Final = frozenset({"markdown", "rst", "text", "asciidoc", "org", "tex", "html"})
FIELDS: Final[Mapping[str, float]] = {"A": 5.0, "B": 1.0, "C": 0.7, "D": 1.0}
"""What an occurrence counts by its field."""
SATURATION: Final = 2.0
LENGTH_COUNTS: Final = 0.6
USUAL_LENGTH: Final = 750
"""The k1, b and average length, in characters, of BM25; like FIELDS found with the develop set of ops/bench/quality."""
FLATTEST: Final = 1e-6
_TEST = re.compile(r"(?:^|/)(?:tests?|testing|specs?|__tests__|testdata|fixtures)/|(?:^|/)(?:test_[^/]*|conftest\.py)$"
                   r"|[._-](?:test|tests|spec)\.\w+$|Tests?\.\w+$|(?:^|/)\.(?:ci|circleci|github|gitlab)/")  # fmt: skip
_NAMES = re.compile(r"\w+")
_SPEAKS_OF_TESTS = re.compile(r"(?:^|[^a-z])(?:tests?|testing|specs?|fixtures?)(?:[^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signals:
    """How much each signal counts, in standard deviations of a ranking; 0 turns it off.

    `vectors` and `words` are the two rankings. For a chunk count `names` (the share of the query's words in the names
    that it defines), `definition` (it defines what the query is the name of), `spelling` (and letter by letter),
    `phrase` (words that stand side by side in the query do so in its code: the square of their share) and `path` (it
    is in a file that the query names). Against it count `tests` (it is a test or run by CI, and the query does not
    speak of tests), `data` (it is a variable, which mostly is a table of values), `prose` (it is no code) and `copies`
    (something better says the same). Tests and prose quote what code says, and have no `phrase`. By all this the first
    are chosen, for which `reranker` counts, too: how well their words match those of the query.
    """

    vectors: float = 1.0
    words: float = 0.6
    names: float = 1.0
    definition: float = 3.0
    spelling: float = 1.5
    phrase: float = 8.0
    path: float = 8.0
    tests: float = 5.0
    data: float = 1.0
    prose: float = 1.0
    copies: float = 3.0
    reranker: float = 1.5


class Candidate(NamedTuple):
    """A chunk that was found: where it is, and what speaks for it.

    `length` is in characters. `found` holds the query's lexemes that it has, each with the fields of its occurrences
    (A a name that it defines, B what it lies in, C a comment, D the rest) and their positions. `defines` is 1 for a
    definition of a name of the query and 2 for one of the whole name. `similarity` is the cosine of its vector and the
    query's, None where there are none to compare.
    """

    id: int
    file_id: int
    ordinal: int
    start_line: int
    symbol: str
    kind: str
    language: str
    path: str
    content_hash: bytes
    length: int
    found: Mapping[str, tuple[str, Sequence[int]]] | None
    defines: int
    placed: bool
    similarity: float | None


class Ranked(NamedTuple):
    """A candidate and its score; scores of different queries do not compare.

    `covered` is the share of the query's words that it has, by what they tell.
    """

    candidate: Candidate
    score: float
    covered: float = 0.0


def rank(
    candidates: Sequence[Candidate], query: Query, terms: Sequence[Term], signals: Signals, depth: int
) -> list[Ranked]:
    """Return the candidates, best first; equals by their place.

    Both rankings are brought to one scale by the mean and the deviation of their best `depth`.
    """
    similar = _scaled([found.similarity for found in candidates], depth)
    worth = _scaled([bm25f(found, terms) for found in candidates], depth)
    neighbours = pairs(terms)
    total = sum(term.weight for term in terms)
    told = {term.lexeme: term.weight / total for term in terms}
    ranked = [
        Ranked(
            found,
            signals.vectors * nearness + signals.words * value + _bonus(found, query, told, neighbours, signals),
            share(found, told),
        )
        for found, nearness, value in zip(candidates, similar, worth, strict=True)
    ]
    return _copies_behind(sorted(ranked, key=_order), signals.copies)


def reranked(ranked: Sequence[Ranked], scores: Sequence[float], weight: float) -> list[Ranked]:
    """Return a ranking whose first items got further scores; all others count as the worst of these."""
    worst = min(scores, default=0.0)
    added = chain(scores, repeat(worst))
    return sorted(
        (item._replace(score=item.score + weight * more) for item, more in zip(ranked, added, strict=False)), key=_order
    )


def bm25f(candidate: Candidate, terms: Sequence[Term]) -> float:
    """Return what a chunk's words are worth: BM25 with a weight for each field (Zaragoza and others, TREC 2004)."""
    damping = 1 - LENGTH_COUNTS + LENGTH_COUNTS * candidate.length / USUAL_LENGTH
    found, worth = candidate.found or {}, 0.0
    for term in terms:
        if held := found.get(term.lexeme):
            often = sum(map(FIELDS.__getitem__, held[0])) / damping
            worth += term.weight * often * (SATURATION + 1) / (often + SATURATION)
    return worth


def share(candidate: Candidate, told: Mapping[str, float], field: str = "") -> float:
    """Return how much of what the lexemes tell a chunk has, or has in a field, from 0 to 1."""
    found = candidate.found or {}
    return sum(told.get(lexeme, 0.0) for lexeme, (fields, _) in found.items() if field in fields)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two lexemes that stand side by side in a query, how far apart, and their share of what all its pairs tell."""

    left: str
    right: str
    gap: int
    share: float


def pairs(terms: Sequence[Term]) -> list[Pair]:
    """Return the neighbours of a query, in order; a pair tells as much as the less telling of the two."""
    order = sorted((position, term.lexeme, term.weight) for term in terms for position in term.positions)
    total = sum(min(left[2], right[2]) for left, right in pairwise(order))
    return [
        Pair(left, right, right_at - left_at, min(left_weight, right_weight) / total)
        for (left_at, left, left_weight), (right_at, right, right_weight) in pairwise(order)
    ]


def phrase(candidate: Candidate, pairs: Sequence[Pair]) -> float:
    """Return how much of what the pairs tell stands side by side in a chunk too, from 0 to 1."""
    found, held = candidate.found or {}, 0.0
    for pair in pairs:
        if pair.left in found and pair.right in found:
            places = found[pair.right][1]
            held += pair.share * any(place + pair.gap in places for place in found[pair.left][1])
    return held


def _bonus(
    candidate: Candidate, query: Query, told: Mapping[str, float], neighbours: Sequence[Pair], signals: Signals
) -> float:
    """Return what speaks for a candidate and against it beside the two rankings."""
    is_test = _is_test(candidate.path) and not _SPEAKS_OF_TESTS.search(query.text)
    is_prose = candidate.language in PROSE
    return (
        signals.names * share(candidate, told, "A")
        + signals.phrase * (0 if is_test or is_prose else phrase(candidate, neighbours) ** 2)
        + signals.definition * query.exact * candidate.defines
        + signals.spelling * (query.exact and _own_name(candidate.symbol) == _own_name(query.text))
        + signals.path * candidate.placed
        - signals.tests * is_test
        - signals.data * (candidate.kind == "variable")
        - signals.prose * is_prose
    )


@lru_cache(maxsize=10_000)
def _is_test(path: str) -> bool:
    return _TEST.search(path) is not None


def _own_name(symbol: str) -> list[str]:
    return _NAMES.findall(symbol)[-1:]


def _order(ranked: Ranked) -> tuple[float, str, int, int]:
    found = ranked.candidate
    return -ranked.score, found.path, found.ordinal, found.id


def _scaled(numbers: Sequence[float | None], depth: int) -> list[float]:
    """Bring the best `depth` numbers to mean 0 and deviation 1; the others are as good as the worst of these."""
    best = sorted((number for number in numbers if number), reverse=True)[:depth]
    if not best:
        return [0.0] * len(numbers)
    mean = sum(best) / len(best)
    deviation = max((sum((number - mean) ** 2 for number in best) / len(best)) ** 0.5, FLATTEST)
    return [(max(number or best[-1], best[-1]) - mean) / deviation for number in numbers]


def _copies_behind(ranked: list[Ranked], penalty: float) -> list[Ranked]:
    """Put what says the same as something better behind, by the penalty."""
    seen: set[bytes] = set()
    judged = []
    for item in ranked:
        copied = item.candidate.content_hash in seen
        seen.add(item.candidate.content_hash)
        judged.append(item._replace(score=item.score - penalty) if copied else item)
    judged.sort(key=_order)
    return judged
