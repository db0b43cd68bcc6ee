"""Puts the pieces of a file together into chunks: loose neighbours up to the limit, strays with what they belong to."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

STRAY: Final = 80
"""A piece outside any definition that is smaller than this goes with a definition beside it."""

CLASS_KINDS: Final = frozenset({"class", "interface", "struct", "enum"})
_OPENED_ALONE = CLASS_KINDS | {"function", "method"}
_CLOSER = re.compile(r"[\W_]*(?:end[\W_]*)*")


class Scope(NamedTuple):
    """What holds a piece: its dotted path ("" at the top of a file) and its kind."""

    symbol: str
    kind: str


class Piece(NamedTuple):
    """Lines [start, end) of a file that stay together.

    Loose pieces of one scope may share a chunk; `depth` tells how good a place its start is for a cut (0 is best); a
    `cut` is a part of the one line that is too long. The `head` of a definition opens it.
    """

    start: int
    end: int
    size: int
    depth: int
    scope: Scope
    symbol: str
    kind: str
    loose: bool
    head: bool = False
    cut: str | None = None


def packed(pieces: list[Piece], limit: int) -> Iterator[Piece]:
    """Pack neighbouring loose pieces of one scope together, up to the limit."""
    for (loose, _), group in groupby(pieces, key=lambda piece: (piece.loose, piece.scope)):
        run = list(group)
        yield from _runs(run, limit) if loose else run


def _runs(pieces: list[Piece], limit: int) -> Iterator[Piece]:
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


def _merged(pieces: list[Piece]) -> Piece:
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


def joined(pieces: Iterable[Piece], lines: Sequence[str], limit: int) -> list[Piece]:
    """Give strays to a neighbour: what only closes to the piece before, the rest to a definition beside it."""

    def closes(_: Piece, right: Piece) -> bool:
        return _is_stray(right) and bool(_CLOSER.fullmatch("".join(lines[right.start : right.end])))

    def opens(right: Piece, left: Piece) -> bool:
        if right.head:
            return _is_stray(left) and right.scope.symbol.startswith(left.scope.symbol)
        alone = left.head and left.scope.kind in _OPENED_ALONE
        return _is_stray(left) and not alone and not right.loose and left.scope == right.scope

    def trails(left: Piece, right: Piece) -> bool:
        return _is_stray(right) and not left.loose and left.scope == right.scope

    closed = _folded(pieces, closes, limit)
    opened = _folded(reversed(closed), opens, limit)
    return _folded(reversed(opened), trails, limit)


def _folded(pieces: Iterable[Piece], joins: Callable[[Piece, Piece], bool], limit: int) -> list[Piece]:
    """Add every piece that `joins` the one before it (in the order given) to that one, if both fit."""
    folded: list[Piece] = []
    for piece in pieces:
        last = folded[-1] if folded else None
        if last and last.cut is None and last.size + piece.size <= limit and joins(last, piece):
            start, end = min(last.start, piece.start), max(last.end, piece.end)
            folded[-1] = last._replace(start=start, end=end, size=last.size + piece.size)
        else:
            folded.append(piece)
    return folded


def _is_stray(piece: Piece) -> bool:
    unnamed = piece.symbol == piece.scope.symbol or piece.kind == "variable"
    return piece.loose and unnamed and piece.size < STRAY and piece.cut is None
