"""Chunks cover a text: whole lines, in order, none lost, none twice, none too long, whatever the text is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.chunking import SYMBOL_LENGTH, chunk
from pipeline.grammars import parse
from pipeline.grammars.tables import GRAMMARS
from tests.unit.test_chunking_symbols import SNIPPETS

if TYPE_CHECKING:
    from pipeline.records import Chunk

LANGUAGES: Final = [*GRAMMARS, "text", "perl"]
SOURCES: Final = {language: snippet.filled() for language, snippet in SNIPPETS.items()}
FRAGMENTS: Final = [
    *("{", "}", "(", ")", "[", "]", "<", ">", '"', "'", '"""', "`", "/*", "*/", "//", "#", "--", "```", "<!--"),
    *("\n", "\n\n", "\r\n", "\t", "    ", "\f", "\v", "\0", "\x85", "\u2028", "\u3000", "é", "日本語", "🙂", "\ud800"),
    *("def f():", "class A", "fn main", "end", "if", "x = 1;", "$$", "key:", "- ", "@a", "\\", "x" * 90, "a b " * 60),
]

relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def size(text: str) -> int:
    """Return the number of non-blank characters."""
    return sum(map(len, text.split()))


def assert_covers(source: str, chunks: list[Chunk], limit: int) -> None:
    """Check all that chunks promise about their text."""
    lines = [line.rstrip("\r") for line in source.split("\n")]
    sizes = [size(line) for line in lines]
    covered: list[int] = []
    parts: dict[int, list[str]] = {}
    for piece in chunks:
        assert 0 < size(piece.content) <= limit
        if sizes[piece.start_line - 1] > limit:
            assert piece.start_line == piece.end_line
            parts.setdefault(piece.start_line, []).append(piece.content)
        else:
            assert piece.content == "\n".join(lines[piece.start_line - 1 : piece.end_line])
            covered += range(piece.start_line, piece.end_line + 1)
    assert covered == sorted(set(covered))
    assert [piece.start_line for piece in chunks] == sorted(piece.start_line for piece in chunks)
    assert {row for row, length in enumerate(sizes, 1) if length} <= {*covered, *parts}
    for row, contents in parts.items():
        assert "".join("".join(contents).split()) == "".join(lines[row - 1].split())


@pytest.mark.parametrize("language", LANGUAGES)
@relaxed
@given(data=st.data())
def test_no_line_is_lost_or_doubled_in_any_language(language: str, data: st.DataObject) -> None:
    """Texts put together from syntax, blanks and broken pieces are covered exactly (R42)."""
    pieces = data.draw(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=30), max_size=60))
    limit = data.draw(st.integers(20, 300))
    source = "".join(pieces)
    assert_covers(source, chunk(source, language, limit=limit), limit)


@pytest.mark.parametrize("language", GRAMMARS)
@relaxed
@given(data=st.data())
def test_broken_code_loses_nothing(language: str, data: st.DataObject) -> None:
    """Real code that was cut, doubled and spoilt anywhere is covered exactly (R42)."""
    source = SOURCES[data.draw(st.sampled_from([language, *SOURCES]))]
    for _ in range(data.draw(st.integers(0, 4))):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(source))] * 2)))
        source = source[:start] + data.draw(st.sampled_from(["", source[start:end] * 2, *FRAGMENTS])) + source[end:]
    limit = data.draw(st.sampled_from([30, 120, 400, 1_500]))
    assert_covers(source, chunk(source, language, limit=limit), limit)


@relaxed
@given(st.text(alphabet="ab \t\n\r\f\x85\u3000é", max_size=400), st.integers(1, 50))
@example("a" * 7 + " " * 20 + "b" * 7, 5)
@example("\n\n\n", 10)
@example("", 10)
def test_text_is_covered_at_any_limit(source: str, limit: int) -> None:
    """Limits down to one character and texts of blanks only are no exception."""
    assert_covers(source, chunk(source, "text", limit=limit), limit)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "source",
    [
        "[" * 10_000 + "]" * 10_000,
        "[\n" * 3_000 + "]\n" * 3_000,
        "{ (\n" * 5_000,
        "x = 1; " * 150_000,
        "a: [" + "1, " * 20_000 + "]\n" + "# after\n",
        "\n" * 20_000 + "last",
        "\ufeffx\n" + "'" * 3_000 + "\n'",
        "".join(
            f"{{{chr(code)} {{{{{chr(code)}\n" for code in range(0x80, 0x110000, 0x400) if not 0xD800 <= code < 0xE000
        ),
    ],
    ids=["deep line", "deep lines", "open", "one long line", "long then short", "blank", "quotes", "any character"],
)
def test_hostile_texts_are_covered(language: str, source: str) -> None:
    """Deep nesting, a line of a megabyte and unclosed quotes neither recurse nor lose text (R42)."""
    assert_covers(source, chunk(source, language), 1_500)


