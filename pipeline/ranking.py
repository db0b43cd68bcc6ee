"""What a query is turned into before it is ranked: its words, and its path glob as a pattern."""

from __future__ import annotations

from typing import Final

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from pipeline.tokenizing import words

MAX_WORDS: Final = 32


def query_words(query: str) -> tuple[str, ...]:
    """Return the distinct words of a query, in order, at most 32: more make the text ranking slow, not better."""
    return tuple(dict.fromkeys(words(query)))[:MAX_WORDS]


def glob_pattern(glob: str | None) -> str | None:
    """Return a path glob (git's rules: `*.py`, `src/**/test_*`) as a POSIX regular expression."""
    if glob is None:
        return None
    pattern, _ = GitIgnoreSpecPattern.pattern_to_regex(glob)
    # PostgreSQL knows no named groups.
    return None if pattern is None else str(pattern).replace("(?P<ps_d>/)", "/")
