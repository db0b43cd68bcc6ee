"""The language of a file is told by its name, and by its first line when the name says nothing."""

from __future__ import annotations

import pytest

from pipeline.grammars import SYNTAX_AWARE
from pipeline.languages import NAMES, language_of


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("src/deep/a.py", "python"),
        ("a.pyi", "python"),
        ("a.js", "javascript"),
        ("a.mjs", "javascript"),
        ("a.jsx", "javascript"),
        ("a.ts", "typescript"),
        ("a.mts", "typescript"),
        ("a.tsx", "tsx"),
        ("a.go", "go"),
        ("a.rs", "rust"),
        ("A.java", "java"),
        ("a.c", "c"),
        ("a.h", "c"),
        ("a.hpp", "cpp"),
        ("a.cc", "cpp"),
        ("a.cu", "cpp"),
        ("A.cs", "csharp"),
        ("a.rb", "ruby"),
        ("Rakefile", "ruby"),
        ("a.php", "php"),
        ("a.kt", "kotlin"),
        ("a.kts", "kotlin"),
        ("a.swift", "swift"),
        ("a.scala", "scala"),
        ("a.lua", "lua"),
        ("a.sh", "bash"),
        (".bashrc", "bash"),
        ("a.zsh", "bash"),
        ("a.sql", "sql"),
        ("a.html", "html"),
        ("a.css", "css"),
        ("a.json", "json"),
        ("a.jsonc", "json"),
        ("a.ipynb", "json"),
        ("a.yaml", "yaml"),
        ("a.toml", "toml"),
        ("README.md", "markdown"),
        ("a.rst", "rst"),
        ("a.pl", "perl"),
        ("Makefile", "makefile"),
        ("Dockerfile", "dockerfile"),
        ("a.svg", "xml"),
        ("a.txt", "text"),
        ("LICENSE", "text"),
        ("a.unheard-of", "text"),
        ("", "text"),
    ],
)
def test_the_name_of_a_file_tells_its_language(path: str, language: str) -> None:
    """Extensions and well-known names map to one lower-case name (R42)."""
    assert language_of(path) == language


@pytest.mark.parametrize(
    ("head", "language"),
    [
        (b"#!/usr/bin/env python3\nimport os\n", "python"),
        (b"#!/bin/sh\n", "bash"),
        (b"#!/usr/bin/perl -w\n", "perl"),
        (b"#!/usr/bin/env node\n", "javascript"),
        (b"#!", "text"),
        (b"#!\xff\xfe\n", "text"),
        (b"no shebang\n", "text"),
        (b"", "text"),
    ],
)
def test_the_first_line_tells_when_the_name_does_not(head: bytes, language: str) -> None:
    """A script without an extension is known by its interpreter."""
    assert language_of("bin/tool", head) == language


def test_the_name_counts_more_than_the_first_line() -> None:
    """A known extension is believed."""
    assert language_of("a.lua", b"#!/usr/bin/env python\n") == "lua"


@pytest.mark.parametrize("head", [b"#include <a>\nnamespace b {", b"  class A;\n", b"std::string a();", b"template<T>"])
def test_a_header_with_classes_is_no_c(head: bytes) -> None:
    """A `.h` file is C++ when it begins as only C++ does."""
    assert language_of("a.h", head) == "cpp"
    assert language_of("a.h", b"struct a;\n") == "c"


def test_every_parsed_language_can_be_told() -> None:
    """No grammar is out of reach (R42)."""
    assert set(NAMES.values()) >= SYNTAX_AWARE
