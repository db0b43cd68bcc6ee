"""Splits the text of a file into chunks of whole lines that follow its syntax.

The syntax tree is opened from the top until every piece fits; neighbours are then packed together again as long as one
symbol names them (cAST's split-then-merge, on lines). Pieces partition the lines, so that coverage never depends on the
tree. Nothing recurses, and the work is linear in the text.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from pipeline.grammars import parse
from pipeline.grammars.siblings import Group, below, grouped, inside
from pipeline.grammars.tables import GRAMMARS
from pipeline.packing import CLASS_KINDS, Piece, Scope, joined, packed
from pipeline.records import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

    from pipeline.grammars.rules import Definition, Grammar

KINDS: Final = (
    "function",
    "method",
    "class",
    "interface",
    "struct",
    "enum",
    "type",
    "module",
    "variable",
    "table",
    "rule",
    "entry",
    "section",
    "block",
    "text",
)

# Sizes are counted in non-blank characters.
SMALL: Final = {"method": 200, "variable": 200, "section": 200, "rule": 1_000_000, "entry": 1_000_000}
"""Below this size a definition may share a chunk with its neighbours."""
SMALL_OTHERWISE: Final = 80
MAX_DEPTH: Final = 100
"""Deeper than this, text is split by lines: no code that a person wrote nests so far."""
SYMBOL_LENGTH: Final = 400
"""Of a longer dotted path only the end is kept: the innermost names are what is searched for."""
LONG_LINES: Final = 500
"""With lines of more characters than this on average the text was generated, and syntax cannot help."""

_PROSE = frozenset({"markdown", "text", "rst"})
_BLANK = b" \t\r\x0b\x0c\x1c\x1d\x1e\x1f"
_WIDE_BLANK = re.compile(r"[^\S\x00-\x7f]")


def chunk(source: str, language: str, *, limit: int = 1_500) -> list[Chunk]:
    """Split the text of a file into chunks of at most `limit` non-blank characters, in order.

    Every non-blank line is in exactly one chunk. Only a line that is longer than the limit is cut, into chunks with the
    same line number. Languages without a grammar, and text that a parser cannot finish in time, are split by lines.
    """
    text = _Text(source, limit)
    top = Scope("", "text" if language in _PROSE or language not in GRAMMARS else "block")
    root = parse(text.utf8, language) if language in GRAMMARS and text.has_lines else None
    if root is None:
        pieces = list(text.split(0, len(text.lines), top, 0))
    else:
        pieces = _Outline(text, GRAMMARS[language], top).pieces(root)
    return [text.chunk(piece) for piece in joined(packed(pieces, limit), text.lines, limit)]


class _Task(NamedTuple):
    """A group of siblings to place; without a scope it is in the file's, which a namespace may change on the way."""

    group: Group
    depth: int
    scope: Scope | None


class _Text:
    """The lines of a file, without their ends, and their sizes."""

    def __init__(self, source: str, limit: int) -> None:
        self.lines = source.split("\n")
        if "\r" in source:
            self.lines = [line.rstrip("\r") for line in self.lines]
            source = "\n".join(self.lines)
        self.utf8 = source.encode(errors="replace")
        self.limit = limit
        self.names: dict[int, list[str]] = {}
        """The definitions that begin in a row, by their dotted path."""
        self.has_lines = len(source) < LONG_LINES * len(self.lines)
        self._before = [0, *accumulate(_sizes(source))]

    def size(self, start: int, end: int) -> int:
        """Return the number of non-blank characters in the lines [start, end)."""
        return self._before[end] - self._before[start]

    def split(self, start: int, end: int, scope: Scope, depth: int) -> Iterator[Piece]:
        """Split the lines [start, end) into paragraphs, those that are too long into lines, and these anywhere."""
        for first, last in self._paragraphs(start, end):
            if self.size(first, last) <= self.limit:
                yield self._lines(first, last, scope, depth)
                continue
            for row in range(first, last):
                size = self.size(row, row + 1)
                if size > self.limit:
                    yield from self._cuts(row, scope)
                elif size:
                    yield self._lines(row, row + 1, scope, depth + 2)

    def chunk(self, piece: Piece) -> Chunk:
        """Return the chunk of a piece, without the blank lines around it."""
        start, end = piece.start, piece.end
        if piece.cut is not None:
            return Chunk(end, end, piece.symbol, piece.kind, piece.cut, self._names(start, end))
        while not self.size(start, start + 1):
            start += 1
        while not self.size(end - 1, end):
            end -= 1
        content = "\n".join(self.lines[start:end])
        return Chunk(start + 1, end, piece.symbol, piece.kind, content, self._names(start, end))

    def _names(self, start: int, end: int) -> tuple[str, ...]:
        rows = range(start, end) if self.names else ()
        return tuple(name for row in rows for name in self.names.get(row, ()))

    def _paragraphs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        first = start
        for row in range(start + 1, end):
            if self.size(row, row + 1) and not self.size(row - 1, row):
                if self.size(first, row):
                    yield first, row
                first = row
        if self.size(first, end):
            yield first, end

    def _lines(self, start: int, end: int, scope: Scope, depth: int) -> Piece:
        depth += self.lines[start][:1].isspace()
        return Piece(start, end, self.size(start, end), depth, scope, scope.symbol, scope.kind, loose=True)

    def _cuts(self, row: int, scope: Scope) -> Iterator[Piece]:
        line, start = self.lines[row], 0
        while start < len(line):
            end = start + self.limit
            if end < len(line):
                late = end - self.limit // 5
                end = 1 + max(line.rfind(mark, late, end) for mark in " ,;") or end
            part = line[start:end]
            if not part.isspace():
                yield Piece(row, row + 1, self.limit, 0, scope, scope.symbol, scope.kind, loose=False, cut=part)
            start = end


