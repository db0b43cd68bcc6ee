"""The grammars, a row a language: what its node types define."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.grammars.rules import (
    Grammar,
    Rule,
    bound,
    css_rule,
    declared,
    go_method,
    go_type,
    heading,
    holding,
    initialised,
    kotlin_class,
    lua_assignment,
    lua_function,
    named,
    namespace,
    prototype,
    swift_class,
    typedef,
    wrapping,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_wrappers(rules: Mapping[str, Rule], *wrappers: str) -> dict[str, Rule]:
    """Return the rules and those of the node types that only wrap a definition (decorators, `export`, templates)."""
    complete = dict(rules)
    complete.update(dict.fromkeys(wrappers, wrapping(complete)))
    return complete


_PYTHON = with_wrappers(
    {
        "function_definition": named("function"),
        "class_definition": named("class"),
        "assignment": bound("left", "right"),
        "type_alias_statement": named("type", "left"),
    },
    "decorated_definition",
    "expression_statement",
)

_JAVASCRIPT = {
    "function_declaration": named("function"),
    "generator_function_declaration": named("function"),
    "class_declaration": named("class"),
    "method_definition": named("method"),
    "variable_declarator": bound("name", "value"),
    "assignment_expression": prototype,
    "pair": bound("key", "value"),
    "field_definition": bound("property", "value", function="method"),
}
_JAVASCRIPT_WRAPPERS = ("export_statement", "lexical_declaration", "variable_declaration", "expression_statement")

_TYPESCRIPT = {
    **_JAVASCRIPT,
    "abstract_class_declaration": named("class"),
    "interface_declaration": named("interface"),
    "enum_declaration": named("enum"),
    "type_alias_declaration": named("type"),
    "function_signature": named("function"),
    "method_signature": named("method"),
    "abstract_method_signature": named("method"),
    "public_field_definition": bound("name", "value", function="method"),
    "internal_module": named("module"),
    "module": named("module"),
}

_C = {
    "function_definition": declared("function"),
    "struct_specifier": named("struct"),
    "union_specifier": named("struct"),
    "enum_specifier": named("enum"),
    "type_definition": typedef,
    "declaration": initialised,
    "preproc_function_def": named("function"),
}
_C_OPEN = frozenset(
    {"preproc_ifdef", "preproc_if", "preproc_else", "preproc_elif", "linkage_specification", "declaration_list"}
)

_CPP = {
    **_C,
    "class_specifier": named("class"),
    "namespace_definition": named("module"),
    "alias_declaration": named("type"),
    "concept_definition": named("type"),
}

_CSHARP = with_wrappers(
    {
        "namespace_declaration": namespace,
        "file_scoped_namespace_declaration": namespace,
        "class_declaration": named("class"),
        "record_declaration": named("class"),
        "struct_declaration": named("struct"),
        "interface_declaration": named("interface"),
        "enum_declaration": named("enum"),
        "delegate_declaration": named("type"),
        "method_declaration": named("method"),
        "constructor_declaration": named("method"),
        "destructor_declaration": named("method"),
        "operator_declaration": named("method", "operator"),
        "local_function_statement": named("function"),
        "property_declaration": named("variable"),
    },
    "global_statement",
)

_GO = with_wrappers(
    {
        "function_declaration": named("function"),
        "method_declaration": go_method,
        "type_spec": go_type,
        "type_alias": named("type"),
        "const_spec": named("variable"),
        "var_spec": named("variable"),
    },
    "type_declaration",
    "const_declaration",
    "var_declaration",
)

_JAVA = {
    "class_declaration": named("class"),
    "record_declaration": named("class"),
    "interface_declaration": named("interface"),
    "annotation_type_declaration": named("interface"),
    "enum_declaration": named("enum"),
    "method_declaration": named("method"),
    "constructor_declaration": named("method"),
    "compact_constructor_declaration": named("method"),
    "variable_declarator": named("variable"),
}

_KOTLIN = {
    "class_declaration": kotlin_class,
    "object_declaration": named("class"),
    "companion_object": named("class", default="Companion"),
    "function_declaration": named("function"),
    "secondary_constructor": named("method", default="constructor"),
    "property_declaration": holding("variable", "variable_declaration"),
    "type_alias": named("type", "type"),
}

_PHP = with_wrappers(
    {
        "namespace_definition": namespace,
        "class_declaration": named("class"),
        "trait_declaration": named("class"),
        "interface_declaration": named("interface"),
        "enum_declaration": named("enum"),
        "function_definition": named("function"),
        "method_declaration": named("method"),
        "assignment_expression": bound("left", "right"),
        "const_element": holding("variable", "name"),
        "property_element": named("variable"),
    },
    "expression_statement",
    "const_declaration",
    "property_declaration",
)

_RUBY = {
    "module": named("module"),
    "class": named("class"),
    "method": named("method"),
    "singleton_method": named("method"),
    "assignment": bound("left", "right"),
}

_RUST = {
    "function_item": named("function"),
    "function_signature_item": named("function"),
    "macro_definition": named("function"),
    "struct_item": named("struct"),
    "union_item": named("struct"),
    "enum_item": named("enum"),
    "trait_item": named("interface"),
    "impl_item": named("class", "type"),
    "mod_item": named("module"),
    "type_item": named("type"),
    "const_item": named("variable"),
    "static_item": named("variable"),
}

_SCALA = {
    "class_definition": named("class"),
    "object_definition": named("class"),
    "trait_definition": named("interface"),
    "enum_definition": named("enum"),
    "function_definition": named("function"),
    "function_declaration": named("function"),
    "type_definition": named("type"),
    "val_definition": named("variable", "pattern"),
    "var_definition": named("variable", "pattern"),
    "given_definition": named("variable"),
}

_SWIFT = {
    "class_declaration": swift_class,
    "protocol_declaration": named("interface"),
    "function_declaration": named("function"),
    "protocol_function_declaration": named("method"),
    "init_declaration": named("method", "init", default="init"),
    "deinit_declaration": named("method", "deinit", default="deinit"),
    "property_declaration": named("variable"),
    "typealias_declaration": named("type"),
}

_LUA = with_wrappers(
    {"function_declaration": lua_function, "assignment_statement": lua_assignment}, "variable_declaration"
)

_SQL = with_wrappers(
    {
        **dict.fromkeys(
            ("create_table", "create_view", "create_materialized_view"), holding("table", "object_reference")
        ),
        **dict.fromkeys(
            ("create_function", "create_procedure", "create_trigger"), holding("function", "object_reference")
        ),
        "create_type": holding("type", "object_reference"),
    },
    "statement",
)

_TOML = dict.fromkeys(
    ("table", "table_array_element", "pair"), holding("entry", "bare_key", "dotted_key", "quoted_key")
)

_CSS: dict[str, Rule] = dict.fromkeys(
    ("rule_set", "media_statement", "supports_statement", "keyframes_statement", "at_rule"), css_rule
)

GRAMMARS: Final[Mapping[str, Grammar]] = {
    "bash": Grammar("tree_sitter_bash", {"function_definition": named("function")}),
    "c": Grammar("tree_sitter_c", _C, open=_C_OPEN),
    "cpp": Grammar("tree_sitter_cpp", with_wrappers(_CPP, "template_declaration"), open=_C_OPEN),
    "csharp": Grammar("tree_sitter_c_sharp", _CSHARP),
    "css": Grammar("tree_sitter_css", _CSS),
    "go": Grammar("tree_sitter_go", _GO),
    "html": Grammar("tree_sitter_html", {}),
    "java": Grammar("tree_sitter_java", with_wrappers(_JAVA, "field_declaration")),
    "javascript": Grammar("tree_sitter_javascript", with_wrappers(_JAVASCRIPT, *_JAVASCRIPT_WRAPPERS)),
    "json": Grammar("tree_sitter_json", {"pair": named("entry", "key")}),
    "kotlin": Grammar("tree_sitter_kotlin", _KOTLIN),
    "lua": Grammar("tree_sitter_lua", _LUA),
    "markdown": Grammar("tree_sitter_markdown", {"section": heading}),
    "php": Grammar("tree_sitter_php", _PHP, entry="language_php"),
    "python": Grammar("tree_sitter_python", _PYTHON),
    "ruby": Grammar("tree_sitter_ruby", _RUBY),
    "rust": Grammar("tree_sitter_rust", _RUST),
    "scala": Grammar("tree_sitter_scala", _SCALA),
    "sql": Grammar("tree_sitter_sql", _SQL),
    "swift": Grammar("tree_sitter_swift", _SWIFT),
    "toml": Grammar("tree_sitter_toml", _TOML),
    "tsx": Grammar(
        "tree_sitter_typescript",
        with_wrappers(_TYPESCRIPT, *_JAVASCRIPT_WRAPPERS, "ambient_declaration"),
        entry="language_tsx",
    ),
    "typescript": Grammar(
        "tree_sitter_typescript",
        with_wrappers(_TYPESCRIPT, *_JAVASCRIPT_WRAPPERS, "ambient_declaration"),
        entry="language_typescript",
    ),
    "yaml": Grammar("tree_sitter_yaml", {"block_mapping_pair": named("entry", "key")}),
}
