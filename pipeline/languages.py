"""Tells the language of a file by its name, and when that says nothing by its first line."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Final

from identify.identify import parse_shebang, tags_from_filename, tags_from_interpreter

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

UNKNOWN: Final = "text"

NAMES: Final = {
    "c++": "cpp",
    "cuda": "cpp",
    "c#": "csharp",
    "tsx": "tsx",
    "ts": "typescript",
    "jsx": "javascript",
    "javascript": "javascript",
    "pyi": "python",
    "cython": "cython",
    "python": "python",
    "c": "c",
    "go": "go",
    "rust": "rust",
    "java": "java",
    "ruby": "ruby",
    "php": "php",
    "kotlin": "kotlin",
    "swift": "swift",
    "scala": "scala",
    "lua": "lua",
    "bash": "bash",
    "zsh": "bash",
    "ksh": "bash",
    "sh": "bash",
    "shell": "bash",
    "sql": "sql",
    "html": "html",
    "css": "css",
    "jupyter": "json",
    "json": "json",
    "yaml": "yaml",
    "toml": "toml",
    "mdx": "markdown",
    "markdown": "markdown",
    "svg": "xml",
    "xml": "xml",
}
"""Tags of `identify` and our names for them; of several tags of a file the first one listed here counts."""

_RANK: Final = {tag: rank for rank, tag in enumerate(NAMES)}
_SUFFIXES: Final = {".mts": "typescript", ".cts": "typescript", ".jsonc": "json"}
"""What identify does not know."""
_NOT_LANGUAGES: Final = frozenset(
    {"text", "binary", "file", "executable", "non-executable", "header", "plain-text", "image"}
)
_CPP_ONLY: Final = re.compile(rb"^\s*(?:class|namespace|template|using|public:|private:)\b|\bstd::", re.MULTILINE)


def language_of(path: str, head: bytes = b"") -> str:
    """Return the lower-case name of a file's language, `text` when nothing tells; `head` is how the file begins."""
    tags: AbstractSet[str] = tags_from_filename(path)
    if not tags and head.startswith(b"#!"):
        tags = _shebang_tags(head)
    if "header" in tags and "c" in tags:
        return "cpp" if _CPP_ONLY.search(head) else "c"
    return _name(tags) if tags else _SUFFIXES.get(path[path.rfind(".") :], UNKNOWN)


def _shebang_tags(head: bytes) -> AbstractSet[str]:
    command = parse_shebang(BytesIO(head))
    return tags_from_interpreter(command[0]) if command else frozenset()


def _name(tags: AbstractSet[str]) -> str:
    known = [tag for tag in tags if tag in _RANK]
    if known:
        return NAMES[min(known, key=_RANK.__getitem__)]
    return min(tags - _NOT_LANGUAGES, default=UNKNOWN)
