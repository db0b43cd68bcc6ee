"""What a query asks for, read from its text alone: words, names of definitions and paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from math import log
from typing import TYPE_CHECKING, Final

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from pipeline.errors import InvalidQuery
from pipeline.tokenizing import joined, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_WORDS: Final = 64
MAX_NAMES: Final = 8
SHORT: Final = 4
"""So many words may be the parts of one name: "retry policy" finds `RetryPolicy`."""
TOGETHER: Final = 0.3
"""How far two words of a query are from meeting by chance: at 1 the rarer one is always with the other."""
DIRECTORY_MARK: Final = "(?P<ps_d>/)"
"""A named group of pathspec's, which PostgreSQL does not know."""

_FOLDERS = re.compile(r"[\w.@+-]*(?:/[\w.@+-]+)+")
_PATH = re.compile(_FOLDERS.pattern + r"|[\w-]+(?:\.[\w-]+)*\.[A-Za-z]\w{0,4}(?![\w(])")
_DOTTED = re.compile(r"\w+(?:(?:\.|::|->|#|\\)\w+)*(?:\(\))?")
_NAMED = re.compile(r"_|[a-z0-9][A-Z]|[A-Z]{2}[a-z]|\.|::|->|#|\\|\(\)")
_SEPARATOR = re.compile(r"\.|::|->|#|\\")
_KEYWORD = re.compile(
    r"^(?:the |an? )?(?:def|class|func|function|fn|struct|interface|type|method|enum|trait|module|const|macro)\s+"
)


@dataclass(frozen=True, slots=True)
class Query:
    """A query as it is ranked: its words in order, the names it may mean (as `definition_keys` gives), and its paths.

    `exact` says that it is a name and nothing else.
    """

    text: str
    words: tuple[str, ...]
    names: tuple[str, ...]
    paths: tuple[str, ...]
    exact: bool

    @property
    def path_alone(self) -> bool:
        """Whether it is a path and nothing else."""
        return self.text.strip("/.") in self.paths


def parse(text: str) -> Query:
    """Read a query."""
    paths = tuple(dict.fromkeys(found.strip("/.") for found in _PATH.findall(text)))
    bare = _KEYWORD.sub("", _FOLDERS.sub(" ", text).strip(), count=1)
    tokens = _DOTTED.findall(bare)
    exact = len(tokens) == 1 and len(bare.split()) == 1
    named = [token for token in tokens if exact or _NAMED.search(token)]
    keys = [key for token in named for key in reversed(definition_keys(token))]
    parts = tuple(words(text)[:MAX_WORDS])
    if not exact and len(tokens) <= SHORT:
        keys.append(f"={joined(bare)}")
    return Query(text, parts, tuple(dict.fromkeys(filter(_says, keys)))[:MAX_NAMES], paths, exact)


def _says(key: str) -> bool:
    return len(key) > len("=")


def definition_keys(name: str) -> tuple[str, ...]:
    """Return the keys that a definition is found by: its own name, and that after what it lies in.

    Case and underscores do not count: `Mailer.send_all` has the keys `=sendall` and `=mailer.sendall`.
    """
    *outer, own = (joined(part) for part in _SEPARATOR.split(name.removesuffix("()")))
    keys = [f"={own}"] if own else []
    return (*keys, f"={outer[-1]}.{own}") if own and outer and outer[-1] else tuple(keys)


@dataclass(frozen=True, slots=True)
class Term:
    """A lexeme of a query, where it stands in it, in how many chunks it is, and how much it tells."""

    lexeme: str
    positions: tuple[int, ...]
    chunks: int
    weight: float


def terms(lexemes: Iterable[tuple[str, Sequence[int], int]], total: int) -> tuple[Term, ...]:
    """Return the terms of a query, the rarest first, of its lexemes, their positions and in how many chunks they are.

    What a term tells is the log of how seldom it is among `total` chunks (BM25's idf). A lexeme that nobody counted is
    rare; without any counts (`total` 0) all tell the same.
    """
    found = [
        Term(lexeme, tuple(at), chunks, log(1 + (total - chunks + 0.5) / (chunks + 0.5)) if total >= chunks else 0.01)
        for lexeme, at, chunks in lexemes
    ]
    return tuple(sorted(found, key=lambda term: (term.chunks, term.lexeme)))


def matching(terms: Sequence[Term], names: Sequence[str], total: int, budget: int) -> str:
    """Return the tsquery of what is worth ranking: about `budget` chunks that hold the rarest terms, or names.

    Terms are taken from the rarest on, alone, as long as the budget lasts; the common ones after that in pairs. What
    even no pair is rare enough for must hold all terms.
    """
    clauses = [quoted(name) for name in names]
    expected, alone = 0.0, 0
    for term in terms:
        if expected + term.chunks > budget and len(terms) > 1:
            break
        clauses.append(quoted(term.lexeme))
        expected += term.chunks
        alone += 1
    for left, right in combinations(terms[alone:], 2):
        both = _in_both(left, right, total)
        if expected + both <= budget:
            clauses.append(f"({quoted(left.lexeme)} & {quoted(right.lexeme)})")
            expected += both
    if terms and len(clauses) == len(names):
        clauses.append(f"({' & '.join(quoted(term.lexeme) for term in terms)})")
    return " | ".join(clauses)


def _in_both(left: Term, right: Term, total: int) -> float:
    """Return in how many chunks both terms will be: words of one query meet more often than by chance."""
    by_chance = left.chunks * right.chunks / max(total, 1)
    return float(by_chance ** (1 - TOGETHER) * min(left.chunks, right.chunks) ** TOGETHER)


def quoted(lexeme: str) -> str:
    """Return a lexeme as a tsquery."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


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