@pytest.mark.parametrize("language", GRAMMARS)
def test_windows_line_ends_change_nothing(language: str) -> None:
    """The same file checked out with CRLF has the same chunks, so that its embeddings are reused (R44)."""
    source = SOURCES[language]
    assert chunk(source.replace("\n", "\r\n"), language) == chunk(source, language)
    assert chunk(source.rstrip("\n"), language) == chunk(source, language)


def test_a_form_feed_or_other_separator_is_no_line_end() -> None:
    """Only a newline counts, as in editors and in git."""
    source = "a\fb\n\vc\x85d\u2028e\nf\rg\n"
    assert [(c.start_line, c.end_line, c.content) for c in chunk(source, "text")] == [
        (1, 3, "a\fb\n\vc\x85d\u2028e\nf\rg")
    ]


def test_a_parser_that_takes_too_long_is_given_up() -> None:
    """Parsing past its time gives no tree, and the parser still works afterwards."""
    source = ("x = [1, 2, 3]\n" * 20_000).encode()
    assert parse(source, "python", seconds=-1) is None
    assert parse(b"x = 1\n", "python") is not None


def test_text_without_a_tree_is_split_by_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a parser cannot finish in time is indexed all the same (R42)."""
    monkeypatch.setattr("pipeline.chunking.parse", lambda *_: None)
    chunks = chunk(SOURCES["python"], "python", limit=300)
    assert_covers(SOURCES["python"], chunks, 300)
    assert {piece.symbol for piece in chunks} == {""}


def test_threads_do_not_share_a_parser() -> None:
    """Chunks made in four threads at once are those made alone."""
    expected = {language: chunk(source, language) for language, source in SOURCES.items()}
    results: list[bool] = []

    def work() -> None:
        results.extend(chunk(source, language) == expected[language] for language, source in SOURCES.items())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4 * len(SOURCES)


def test_text_is_cut_at_blank_lines() -> None:
    """A paragraph that fits stays whole, and the cut is before the line that is not indented."""
    paragraph = "word " * 20 + "\n  indented\n\n  after a blank line\n\n"
    chunks = chunk(paragraph * 6, "text", limit=250)
    assert [piece.start_line for piece in chunks] == [1, 11, 21]


def test_a_long_line_is_cut_between_words() -> None:
    """The parts of a line that is too long keep its number, its text and its words."""
    line = "alpha beta, " * 300
    chunks = chunk(f"first\n{line}\nlast", "text", limit=100)
    parts = [piece for piece in chunks if piece.start_line == 2]
    assert "".join(piece.content for piece in parts) == line
    assert all(piece.content.endswith((" ", ",")) for piece in parts)
    assert [piece.content for piece in chunks if piece not in parts] == ["first", "last"]


def test_a_long_comment_leaves_its_function_whole() -> None:
    """When comment and function do not fit together, the comment goes first, under the function's name."""
    source = "import os\n\n" + "# why it is so\n" * 40 + "def first():\n" + "    compute(alpha)\n" * 40
    chunks = chunk(source, "python", limit=700)
    assert [(c.start_line, c.symbol, c.kind) for c in chunks] == [
        (1, "", "block"),
        (3, "first", "function"),
        (43, "first", "function"),
    ]


def test_a_large_function_is_cut_between_statements() -> None:
    """Parts of a function carry its name, and a statement that fits is never torn."""
    block = "    if alpha:\n" + "        compute(alpha, beta)\n" * 4
    chunks = chunk("def first():\n" + block * 12, "python", limit=300)
    assert {(piece.symbol, piece.kind) for piece in chunks} == {("first", "function")}
    assert all(piece.content.startswith("    if alpha:") for piece in chunks[1:])


def test_small_neighbours_share_a_chunk() -> None:
    """Many one-line functions make one chunk of what holds them, not one each."""
    source = "class A:\n" + "".join(f"    def m{number}(self): return {number}\n" for number in range(60))
    chunks = chunk(source, "python", limit=1_000)
    assert len(chunks) == 2
    assert {(piece.symbol, piece.kind) for piece in chunks} == {("A", "class")}


def test_a_symbol_keeps_its_innermost_names() -> None:
    """Deep nesting does not make names without end."""
    depth = 80
    opened = "".join(f'{" " * level}"{"key" * 10}{level}": {{\n' for level in range(depth))
    chunks = chunk("{\n" + opened + '"last": 1\n' + "}\n" * (depth + 1), "json", limit=100)
    assert max(len(piece.symbol) for piece in chunks) == SYMBOL_LENGTH
    assert any(piece.symbol.endswith("key60") for piece in chunks)
