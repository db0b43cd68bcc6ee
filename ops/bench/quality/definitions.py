"""Where the definitions of a text are, whatever the chunker makes of them, and the text without what describes them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ops.model.descriptions import Description, description
from pipeline.grammars import parse
from pipeline.grammars.siblings import below, grouped, inside
from pipeline.grammars.tables import GRAMMARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tree_sitter import Node

    from pipeline.grammars.rules import Definition
    from pipeline.grammars.siblings import Group

HOLDERS: Final = frozenset({"class", "interface", "struct", "enum"})
DESCRIBED: Final = HOLDERS | {"function", "method", "type"}
SPECIFIERS: Final = frozenset({"struct_specifier", "union_specifier", "enum_specifier", "class_specifier"})
DEEPEST: Final = 60
TALLEST_SIGNATURE: Final = 6


@dataclass(frozen=True, slots=True)
class Found:
    """A definition: rows (from 0) [start, end) with its comments, the first without them, and that of its name."""

    symbol: str
    kind: str
    start: int
    end: int
    row: int
    named: int

    @property
    def name(self) -> str:
        """Its own name."""
        return self.symbol.rpartition(".")[2]


def definitions(text: str, language: str) -> Iterator[Found]:
    """Yield the definitions of a text in order, inner ones after those that they lie in."""
    source, lines = text.encode(errors="replace"), text.split("\n")
    root = parse(source, language) if language in GRAMMARS else None
    stack = [] if root is None else [(group, "", "", 0) for group in grouped(root.children, 0, len(lines))][::-1]
    while stack:
        group, scope, holder, depth = stack.pop()
        found = _definition(group, source, language)
        if found is None:
            nodes = below(group.nodes)
        else:
            scope = f"{scope}.{found.name}" if scope else found.name
            holder = "method" if found.kind == "function" and holder in HOLDERS else found.kind
            yield _found(scope, holder, group, found, lines)
            nodes = inside(found.node, GRAMMARS[language].rules)
        if nodes and depth < DEEPEST:
            inner = [(each, scope, holder, depth + 1) for each in grouped(nodes, group.start, group.end)]
            stack.extend(reversed(inner))


def _definition(group: Group, source: bytes, language: str) -> Definition | None:
    rules = GRAMMARS[language].rules
    for node, kind in zip(group.nodes, group.types, strict=True):
        rule = rules.get(kind)
        if rule is not None and (found := rule(node, source)) is not None and not _only_named(found.node):
            return found
    return None


def _only_named(node: Node) -> bool:
    """Return whether C speaks of a type here, and defines it elsewhere."""
    return node.type in SPECIFIERS and node.child_by_field_name("body") is None


def _found(symbol: str, kind: str, group: Group, found: Definition, lines: Sequence[str]) -> Found:
    row = max(found.node.start_point[0], group.lead)
    name = symbol.rpartition(".")[2]
    named = next((at for at in range(row, min(row + TALLEST_SIGNATURE, group.end)) if name in lines[at]), row)
    return Found(symbol, kind, group.start, group.end, row, named)


@dataclass(frozen=True, slots=True)
class Bare:
    """A text without its descriptions, those that were taken out, and which rows went."""

    text: str
    described: tuple[tuple[Found, Description], ...]
    gone: tuple[int, ...]

    def row(self, row: int) -> int:
        """Return where a row is now."""
        return row - bisect_left(self.gone, row)


def bare(text: str, language: str, found: Iterable[Found]) -> Bare:
    """Take the docstrings of all definitions out of a text, or the comments before them."""
    lines = text.split("\n")
    described, gone = [], set[int]()
    for each in found:
        if each.kind in DESCRIBED and (said := description("\n".join(lines[each.start : each.end]), language)):
            described.append((each, said))
            rows = [each.start + at for at in said.lines]
            if language == "python" and not "".join(lines[rows[-1] + 1 : each.end]).strip():
                last = rows.pop()  # a function that is nothing else keeps a body
                indent = len(lines[rows[0] if rows else last]) - len(lines[rows[0] if rows else last].lstrip())
                lines[last] = " " * indent + "..."
            gone.update(rows)
    kept = "\n".join(line for row, line in enumerate(lines) if row not in gone)
    return Bare(kept, tuple(described), tuple(sorted(gone)))
