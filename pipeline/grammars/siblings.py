"""Sibling nodes seen as lines: which belong together, and what is below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from tree_sitter import Node

LEADS: Final = frozenset(
    {
        "comment",
        "line_comment",
        "block_comment",
        "multiline_comment",
        "doc_comment",
        "marginalia",
        "html_comment",
        "attribute_item",
        "decorator",
        "annotation",
    }
)
"""Node types that belong to what follows on the next line."""


class Group(NamedTuple):
    """Siblings that share the lines [start, end), and their types; those before the line `lead` lead the others."""

    start: int
    end: int
    lead: int
    nodes: list[Node]
    types: list[str]


def grouped(siblings: Iterable[Node], start: int, end: int) -> Iterator[Group]:
    """Divide the lines [start, end) into groups, each of which begins where no earlier sibling has been."""
    nodes: list[Node] = []
    types: list[str] = []
    lead = free = start
    leading = False
    for node in siblings:
        kind = node.type
        first, last = rows(node)
        leads = kind in LEADS
        if not nodes or first < free:
            leading = leads and (leading or not nodes)
        elif leading and first == free:
            lead, leading = (lead, True) if leads else (first, False)
        else:
            yield Group(start, first, lead, nodes, types)
            start = lead = first
            nodes, types, leading = [], [], leads
        nodes.append(node)
        types.append(kind)
        free = max(free, last + 1)
    yield Group(start, end, lead, nodes, types)


def rows(node: Node) -> tuple[int, int]:
    """Return the first and the last row of a node; one that ends with a newline does not touch the next row."""
    first = node.start_point[0]
    last, column = node.end_point
    return first, last - 1 if not column and last > first else last


def below(nodes: list[Node]) -> list[Node]:
    """Return the nodes with those of several lines replaced by their children; none when there is nothing to open."""
    levels = [node.children if _is_tall(node) else [] for node in nodes]
    opened = [node for node, children in zip(nodes, levels, strict=True) if children]
    if not opened or (len(opened) == 1 and "string" in opened[0].type):
        return []
    return [child for node, children in zip(nodes, levels, strict=True) for child in children or [node]]


def inside(definition: Node, kept: Container[str]) -> list[Node]:
    """Return the children of a definition, with those of its body in the body's place.

    The body is the tallest child; one of a type in `kept` (a definition of its own) is left as it is.
    """
    children = definition.children
    heights = [last - first for first, last in map(rows, children)]
    tallest = max(heights, default=0)
    body = heights.index(tallest) if tallest else -1
    if body < 0 or children[body].type in kept:
        return children
    return [*children[:body], *(children[body].children or [children[body]]), *children[body + 1 :]]


def _is_tall(node: Node) -> bool:
    first, last = rows(node)
    return last > first
