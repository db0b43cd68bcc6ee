"""Chunks that were found become results: neighbours joined, none twice, with what lies around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunking import chunk
from pipeline.enclosing import Head, around, context
from pipeline.merging import MOST, joined, spans
from pipeline.ranking import Candidate, Ranked


def ranked(ordinal: int, symbol: str, file_id: int = 1, kind: str = "method") -> Ranked:
    """Return a chunk that was found."""
    found = Candidate(
        id=0,
        file_id=file_id,
        ordinal=ordinal,
        start_line=10 * ordinal + 1,
        symbol=symbol,
        kind=kind,
        language="python",
        path="a.py",
        content_hash=b"",
        length=100,
        found=None,
        defines=0,
        placed=False,
        similarity=None,
    )
    return Ranked(found, 1.0)


def found(*places: tuple[int, str], file_id: int = 1) -> list[Ranked]:
    """Return chunks of one file, best first, by ordinal and symbol."""
    return [ranked(ordinal, symbol, file_id) for ordinal, symbol in places]


def covered(chunks: list[Ranked]) -> list[tuple[int, int]]:
    """Return the first and last ordinals of the spans."""
    return [(span.first, span.last) for span in spans([chunks], 99)]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(found((4, "A.f"), (9, "B"), (5, "A.f")), [(4, 5), (9, 9)], id="pieces side by side"),
        pytest.param(found((6, "A.f"), (4, "A.f")), [(4, 6)], id="the piece between two comes with them"),
        pytest.param(found((6, "A.f"), (5, "A.f"), (4, "A.f")), [(4, 6)], id="the piece between two found later"),
        pytest.param(found((1, ""), (3, "")), [(1, 1), (3, 3)], id="nothing holds two pieces of a file's top"),
        pytest.param(found((1, ""), (2, "")), [(1, 2)], id="side by side at a file's top"),
        pytest.param(found((1, "A"), (2, "A.f")), [(1, 2)], id="a class's head and its first method"),
        pytest.param(found((2, "A.f"), (1, "A")), [(1, 2)], id="a first method and the head of its class"),
        pytest.param(found((2, "A.f"), (3, "A.g")), [(2, 2), (3, 3)], id="two methods are two answers"),
        pytest.param(found((2, "A"), (3, "Ab.f")), [(2, 2), (3, 3)], id="a name that only begins alike"),
        pytest.param(found((2, "f"), (3, "g"), (4, "f")), [(2, 2), (3, 3), (4, 4)], id="never over another's chunk"),
        pytest.param(
            found((3, "f"), (4, "f"), (5, "f"), (6, "f"), (7, "f")), [(3, 5), (6, 7)], id="three chunks at most"
        ),
    ],
)
def test_neighbours_of_one_definition_are_one_result(chunks: list[Ranked], expected: list[tuple[int, int]]) -> None:
    """Pieces join, definitions beside each other do not, and a result stays small (R52)."""
    assert covered(chunks) == expected


def test_chunks_of_two_files_are_never_neighbours() -> None:
    """The same ordinals and symbols in another file are another result."""
    assert len(spans([[*found((1, "f")), *found((2, "f"), file_id=2)]], 9)) == 2


def test_a_module_joins_nothing() -> None:
    """A namespace holds all that follows, so its lines are no part of the class after them."""
    namespace = ranked(1, "App", kind="module")
    assert covered([namespace, *found((2, "App.Mailer"))]) == [(1, 1), (2, 2)]


SYMBOLS = st.sampled_from(["", "A", "A.f", "A.g", "A.f.h", "B"])
CHUNKS = st.lists(
    st.builds(ranked, st.integers(0, 12), SYMBOLS, st.integers(1, 2)),
    unique_by=lambda item: (item.candidate.file_id, item.candidate.ordinal),
)


@given(CHUNKS)
def test_every_chunk_is_in_one_result_and_results_are_in_order_of_their_best(chunks: list[Ranked]) -> None:
    """Nothing that was found is lost or shown twice, and joining never lifts a result over a better one (R52)."""
    whole = spans([chunks], 99)
    places = [(span.best.candidate.file_id, at) for span in whole for at in range(span.first, span.last + 1)]
    assert len(places) == len(set(places))
    assert {(item.candidate.file_id, item.candidate.ordinal) for item in chunks} <= set(places)
    ranks = [chunks.index(span.best) for span in whole]
    assert ranks == sorted(ranks)
    assert all(span.last - span.first < MOST for span in whole)


@given(CHUNKS, st.data(), st.integers(1, 4))
def test_pages_together_are_the_whole_list_however_deep(chunks: list[Ranked], data: st.DataObject, size: int) -> None:
    """A page that has to look deeper shows the results of those before it as they were, and no chunk again (R52)."""
    depths = [*sorted(data.draw(st.lists(st.integers(0, len(chunks)), max_size=3))), len(chunks)]
    rounds = [data.draw(st.permutations(chunks[:depth])) for depth in depths]
    whole = spans(rounds, 99)
    pages = [spans(rounds, start + size)[start : start + size] for start in range(0, len(whole), size)]
    assert [span for page in pages for span in page] == whole
    places = [(span.best.candidate.file_id, at) for span in whole for at in range(span.first, span.last + 1)]
    assert len(places) == len(set(places))


@given(st.lists(st.sampled_from(["", "def f():", "    x = 1", "    y = 2", "class A:", "# a note", "z" * 70])))
def test_joined_chunks_are_the_lines_of_the_file(lines: list[str]) -> None:
    """Blank lines between chunks come back, and the parts of a line that was cut are one line again."""
    text = "\n".join(lines)
    chunks = chunk(text, "python", limit=30)
    whole = joined((each.start_line, each.end_line, each.content) for each in chunks)
    assert whole == text.strip("\n")


# --- what lies around -------------------------------------------------------------------------------------------------

HEAD = 'class Shop:\n    """Sells."""\n\n    limit = 3\n'
METHOD = "    @handles('order')\n    # handle is called by the bus\n    def handle(self, order):\n        return"
COMMENT = "/**\n * A Shop is where things are sold.\n */"


def head(path: str, start_line: int, content: str, symbol: str | None = None, kind: str = "class") -> Head:
    """Return one of the first chunks of a definition."""
    return Head(path, path if symbol is None else symbol, kind, start_line, content)


@pytest.mark.parametrize(
    ("content", "heads", "expected"),
    [
        pytest.param(
            "        return self.handle(order.rest)",
            [head("Shop.handle", 250, METHOD), head("Shop", 10, HEAD)],
            ("10: class Shop:", "252: def handle(self, order):"),
            id="the middle of a method",
        ),
        pytest.param("    def sell(self):", [head("Shop", 10, HEAD)], ("10: class Shop:",), id="a whole method"),
        pytest.param("def load(a, b):", [head("load", 5, "def load(a): ...")], (), id="an overload of itself"),
        pytest.param(
            "  int sell();",
            [head("Shop", 1, COMMENT), head("Shop", 4, "class Shop {\n  Shop() {}")],
            ("4: class Shop {",),
            id="a class after a long comment",
        ),
        pytest.param("  int x;", [head("Shop", 1, COMMENT)], (), id="a comment that names it is not its line"),
        pytest.param(
            "int f();", [head("shop", 1, "namespace shop {", kind="block")], (), id="a namespace says nothing"
        ),
        pytest.param(
            "int g();", [head("Shop", 9, "int Shop::f() {", "Shop.f")], (), id="a method outside of its class"
        ),
        pytest.param(
            "Add the malt.",
            [head("Brewing", 1, "# Brewing\n\nMalt", kind="section")],
            ("1: # Brewing",),
            id="a section",
        ),
        pytest.param("    x = 1", [head("Shop.<anonymous>", 1, "go(() => {")], (), id="a name that no line has"),
        pytest.param("  x", [head("f", 1, "def f(" + "a" * 300)], (f"1: def f({'a' * 153}…",), id="a long line"),
    ],
)
def test_a_result_shows_the_definitions_that_hold_it(
    content: str, heads: list[Head], expected: tuple[str, ...]
) -> None:
    """The line that names each of them, the outermost first, not the decorator or comment before it (R52)."""
    assert context(content, 300, heads) == expected


def test_the_innermost_definitions_are_looked_for_first() -> None:
    """A dotted path names the definitions around; the top of a file has none."""
    assert around("a.b.C.d") == ["a.b.C.d", "a.b.C", "a.b"]
    assert around("Guide.Limits.") == ["Guide.Limits", "Guide"]
    assert around("") == []
