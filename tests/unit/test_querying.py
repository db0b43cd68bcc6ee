"""What is read from a query's text, and which of its words are worth looking up."""

from __future__ import annotations

from math import log

import pytest

from pipeline.querying import definition_keys, matching, parse, terms


@pytest.mark.parametrize(
    ("text", "names", "paths", "exact"),
    [
        ("send_all", ("=sendall",), (), True),
        ("Mailer.send_all", ("=mailer.sendall", "=sendall"), (), True),
        ("std::vector::push_back()", ("=vector.pushback", "=pushback"), (), True),
        ("class Mailer", ("=mailer",), (), True),
        ("def send_all", ("=sendall",), (), True),
        ("retry policy", ("=retrypolicy",), (), False),
        ("where does parse_url drop the port", ("=parseurl",), (), False),
        ("who calls MailQueue when a letter is sent", ("=mailqueue",), (), False),
        ("Table for each Mailer of a Task", (), (), False),
        ("how long to wait before the next attempt", (), (), False),
        ("src/mail/sender.py", (), ("src/mail/sender.py",), False),
        ("timeouts in http/client.go", ("=timeoutsin",), ("http/client.go",), False),
        ("settings.py", ("=settings.py", "=py"), ("settings.py",), True),
        ("???", (), (), False),
    ],
)
def test_a_query_says_what_it_names(text: str, names: tuple[str, ...], paths: tuple[str, ...], exact: object) -> None:
    """Names by their spelling, with what they lie in first; paths by their slashes and endings; the rest is words."""
    query = parse(text)
    assert (query.names, query.paths, query.exact) == (names, paths, exact)


def test_a_definition_is_found_however_its_name_is_written() -> None:
    """Case and underscores do not count; of what it lies in, only the innermost does."""
    assert definition_keys("app.Mailer.sendAll") == ("=sendall", "=mailer.sendall")
    assert definition_keys("send_all()") == ("=sendall",)
    assert definition_keys("_") == ()


def test_rare_terms_tell_more() -> None:
    """The weight is BM25's idf: of the share of the chunks that do not hold the term."""
    found = terms([("common", [1], 900), ("rare", [2], 0), ("usual", [3], 100)], 1000)
    assert [term.lexeme for term in found] == ["rare", "usual", "common"]
    assert found[1].weight == pytest.approx(log(1 + 900.5 / 100.5))
    assert found[0].weight > found[1].weight > found[2].weight > 0


def test_without_counts_all_terms_tell_the_same() -> None:
    """During the first load nobody has counted yet."""
    assert len({term.weight for term in terms([("a", [1], 0), ("b", [2], 0)], 0)}) == 1


def test_common_terms_are_looked_up_in_pairs() -> None:
    """Alone as long as the budget lasts, then together: what holds one common word only is not worth a look."""
    counts = {"rare": 0, "seldom": 50, "get": 5_000, "set": 6_000, "self": 9_000}
    found = terms([(lexeme, [1], chunks) for lexeme, chunks in counts.items()], 10_000)
    assert matching(found, ["=getset"], 10_000, 4_000) == "'=getset' | 'rare' | 'seldom' | ('get' & 'set')"
    assert matching(terms([("self", [1], 9_000)], 10_000), [], 10_000, 4_000) == "'self'"
    assert matching([], [], 10_000, 4_000) == ""
    common = terms([("get", [1], 5_000), ("self", [2], 9_000)], 10_000)
    assert matching(common, ["=getself"], 10_000, 4_000) == "'=getself' | ('get' & 'self')"
    assert matching(common[:1], [], 10_000, 4_000) == "'get'"
    assert matching(terms([("it's", [1], 1), ("a\\b", [2], 2)], 10), [], 10, 9) == r"'it''s' | 'a\\b'"
