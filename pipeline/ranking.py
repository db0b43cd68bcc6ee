"""What a query is turned into before it is ranked: its words, and its path glob as a pattern."""

from __future__ import annotations

from typing import Final

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from pipeline.errors import InvalidQuery
from pipeline.tokenizing import words

MAX_WORDS: Final = 32
DIRECTORY_MARK: Final = "(?P<ps_d>/)"
"""A named group of pathspec's, which PostgreSQL does not know."""


def query_words(query: str) -> tuple[str, ...]:
    """Return the distinct words of a query, in order, at most 32: more make the text ranking slow, not better."""
    return tuple(dict.fromkeys(words(query)))[:MAX_WORDS]


def glob_pattern(glob: str) -> str:
    """Return a path glob (git's rules: `*.py`, `src/**/test_*`) as a regular expression of PostgreSQL's.

    Raises InvalidQuery for what names no paths: empty, a comment, a negation.
    """
    try:
        pattern, included = GitIgnoreSpecPattern.pattern_to_regex(glob)
    except ValueError:
        pattern, included = None, None
    if pattern is None or not included:
        raise InvalidQuery(f"the path glob {glob!r} names no paths; one like '*.py' or 'src/**' does")
    return str(pattern).replace(DIRECTORY_MARK, "/")
