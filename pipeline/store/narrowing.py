"""Filters of a search, as conditions on the chunks table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

BY_LANGUAGE: Final = "AND c.language = ANY(:languages)"
BY_KIND: Final = "AND c.kind = ANY(:kinds)"
BY_PATH: Final = """AND c.file_id IN (
    SELECT f.id FROM penstock.files f WHERE f.repository_id = ANY(:repositories) AND f.path ~ :pattern)"""
BY_PATH_OF_CHUNK: Final = "AND (SELECT f.path FROM penstock.files f WHERE f.id = c.file_id) ~ :pattern"
TYPES: Final[dict[str, ARRAY[Any]]] = {
    "repositories": ARRAY(BigInteger),
    "files": ARRAY(BigInteger),
    "languages": ARRAY(Text),
    "kinds": ARRAY(Text),
}


@dataclass(frozen=True, slots=True)
class ChunkFilter:
    """Which chunks a search may return; an empty tuple or None means any.

    `path_pattern` is a POSIX regular expression over the path in the repository.
    """

    repository_ids: tuple[int, ...]
    languages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    path_pattern: str | None = None


def conditions(wanted: ChunkFilter, by_path: str = BY_PATH) -> tuple[str, dict[str, object]]:
    """Return the conditions that a filter stands for, and their values; only what is asked for costs anything."""
    chosen = {
        "languages": (BY_LANGUAGE, list(wanted.languages)),
        "kinds": (BY_KIND, list(wanted.kinds)),
        "pattern": (by_path, wanted.path_pattern),
    }
    asked = {name: both for name, both in chosen.items() if both[1]}
    values: dict[str, object] = {name: value for name, (_, value) in asked.items()}
    return " ".join(clause for clause, _ in asked.values()), values | {"repositories": list(wanted.repository_ids)}
