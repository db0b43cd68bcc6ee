"""Finds the lines that say which definitions hold a result: the signature of its method, the line of its class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 3
"""How many definitions are looked for around a result, the innermost first."""
LINE_LENGTH: Final = 160

_WRAPPER = re.compile(r"\s*(?:pub |inline )?(?:namespace|package|module|mod)\b")
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
    """One of the first chunks of a definition, whose dotted path is `path`, with the chunk's own symbol and kind."""

    path: str
    symbol: str
    kind: str
    start_line: int
    content: str


def around(symbol: str) -> list[str]:
    """Return the dotted paths of the definitions that a symbol names or lies in, the innermost first."""
    names = symbol.split(".") if symbol else []
    return [".".join(names[:end]) for end in range(len(names), 0, -1) if names[end - 1].strip()][:MOST]


def context(content: str, start_line: int, heads: Iterable[Head]) -> tuple[str, ...]:
    """Return the first lines of the definitions around a result, outermost first: `250: def handle(self, request):`.

    A definition that the result begins with needs none.
    """
    own = signature(lines_of(content, start_line))
    opened: dict[str, tuple[Head, Line]] = {}
    for head in heads:
        if head.path not in opened and (line := _opening(head)) is not None:
            opened[head.path] = head, line
    held = {line.number: line.text for head, line in opened.values() if _holds(head, line, own)}
    return tuple(f"{number}: {_short(held[number])}" for number in sorted(held) if number < start_line)


def lines_of(content: str, start_line: int) -> list[Line]:
    """Return a text's lines with their numbers."""
    return [Line(number, text) for number, text in enumerate(content.split("\n"), start_line)]


def signature(lines: list[Line]) -> Line:
    """Return the first line that is code, where none is the first."""
    return next((line for line in lines if line.is_code), lines[0])


def _opening(head: Head) -> Line | None:
    """Return the first line of code in a chunk that names its definition; a section is named by its heading."""
    name = _naming(head.path)
    named = (line for line in lines_of(head.content, head.start_line) if name.search(line.text))
    return next((line for line in named if line.is_code or head.kind == "section"), None)


def _holds(head: Head, line: Line, own: Line) -> bool:
    """Tell the line of a definition around another from that of a namespace, of what is inside, and of an overload."""
    inside = head.symbol != head.path and _naming(head.symbol).search(line.text)
    overload = own.indent <= line.indent and _naming(head.path).search(own.text)
    return not (inside or overload or _WRAPPER.match(line.text))


def _naming(path: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(path.rpartition('.')[2])}(?!\w)")


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 1] + "…"
