"""The order of candidates: what speaks for a chunk and what against it, one signal at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from pipeline.querying import parse, terms
from pipeline.ranking import Candidate, Ranked, Signals, bm25f, rank, reranked

PLAIN: Final = Candidate(
    id=1,
    file_id=1,
    ordinal=0,
    start_line=1,
    symbol="deliver",
    kind="function",
    language="python",
    path="src/mail.py",
    content_hash=b"1",
    length=750,
    found={"letter": ("D", [9])},
    defines=0,
    placed=False,
    similarity=0.5,
)
OTHER: Final = PLAIN._replace(id=2, path="zoo/other.py", content_hash=b"2")
TERMS: Final = terms([("letter", [3], 3), ("send", [1], 40)], 100)
SENTENCE: Final = "send a letter to the post office"


def order(*candidates: Candidate, query: str = SENTENCE, signals: Signals | None = None) -> list[int]:
    """Return the ids of the candidates, best first."""
    return [item.candidate.id for item in rank(candidates, parse(query), TERMS, signals or Signals(), 100)]


@pytest.mark.parametrize(
    ("better", "worse", "query", "signal"),
    [
        (OTHER._replace(similarity=0.6), PLAIN, SENTENCE, "vectors"),
        (OTHER._replace(found={"letter": ("DD", [9]), "send": ("D", [9])}), PLAIN, SENTENCE, "words"),
        (
            OTHER._replace(found={"letter": ("A", [9])}),
            PLAIN._replace(found={"letter": ("DDDDD", [9])}),
            SENTENCE,
            "names",
        ),
        (OTHER._replace(defines=1), PLAIN, "deliver", "definition"),
        (
            OTHER._replace(found={"letter": ("D", [9]), "send": ("D", [7])}),
            PLAIN._replace(found={"letter": ("D", [9]), "send": ("D", [8])}),
            SENTENCE,
            "phrase",
        ),
        (OTHER._replace(defines=2), PLAIN._replace(defines=1), "Mailer.deliver", "definition"),
        (OTHER, PLAIN._replace(symbol="_Deliver"), "deliver", "spelling"),
        (OTHER._replace(placed=True), PLAIN, "zoo/other.py", "path"),
        (OTHER, PLAIN._replace(path="tests/mail.py"), SENTENCE, "tests"),
        (OTHER, PLAIN._replace(path="mail.spec.ts"), SENTENCE, "tests"),
        (OTHER, PLAIN._replace(kind="variable"), SENTENCE, "data"),
        (OTHER, PLAIN._replace(language="markdown"), SENTENCE, "prose"),
    ],
)
def test_each_signal_decides_between_equals(better: Candidate, worse: Candidate, query: str, signal: str) -> None:
    """With a signal the better one is first; without it the two are equal, and their place decides, or it turns."""
    near = PLAIN._replace(id=3, similarity=0.1, found={"send": ("D", [9])}, path="zzz.py", content_hash=b"3")
    off = replace(Signals(), **{signal: 0.0})
    assert order(worse, better, near, query=query)[0] == better.id
    if signal not in {"names", "words"}:
        assert order(worse, better, near, query=query, signals=off)[0] == worse.id


@pytest.mark.parametrize(
    "quoting",
    [OTHER._replace(path="tests/mail.py"), OTHER._replace(path=".ci/run"), OTHER._replace(language="markdown")],
)
def test_what_quotes_the_code_is_behind_the_code(quoting: Candidate) -> None:
    """A test, a script of CI or a document with the query's very words does not beat code that has some of them."""
    quote = quoting._replace(found={"letter": ("D", [9]), "send": ("D", [7])})
    code = PLAIN._replace(found={"letter": ("D", [9]), "send": ("D", [4])})
    assert order(quote, code)[0] == code.id


def test_a_query_about_tests_finds_tests() -> None:
    """Who speaks of tests wants them."""
    test = PLAIN._replace(path="tests/mail.py")
    assert order(OTHER, test) == [2, 1]
    assert order(OTHER, test, query="the test that sends a letter") == [1, 2]


def test_a_copy_comes_behind_what_says_something_else() -> None:
    """The same text in another place is no second answer."""
    copy = PLAIN._replace(id=3, path="vendor/mail.py")
    assert order(PLAIN, copy, OTHER._replace(similarity=0.45)) == [1, 2, 3]
    assert order(PLAIN, copy, OTHER._replace(similarity=0.45), signals=Signals(copies=0)) == [1, 3, 2]


def test_without_vectors_the_words_decide() -> None:
    """A chunk that no vector was compared with is neither lost nor preferred."""
    bare = PLAIN._replace(similarity=None)
    assert order(bare, bare._replace(id=2, found={"letter": ("AD", [9])})) == [2, 1]
    assert order() == []


def test_bm25f_weighs_fields_and_damps_length_and_repetition() -> None:
    """A name tells more than a comment, a rare word more than a common one, and a tenth occurrence next to nothing."""
    worth = [bm25f(PLAIN._replace(found={"letter": (fields, [9])}), TERMS) for fields in ("C", "D", "DD", "A")]
    assert worth == sorted(worth)
    assert bm25f(PLAIN._replace(length=3_000), TERMS) < bm25f(PLAIN, TERMS)
    assert bm25f(PLAIN._replace(found={"send": ("D", [9])}), TERMS) < bm25f(PLAIN, TERMS)
    often = [bm25f(PLAIN._replace(found={"letter": ("D" * count, [9])}), TERMS) for count in (1, 2, 10, 11)]
    assert often[1] - often[0] > 5 * (often[3] - often[2])


def test_what_was_not_reranked_counts_as_the_worst_that_was() -> None:
    """Further scores move the first ones among each other; one behind them passes only those that fell below it."""
    ranking = [Ranked(PLAIN._replace(id=at), score=float(5 - at)) for at in range(4)]
    again = reranked(ranking, [-1.0, 1.0, -1.0], 1.5)
    assert [(item.candidate.id, item.score) for item in again] == [(1, 5.5), (0, 3.5), (2, 1.5), (3, 0.5)]
    assert reranked([], [], 1.5) == []
