"""Splits the text of a file into chunks of whole lines that follow its syntax.

The syntax tree is opened from the top until every piece fits; neighbours are then packed together again as long as one
symbol names them (cAST's split-then-merge, on lines). Pieces partition the lines, so that coverage never depends on the
tree. Nothing recurses, and the work is linear in the text.
"""

from __future__ import annotations

import re
import sys
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from pipeline.grammars import parse
from pipeline.grammars.siblings import Group, below, grouped, inside
from pipeline.grammars.tables import GRAMMARS
from pipeline.records import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
STRAY: Final = 80
"""A piece outside any definition that is smaller than this goes with a definition beside it."""
MAX_DEPTH: Final = 100
"""Deeper than this, text is split by lines: no code that a person wrote nests so far."""
SYMBOL_LENGTH: Final = 400
"""Of a longer dotted path only the end is kept: the innermost names are what is searched for."""
LONG_LINES: Final = 500
"""With lines of more characters than this on average the text was generated, and syntax cannot help."""

_CLASS_KINDS = frozenset({"class", "interface", "struct", "enum"})
_OPENED_ALONE = _CLASS_KINDS | {"function", "method"}
_PROSE = frozenset({"markdown", "text", "rst"})
_CLOSER = re.compile(r"[\W_]*(?:end[\W_]*)*")
_BLANK = b" \t\r\x0b\x0c\x1c\x1d\x1e\x1f"
_WIDE_BLANK = re.compile(r"[^\S\x00-\x7f]")


def chunk(source: str, language: str, *, limit: int = 1_500) -> list[Chunk]:
    """Split the text of a file into chunks of at most `limit` non-blank characters, in order.

    Every non-blank line is in exactly one chunk. Only a line that is longer than the limit is cut, into chunks with the
    same line number. Languages without a grammar, and text that a parser cannot finish in time, are split by lines.
    """
    text = _Text(source, limit)
    top = _Scope("", "text" if language in _PROSE or language not in GRAMMARS else "block")
    root = parse(text.utf8, language) if language in GRAMMARS and text.has_lines else None
    if root is None:
        pieces = list(text.split(0, len(text.lines), top, 0))
    else:
        pieces = _Outline(text, GRAMMARS[language], top).pieces(root)
    return [text.chunk(piece) for piece in _joined(_packed(pieces, limit), text)]


class _Scope(NamedTuple):
    """What holds a piece: its dotted path ("" at the top of a file) and its kind."""

    symbol: str
    kind: str


class _Piece(NamedTuple):
    """Lines [start, end) of a file that stay together.

    Loose pieces of one scope may share a chunk; `depth` tells how good a place its start is for a cut (0 is best); a
    `cut` is a part of the one line that is too long. The `head` of a definition opens it.
    """

    start: int
    end: int
    size: int
    depth: int
    scope: _Scope
    symbol: str
    kind: str
    loose: bool
    head: bool = False
    cut: str | None = None


class _Task(NamedTuple):
    """A group of siblings to place; without a scope it is in the file's, which a namespace may change on the way."""

    group: Group
    depth: int
    scope: _Scope | None


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

    def split(self, start: int, end: int, scope: _Scope, depth: int) -> Iterator[_Piece]:
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

    def chunk(self, piece: _Piece) -> Chunk:
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

    def _lines(self, start: int, end: int, scope: _Scope, depth: int) -> _Piece:
        depth += self.lines[start][:1].isspace()
        return _Piece(start, end, self.size(start, end), depth, scope, scope.symbol, scope.kind, loose=True)

    def _cuts(self, row: int, scope: _Scope) -> Iterator[_Piece]:
        line, start = self.lines[row], 0
        while start < len(line):
            end = start + self.limit
            if end < len(line):
                late = end - self.limit // 5
                end = 1 + max(line.rfind(mark, late, end) for mark in " ,;") or end
            part = line[start:end]
            if not part.isspace():
                yield _Piece(row, row + 1, self.limit, 0, scope, scope.symbol, scope.kind, loose=False, cut=part)
            start = end


def _sizes(source: str) -> Iterator[int]:
    """Return the number of non-blank characters of every line."""
    if not source.isascii():
        source = _WIDE_BLANK.sub(" ", source)
    # One byte a character, whatever it is: counting bytes of whole texts is what makes this cheap.
    return map(len, source.encode("ascii", "replace").translate(None, _BLANK).split(b"\n"))


