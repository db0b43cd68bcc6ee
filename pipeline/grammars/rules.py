"""How a syntax node says that it is a definition: its name, its kind, and the node that holds its inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Node

NAME_LENGTH: Final = 160
FUNCTION_VALUES: Final = frozenset(
    {
        "arrow_function",
        "function_expression",
        "generator_function",
        "anonymous_function",
        "function_definition",
        "func_literal",
        "lambda",
        "lambda_literal",
    }
)
TYPE_VALUES: Final = {
    "class": "class",
    "struct_type": "struct",
    "interface_type": "interface",
    "struct_specifier": "struct",
    "union_specifier": "struct",
    "enum_specifier": "enum",
}

_EMPHASIS = re.compile(r"[*`]+|\b_|_\b")
_GENERIC = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")
_SEPARATOR = re.compile(r"::|[:\\]")
_OWN_PREFIX = re.compile(r"^(?:module\.)?exports(?:\.|$)|^this\.|^self\.|^window\.")


class Definition(NamedTuple):
    """Something that has a name, which may be dotted.

    The children of `node` are its inside; with `rest`, all that follows in the file is inside as well.
    """

    name: str
    kind: str
    node: Node
    rest: bool = False


Rule = Callable[["Node", bytes], Definition | None]
"""Given a node and the text that was parsed, return what the node defines; None when it defines nothing."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar wheel and what its node types mean.

    `rules` maps a node type to the rule that names it; nodes of the types in `open` are looked into even when they
    fit in one chunk, because they only wrap what a reader looks for.
    """

    module: str
    rules: Mapping[str, Rule]
    entry: str = "language"
    open: frozenset[str] = field(default_factory=frozenset)


def text(node: Node | None, source: bytes) -> str:
    """Return the node's text on one line, at most NAME_LENGTH bytes of it; "" for None."""
    if node is None:
        return ""
    # Never node.text: it crashes the interpreter when the text was parsed through a callback.
    start = node.start_byte
    raw = source[start : min(node.end_byte, start + NAME_LENGTH)]
    return " ".join(raw.decode(errors="ignore").split())


def dotted(name: str) -> str:
    """Return a qualified name as a dotted path: without generic arguments, quotes, and prefixes that say nothing."""
    if name.isidentifier():
        return name
    name = name.strip("\"'`$#& *")
    if "operator" not in name:
        while (bare := _GENERIC.sub("", name)) != name:
            name = bare
    return _OWN_PREFIX.sub("", _SEPARATOR.sub(".", name).replace(".prototype.", ".")).strip(". ")


def definition(name: str, kind: str, node: Node) -> Definition | None:
    """Return a definition, or None when nothing is left of its name."""
    return Definition(name, kind, node) if name else None


def named(kind: str, *fields: str, default: str = "") -> Rule:
    """Return the rule for nodes whose name is in the first of `fields` that is there (`name` unless told)."""

    def rule(node: Node, source: bytes) -> Definition | None:
        for wanted in fields or ("name",):
            if (child := node.child_by_field_name(wanted)) is not None:
                return definition(dotted(text(child, source)), kind, node)
        return definition(default, kind, node)

    return rule


def holding(kind: str, *types: str, default: str = "") -> Rule:
    """Return the rule for nodes whose name is their first child of one of `types`."""
    wanted = frozenset(types)

    def rule(node: Node, source: bytes) -> Definition | None:
        name = next((text(child, source) for child in node.children if child.type in wanted), default)
        return definition(dotted(name), kind, node)

    return rule


def wrapping(rules: Mapping[str, Rule]) -> Rule:
    """Return the rule for wrappers: the definition is the only child that is one; several make none."""

    def rule(node: Node, source: bytes) -> Definition | None:
        inner = [child for child in node.children if child.type in rules]
        return rules[inner[0].type](inner[0], source) if len(inner) == 1 else None

    return rule


def bound(name_field: str, value_field: str, *, function: str = "function") -> Rule:
    """Return the rule for a name that is bound to a value: the value tells whether it is a function."""

    def rule(node: Node, source: bytes) -> Definition | None:
        target, value = node.child_by_field_name(name_field), node.child_by_field_name(value_field)
        if target is None or target.type.endswith("pattern"):
            return None
        return definition(dotted(text(target, source)), value_kind(value, function), node)

    return rule