def _sizes(source: str) -> Iterator[int]:
    """Return the number of non-blank characters of every line."""
    if not source.isascii():
        source = _WIDE_BLANK.sub(" ", source)
    # One byte a character, whatever it is: counting bytes of whole texts is what makes this cheap.
    return map(len, source.encode("ascii", "replace").translate(None, _BLANK).split(b"\n"))


class _Outline:
    """Opens the syntax tree of a file from the top, until every piece fits."""

    def __init__(self, text: _Text, grammar: Grammar, top: Scope) -> None:
        self._text = text
        self._rules = grammar.rules
        self._opened = grammar.open | {"ERROR"}
        self._file_scope = top
        self._found: list[Piece] = []
        self._stack: list[_Task] = []
        self._heads: set[int] = set()

    def pieces(self, root: Node) -> list[Piece]:
        """Return the pieces of the whole file, in order."""
        self._push(root.children, 0, len(self._text.lines), 0, None)
        while self._stack:
            task = self._stack.pop()
            if self._text.size(task.group.start, task.group.end):
                self._place(task, task.scope or self._file_scope)
        return self._found

    def _place(self, task: _Task, scope: Scope) -> None:
        found = self._definition(task.group)
        if found is None or (found.kind == "module" and not found.rest and task.group.end - task.group.start == 1):
            self._place_statement(task, scope)
        elif found.rest:
            self._file_scope = Scope(found.name, found.kind)
            self._place_statement(task, self._file_scope)
        else:
            self._place_definition(task, found, scope)

    def _place_statement(self, task: _Task, scope: Scope) -> None:
        group = task.group
        if self._fits(group.start, group.end) and self._opened.isdisjoint(group.types):
            self._add(task, group.start, scope, scope, loose=True)
        else:
            self._open(task, below(group.nodes), scope if task.scope else None, scope)

    def _place_definition(self, task: _Task, found: Definition, scope: Scope) -> None:
        start, end, lead, *_ = task.group
        symbol = f"{scope.symbol}.{found.name}"[-SYMBOL_LENGTH:] if scope.symbol else found.name
        inner = Scope(symbol, "method" if found.kind == "function" and scope.kind in CLASS_KINDS else found.kind)
        whole = found.kind != "module"
        self._text.names.setdefault(lead, []).append(symbol)
        if whole and self._fits(start, end):
            self._note_members(found, inner)
            small = SMALL.get(inner.kind, SMALL_OTHERWISE)
            self._add(task, start, scope, inner, loose=self._text.size(start, end) < small)
        elif whole and start < lead and self._fits(lead, end):
            self._found.extend(self._text.split(start, lead, inner, task.depth))
            self._add(task, lead, scope, inner, loose=False)
        else:
            self._heads.add(start)
            self._open(task, inside(found.node, self._rules), inner, inner)

    def _note_members(self, found: Definition, scope: Scope) -> None:
        """Note what a class that stays whole defines: nothing else would look into it."""
        if scope.kind not in CLASS_KINDS:
            return
        for node in inside(found.node, self._rules):
            rule = self._rules.get(node.type)
            if rule is not None and (member := rule(node, self._text.utf8)) is not None:
                symbol = f"{scope.symbol}.{member.name}"[-SYMBOL_LENGTH:]
                self._text.names.setdefault(node.start_point[0], []).append(symbol)

    def _definition(self, group: Group) -> Definition | None:
        for node, kind in zip(group.nodes, group.types, strict=True):
            rule = self._rules.get(kind)
            if rule is not None and (found := rule(node, self._text.utf8)) is not None:
                return found
        return None

    def _fits(self, start: int, end: int) -> bool:
        return self._text.size(start, end) <= self._text.limit

    def _add(self, task: _Task, start: int, scope: Scope, named: Scope, *, loose: bool) -> None:
        end, head = task.group.end, start in self._heads
        size = self._text.size(start, end)
        self._found.append(Piece(start, end, size, task.depth, scope, named.symbol, named.kind, loose, head))

    def _open(self, task: _Task, children: list[Node], inner: Scope | None, scope: Scope) -> None:
        start, end, *_ = task.group
        if children and task.depth < MAX_DEPTH:
            self._push(children, start, end, task.depth + 1, inner)
        else:
            self._found.extend(self._text.split(start, end, scope, task.depth))

    def _push(self, siblings: list[Node], start: int, end: int, depth: int, scope: Scope | None) -> None:
        tasks = [_Task(group, depth, scope) for group in grouped(siblings, start, end)]
        self._stack.extend(reversed(tasks))
