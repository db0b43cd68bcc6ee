"""The words that a chunk is found by, in fields that count differently."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pipeline.querying import definition_keys
from pipeline.tokenizing import words

if TYPE_CHECKING:
    from pipeline.records import Chunk

COMMENT: Final = re.compile(
    r"^[ \t]*(?:#(?![ \t]*(?:include|define|if|el|endif|pragma|undef))|//|/?\*|--|;)[^\n]*"
    r"|\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)",
    re.MULTILINE | re.DOTALL,
)
"""A line that begins as comments do in one language or another, or a docstring."""


class Fields(NamedTuple):
    """The words of the names that it defines, of what it lies in, of its comments and of its code; and its keys."""

    names: str
    place: str
    comments: str
    code: str
    keys: list[str]


def fields_of(chunk: Chunk) -> Fields:
    """Return the words of a chunk by field; docstrings and lines of comment are comments."""
    comments = " ".join(COMMENT.findall(chunk.content))
    code = COMMENT.sub(" ", chunk.content) if comments else chunk.content
    own = " ".join(name.rpartition(".")[2] for name in chunk.names)
    keys = {key for name in chunk.names for key in definition_keys(name)}
    return Fields(_words(own), _words(chunk.symbol), _words(comments), _words(code), sorted(keys))


def _words(text: str) -> str:
    return " ".join(words(text))