def value_kind(value: Node | None, function: str = "function") -> str:
    """Return the kind of a name that is bound to `value`."""
    if value is None:
        return "variable"
    return function if value.type in FUNCTION_VALUES else TYPE_VALUES.get(value.type, "variable")


def prototype(node: Node, source: bytes) -> Definition | None:
    """Name a JavaScript assignment; one to a prototype makes a method."""
    found = bound("left", "right")(node, source)
    is_method = found and found.kind == "function" and ".prototype." in text(node.child_by_field_name("left"), source)
    return found._replace(kind="method") if found and is_method else found


def declared(kind: str) -> Rule:
    """Return the rule of C and C++, where the name is at the bottom of nested declarators."""

    def rule(node: Node, source: bytes) -> Definition | None:
        raw = text(declarator(node), source)
        name = dotted(raw)
        return definition(name, "method" if kind == "function" and "::" in raw else kind, node)

    return rule


def declarator(node: Node) -> Node | None:
    """Return the node at the bottom of the declarators of a C declaration."""
    bottom = None
    below = node.child_by_field_name("declarator")
    while below is not None:
        bottom = below
        below = bottom.child_by_field_name("declarator")
        if below is None and bottom.type in {"parenthesized_declarator", "reference_declarator"}:
            below = next(iter(bottom.named_children), None)
    return bottom


def initialised(node: Node, source: bytes) -> Definition | None:
    """Name a C declaration that has a value (a table, a constant); prototypes are no definitions."""
    first = node.child_by_field_name("declarator")
    return declared("variable")(node, source) if first is not None and first.type == "init_declarator" else None


def typedef(node: Node, source: bytes) -> Definition | None:
    """Name a C typedef after its declarator; its kind is that of the type that it names."""
    kind = TYPE_VALUES.get(getattr(node.child_by_field_name("type"), "type", ""), "type")
    return declared(kind)(node, source)


def namespace(node: Node, source: bytes) -> Definition | None:
    """Name a PHP or C# namespace; one without a body holds the rest of the file."""
    found = named("module")(node, source)
    return found._replace(rest=node.child_by_field_name("body") is None) if found else None


def go_method(node: Node, source: bytes) -> Definition | None:
    """Name a Go method `T.Method` after the type of its receiver."""
    receiver = text(node.child_by_field_name("receiver"), source).strip("()").split(" ")[-1]
    name = text(node.child_by_field_name("name"), source)
    return definition(dotted(f"{dotted(receiver)}.{name}"), "method", node)


def go_type(node: Node, source: bytes) -> Definition | None:
    """Name a Go type; structs and interfaces have kinds of their own."""
    kind = TYPE_VALUES.get(getattr(node.child_by_field_name("type"), "type", ""), "type")
    return named(kind)(node, source)


def kotlin_class(node: Node, source: bytes) -> Definition | None:
    """Name a Kotlin class, interface or enum: one node type stands for all."""
    types = {child.type for child in node.children}
    kind = "interface" if "interface" in types else "enum" if "enum_class_body" in types else "class"
    return named(kind)(node, source)


def swift_class(node: Node, source: bytes) -> Definition | None:
    """Name a Swift class, struct, enum, actor or extension: one node type stands for all."""
    keyword = text(node.child_by_field_name("declaration_kind"), source)
    return named(keyword if keyword in {"struct", "enum"} else "class")(node, source)


def lua_function(node: Node, source: bytes) -> Definition | None:
    """Name a Lua function; `M:f` is a method, `M.f` a function of a module."""
    name = text(node.child_by_field_name("name"), source)
    return definition(dotted(name), "method" if ":" in name else "function", node)


def lua_assignment(node: Node, source: bytes) -> Definition | None:
    """Name a Lua assignment of one value to one name."""
    lists = node.named_children
    if [len(part.named_children) for part in lists] != [1, 1]:
        return None
    return definition(dotted(text(lists[0], source)), value_kind(lists[1].named_children[0]), node)


def css_rule(node: Node, source: bytes) -> Definition | None:
    """Name a CSS rule by what stands before its block."""
    return definition(text(node, source).partition("{")[0].strip(), "rule", node)


def heading(node: Node, source: bytes) -> Definition | None:
    """Name a Markdown section after its heading."""
    first = node.children[0] if node.children else None
    content = first.child_by_field_name("heading_content") if first is not None else None
    return definition(_EMPHASIS.sub("", text(content, source)).strip(), "section", node)
