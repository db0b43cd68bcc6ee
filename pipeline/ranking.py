"""The order of what a search found: each signal adds to a chunk's score."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.querying import Query

PROSE: Final = frozenset({"markdown", "rst", "text", "asciidoc", "org", "tex", "html"})
FLATTEST: Final = 1e-6
_TEST = re.compile(r"(?:^|/)(?:tests?|testing|specs?|__tests__|testdata|fixtures)/|(?:^|/)(?:test_[^/]*|conftest\.py)$"
                   r"|[._-](?:test|tests|spec)\.\w+$|Tests?\.\w+$")  # fmt: skip
_ASIDE = re.compile(
    r"(?:^|/)(?:examples?|samples?|demos?|benchmarks?|bench|vendor|vendored|_vendor|third_party|external|deps|legacy"
    r"|deprecated|compat|generated|locale|locales|i18n|migrations|stubs)/|\.d\.ts$|\.pyi$|_pb2\.py$|\.pb\.go$"
)
_SPEAKS_OF_TESTS = re.compile(r"(?:^|[^a-z])(?:tests?|testing|specs?|fixtures?)(?:[^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signals:
    """How much each signal counts, in standard deviations of a ranking; 0 turns it off.

    `vectors` and `words` are the two rankings. `definition` is for a chunk that defines what the query names, `path`
    for a file that it names. Against a chunk count `tests` (it is a test, and the query does not speak of tests),
    `aside` (an example, a copy of others' code, generated), `prose` (it is no code), `fragment` (it is the middle of
    something long) and `duplicates` (another says the same).
    """

    vectors: float = 1.0
    words: float = 1.0
    definition: float = 2.0
    path: float = 4.0
    tests: float = 1.0
    aside: float = 0.5
    prose: float = 0.5
    duplicates: float = 3.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that was found: where it is, and what speaks for it.

    `similarity` is the cosine of its vector and the query's, None where there are none to compare; `worth` is what its
    words are worth; `defines` is 1 for a definition of a name of the query and 2 for one of the whole name.
    """

    id: int
    repository_id: int
    file_id: int
    ordinal: int
    start_line: int
    end_line: int
    symbol: str
    kind: str
    language: str
    path: str
    content_hash: bytes
    worth: float
    defines: int
    placed: bool
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate and its score; scores of different queries do not compare."""

    candidate: Candidate
    score: float


def rank(candidates: Sequence[Candidate], query: Query, signals: Signals, depth: int) -> list[Ranked]:
    """Return the candidates, best first; equals by their place.

    Both rankings are brought to one scale by the mean and the deviation of their best `depth`.
    """
    similar = _Scale.of((c.similarity for c in candidates if c.similarity is not None), depth)
    worth = _Scale.of((c.worth for c in candidates if c.worth > 0), depth)
    about_tests = bool(_SPEAKS_OF_TESTS.search(query.text))
    ranked = []
    for found in candidates:
        score = signals.vectors * similar(found.similarity) + signals.words * worth(found.worth)
        score += signals.definition * found.defines + signals.path * found.placed
        score -= signals.tests * (not about_tests and bool(_TEST.search(found.path)))
        score -= signals.aside * bool(_ASIDE.search(found.path)) + signals.prose * (found.language in PROSE)
        ranked.append(Ranked(found, score))
    ranked.sort(key=_order)
    return _without_copies_first(ranked, signals.duplicates)


def _order(ranked: Ranked) -> tuple[float, str, int, int]:
    found = ranked.candidate
    return -ranked.score, found.path, found.ordinal, found.id


@dataclass(frozen=True, slots=True)
class _Scale:
    """Brings the best numbers to mean 0 and deviation 1; what is missing is as bad as the worst of them."""

    mean: float
    deviation: float
    worst: float

    @classmethod
    def of(cls, numbers: Iterable[float], depth: int) -> _Scale:
        best = sorted(numbers, reverse=True)[:depth]
        if not best:
            return cls(0.0, 1.0, 0.0)
        mean = sum(best) / len(best)
        variance = sum((number - mean) ** 2 for number in best) / len(best)
        return cls(mean, max(variance**0.5, FLATTEST), best[-1])

    def __call__(self, number: float | None) -> float:
        return ((number or self.worst) - self.mean) / self.deviation


def _without_copies_first(ranked: list[Ranked], penalty: float) -> list[Ranked]:
    """Put what says the same as something better behind, by the penalty."""
    seen: set[bytes] = set()
    judged = []
    for item in ranked:
        copied = item.candidate.content_hash in seen
        seen.add(item.candidate.content_hash)
        judged.append(Ranked(item.candidate, item.score - penalty) if copied else item)
    judged.sort(key=_order)
    return judged
