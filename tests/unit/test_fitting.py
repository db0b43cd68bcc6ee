"""An answer within a number of tokens: never over, never without its first result, nothing dropped unsaid."""

from __future__ import annotations

import re
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pipeline.fitting import CHARACTERS, RESERVED, fit
from pipeline.records import SearchHit, SearchResults, Shown
from pipeline.search import LEAST_TOKENS

QUERY: Final = "where are retries limited"
LINES: Final = st.lists(
    st.sampled_from(["", "    total = total + 1", '    return "limit \\n"', "    # retry: 日本語", "x" * 300]),
    max_size=90,
)


def hit(body: list[str], start: int = 100, name: str = "work") -> SearchHit:
    """Return a result whose lines are a signature and a body."""
    return SearchHit(
        path=f"src/{name}.py",
        start_line=start,
        end_line=start + len(body),
        symbol=f"Worker.{name}",
        kind="method",
        language="python",
        content="\n".join([f"def {name}(self):", *body]),
        score=0.5,
        repository="/src/shop",
        project_id="default",
        best_line=start,
        context=("7: class Worker:",),
    )


def answer(*hits: SearchHit) -> SearchResults:
    """Return an answer with these results."""
    return SearchResults(query=QUERY, results=hits, index_state="complete", coverage=1, limit=50, offset=0)


def characters(results: SearchResults) -> int:
    """Return how long an answer is as JSON."""
    return len(results.model_dump_json())


@given(st.lists(LINES, min_size=1, max_size=12), st.integers(LEAST_TOKENS, 6_000))
def test_an_answer_is_never_over_its_budget(bodies: list[list[str]], most: int) -> None:
    """It fits with room for what a mouth says; the first is there, the order is kept, and the counts add up (R52)."""
    whole = answer(*(hit(body, 100 * at) for at, body in enumerate(bodies)))
    fitted = fit(whole, most)
    assert characters(fitted) <= CHARACTERS * most - RESERVED + len("1212")
    assert fitted.results
    assert len(fitted.results) + fitted.omitted == len(bodies)
    assert fitted.shortened == sum(result.shown != Shown.WHOLE for result in fitted.results)
    for before, after in zip(whole.results, fitted.results, strict=False):
        assert (before.path, before.start_line, before.symbol) == (after.path, after.start_line, after.symbol)
        assert (after.content == before.content) == (after.shown == Shown.WHOLE)
        assert bool(after.content) == (after.shown != Shown.REFERENCE)


@given(st.lists(LINES, min_size=1, max_size=8))
def test_an_answer_that_fits_is_left_alone(bodies: list[list[str]]) -> None:
    """A budget that suffices changes nothing."""
    whole = answer(*map(hit, bodies))
    assert fit(whole, characters(whole) // CHARACTERS + RESERVED) == whole


@given(LINES, st.integers(LEAST_TOKENS, 2_000))
def test_every_line_that_is_shown_is_a_line_of_the_file(body: list[str], most: int) -> None:
    """Lines keep their true numbers and their order, `…` stands where others are, and never twice (R52)."""
    whole = hit(body)
    [shown] = fit(answer(whole), most).results
    if shown.shown != Shown.LINES:
        return
    lines = whole.content.split("\n")
    numbered = [re.fullmatch(r"(\d+): (.*)", line) for line in shown.content.split("\n") if line != "…"]
    numbers = [int(match[1]) for match in numbered if match]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == len(numbered)
    assert all(match and lines[int(match[1]) - 100].startswith(match[2].removesuffix("…")) for match in numbered)
    assert "\n…\n…" not in f"\n{shown.content}"


def test_the_lines_that_hold_the_query_come_before_others() -> None:
    """The signature is always there, and what was asked for before what was not, whatever its ending (R52)."""
    body = [*["    total = total + 1"] * 60, "    if retry >= self.limit:", *["    total = total - 1"] * 60]
    [shown] = fit(answer(hit(body)), 300).results
    assert shown.shown == Shown.LINES
    assert shown.content.startswith("100: def work(self):\n")
    assert "161:     if retry >= self.limit:" in shown.content.split("\n")


def test_the_best_are_whole_then_lines_then_names_then_a_count() -> None:
    """With less room for each, results shrink from the last one on (R52)."""
    whole = answer(*(hit([f"    value_{line} = {line}" for line in range(40)], name=f"work{at}") for at in range(12)))
    forms = [result.shown for result in fit(whole, 1_500).results]
    assert forms[0] == Shown.WHOLE
    assert forms == sorted(forms, key=list(Shown).index)
    assert Shown.LINES in forms
    small = fit(whole, 700)
    assert small.results[-1].shown == Shown.REFERENCE
    assert (len(small.results) + small.omitted, small.omitted > 0) == (12, True)


def test_a_result_too_long_for_any_budget_is_still_named() -> None:
    """A path can be longer than the smallest budget; the first result is there all the same."""
    long = hit(["    pass"]).model_copy(update={"path": "x" * 3_000})
    fitted = fit(answer(long, long), LEAST_TOKENS)
    assert [(result.path, result.shown) for result in fitted.results] == [(long.path, Shown.REFERENCE)]
    assert (fitted.shortened, fitted.omitted) == (1, 1)