class _Outline:
    """Opens the syntax tree of a file from the top, until every piece fits."""

    def __init__(self, text: _Text, grammar: Grammar, top: _Scope) -> None:
        self._text = text
        self._rules = grammar.rules
        self._opened = grammar.open | {"ERROR"}
        self._file_scope = top
        self._found: list[_Piece] = []
        self._stack: list[_Task] = []
        self._heads: set[int] = set()

    def pieces(self, root: Node) -> list[_Piece]:
        """Return the pieces of the whole file, in order."""
        self._push(root.children, 0, len(self._text.lines), 0, None)
        while self._stack:
            task = self._stack.pop()
            if self._text.size(task.group.start, task.group.end):
                self._place(task, task.scope or self._file_scope)
        return self._found

    def _place(self, task: _Task, scope: _Scope) -> None:
        found = self._definition(task.group)
        if found is None or (found.kind == "module" and not found.rest and task.group.end - task.group.start == 1):
            self._place_statement(task, scope)
        elif found.rest:
            self._file_scope = _Scope(found.name, found.kind)
            self._place_statement(task, self._file_scope)
        else:
            self._place_definition(task, found, scope)

    def _place_statement(self, task: _Task, scope: _Scope) -> None:
        group = task.group
        if self._fits(group.start, group.end) and self._opened.isdisjoint(group.types):
            self._add(task, group.start, scope, scope, loose=True)
        else:
            self._open(task, below(group.nodes), scope if task.scope else None, scope)

    def _place_definition(self, task: _Task, found: Definition, scope: _Scope) -> None:
        start, end, lead, *_ = task.group
        symbol = f"{scope.symbol}.{found.name}"[-SYMBOL_LENGTH:] if scope.symbol else found.name
        inner = _Scope(symbol, "method" if found.kind == "function" and scope.kind in _CLASS_KINDS else found.kind)
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

    def _note_members(self, found: Definition, scope: _Scope) -> None:
        """Note what a class that stays whole defines: nothing else would look into it."""
        if scope.kind not in _CLASS_KINDS:
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

    def _add(self, task: _Task, start: int, scope: _Scope, named: _Scope, *, loose: bool) -> None:
        end, head = task.group.end, start in self._heads
        size = self._text.size(start, end)
        self._found.append(_Piece(start, end, size, task.depth, scope, named.symbol, named.kind, loose, head))

    def _open(self, task: _Task, children: list[Node], inner: _Scope | None, scope: _Scope) -> None:
        start, end, *_ = task.group
        if children and task.depth < MAX_DEPTH:
            self._push(children, start, end, task.depth + 1, inner)
        else:
            self._found.extend(self._text.split(start, end, scope, task.depth))

    def _push(self, siblings: list[Node], start: int, end: int, depth: int, scope: _Scope | None) -> None:
        tasks = [_Task(group, depth, scope) for group in grouped(siblings, start, end)]
        self._stack.extend(reversed(tasks))


def _packed(pieces: list[_Piece], limit: int) -> Iterator[_Piece]:
    """Pack neighbouring loose pieces of one scope together, up to the limit."""
    for (loose, _), group in groupby(pieces, key=lambda piece: (piece.loose, piece.scope)):
        run = list(group)
        yield from _runs(run, limit) if loose else run


def _runs(pieces: list[_Piece], limit: int) -> Iterator[_Piece]:
    start = 0
    while start < len(pieces):
        end, size = start, 0
        best, best_end = sys.maxsize, start + 1
        while end < len(pieces) and size + pieces[end].size <= limit:
            if 3 * size > limit and pieces[end].depth <= best:
                best, best_end = pieces[end].depth, end
            size += pieces[end].size
            end += 1
        if end < len(pieces) and pieces[end].depth > best:
            end = best_end
        yield _merged(pieces[start:end])
        start = end


def _merged(pieces: list[_Piece]) -> _Piece:
    """Return the pieces as one, named after the definition that makes up most of them or else after their scope."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    size = sum(piece.size for piece in pieces)
    largest = max(pieces, key=lambda piece: piece.size)
    others = size - largest.size
    dominates = others < STRAY and others < largest.size // 2 and not first.head
    symbol, kind = (largest.symbol, largest.kind) if dominates else first.scope
    return first._replace(end=pieces[-1].end, size=size, symbol=symbol, kind=kind)


def _joined(pieces: Iterable[_Piece], text: _Text) -> list[_Piece]:
    """Give strays to a neighbour: what only closes to the piece before, the rest to a definition beside it."""

    def closes(_: _Piece, right: _Piece) -> bool:
        return _is_stray(right) and bool(_CLOSER.fullmatch("".join(text.lines[right.start : right.end])))

    def opens(right: _Piece, left: _Piece) -> bool:
        if right.head:
            return _is_stray(left) and right.scope.symbol.startswith(left.scope.symbol)
        alone = left.head and left.scope.kind in _OPENED_ALONE
        return _is_stray(left) and not alone and not right.loose and left.scope == right.scope

    def trails(left: _Piece, right: _Piece) -> bool:
        return _is_stray(right) and not left.loose and left.scope == right.scope

    closed = _folded(pieces, closes, text.limit)
    opened = _folded(reversed(closed), opens, text.limit)
    return _folded(reversed(opened), trails, text.limit)


def _folded(pieces: Iterable[_Piece], joins: Callable[[_Piece, _Piece], bool], limit: int) -> list[_Piece]:
    """Add every piece that `joins` the one before it (in the order given) to that one, if both fit."""
    folded: list[_Piece] = []
    for piece in pieces:
        last = folded[-1] if folded else None
        if last and last.cut is None and last.size + piece.size <= limit and joins(last, piece):
            start, end = min(last.start, piece.start), max(last.end, piece.end)
            folded[-1] = last._replace(start=start, end=end, size=last.size + piece.size)
        else:
            folded.append(piece)
    return folded


def _is_stray(piece: _Piece) -> bool:
    unnamed = piece.symbol == piece.scope.symbol or piece.kind == "variable"
    return piece.loose and unnamed and piece.size < STRAY and piece.cut is None
