"""Which languages are parsed, how a parser is got, and what a definition is."""

from __future__ import annotations

import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Final

from tree_sitter import Language, Parser

from pipeline.grammars.tables import GRAMMARS

if TYPE_CHECKING:
    from tree_sitter import Node, Point

PARSE_SECONDS: Final = 5.0
SYNTAX_AWARE: Final = frozenset(GRAMMARS)
CRASHED_BY_WIDE: Final = frozenset({"bash"})
"""Its scanner asks C's isdigit() about any character, and reads out of bounds for one beyond ASCII."""
_NARROWED: Final = bytes(code if code < 128 else ord("_") for code in range(256))  # noqa: PLR2004 - the end of ASCII

_local = threading.local()


def parse(source: bytes, language: str, *, seconds: float = PARSE_SECONDS) -> Node | None:
    """Return the root of the syntax tree of UTF-8 text, or None when parsing took longer than `seconds`.

    Rows count newlines only. Raises KeyError for a language without a grammar.
    """
    content = memoryview(source.translate(_NARROWED) if language in CRASHED_BY_WIDE else source)
    deadline = time.monotonic() + seconds
    parser = _parser(language)

    def read(offset: int, _: Point) -> memoryview:
        return content[offset:]

    def late(_offset: int, _has_error: bool) -> bool:  # noqa: FBT001 (tree-sitter calls it)
        return time.monotonic() > deadline

    try:
        return parser.parse(read, progress_callback=late).root_node
    except ValueError:
        parser.reset()
        return None


def _parser(language: str) -> Parser:
    """Return this thread's parser: parsers keep state, so that threads cannot share them."""
    parsers: dict[str, Parser] = _local.__dict__.setdefault("parsers", {})
    if language not in parsers:
        grammar = GRAMMARS[language]
        entry = getattr(import_module(grammar.module), grammar.entry)
        parsers[language] = Parser(Language(entry()))
    return parsers[language]
