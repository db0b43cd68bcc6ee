"""Finds the lines that say which definitions hold a result: the signature of its method, the line of its class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 3
"""How many definitions are looked for around a result, the innermost first."""
LINE_LENGTH: Final = 160

_NOT_CODE = re.compile(r"\s*(?:$|#|//|/\*|\*|--|;|@|\"\"\"|'''|<!--)")


class Line(NamedTuple):
    """A line of a file, by its number."""

    number: int
    text: str

    @property
    def is_code(self) -> bool:
        """Whether it is more than a comment or a decorator."""
        return not _NOT_CODE.match(self.text)

    @property
    def indent(self) -> int:
        """How far it is indented, in characters."""
        return len(self.text) - len(self.text.lstrip())


class Head(NamedTuple):
    """The chunk that opens a definition: the definition's dotted path, the chunk's first line and its text."""

    path: str
    start_line: int
    content: str


def around(symbol: str) -> list[str]:
    """Return the dotted paths of the definitions that a symbol names or lies in, the innermost first."""
    names = symbol.split(".") if symbol else []
    return [".".join(names[:end]) for end in range(len(names), 0, -1)][:MOST]


def context(content: str, start_line: int, heads: Iterable[Head]) -> tuple[str, ...]:
    """Return the first lines of the definitions around a result, outermost first: `250: def handle(self, request):`.

    A definition that the result begins with needs none.
    """
    own = signature(lines_of(content, start_line))
    found = {line.number: line for head in heads if (line := _opening(head, own)) and line.number < start_line}
    return tuple(f"{number}: {_short(found[number].text)}" for number in sorted(found))


def lines_of(content: str, start_line: int) -> list[Line]:
    """Return a text's lines with their numbers."""
    return [Line(number, text) for number, text in enumerate(content.split("\n"), start_line)]


def signature(lines: list[Line]) -> Line:
    """Return the first line that is code, where none is the first."""
    return next((line for line in lines if line.is_code), lines[0])


def _opening(head: Head, own: Line) -> Line | None:
    """Return the line that names a definition; None when the result's own first line does, as an overload's."""
    name = re.compile(rf"(?<!\w){re.escape(head.path.rpartition('.')[2])}(?!\w)")
    named = [line for line in lines_of(head.content, head.start_line) if name.search(line.text)]
    if not named:
        return None
    line = signature(named)
    return None if name.search(own.text) and own.indent <= line.indent else line


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 1] + "…"
