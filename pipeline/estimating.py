"""How long a job will take, before anything was scanned (R03)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from pipeline.store import jobs

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

DEFAULT_SECONDS_PER_FILE: Final = 0.01
"""The stated rate of the very first job: 100 files a second."""
DEFAULT_FILES: Final = 1_000
"""The stated size of a repository that nobody has seen yet."""
LOOK: Final = 0.02
"""Seconds that counting files may take at submission."""


def seconds(connection: Connection, repository_id: int, root: Path | None) -> float:
    """Return the expected seconds: files times the mean of this repository's jobs, else of all, else the default.

    `root` is None where there is no folder to look into.
    """
    rate = (
        jobs.seconds_per_file(connection, repository_id)
        or jobs.seconds_per_file(connection, None)
        or DEFAULT_SECONDS_PER_FILE
    )
    count = jobs.last_listing(connection, repository_id) or (_look(root) if root else DEFAULT_FILES)
    return round(max(1.0, rate * count), 1)


def _look(root: Path) -> int:
    return git_entries(root) or count_files(root)


def git_entries(root: Path) -> int | None:
    """Return the number of entries in the header of `.git/index`: read in microseconds, whatever the size."""
    try:
        with (root / ".git" / "index").open("rb") as index:
            header = index.read(12)
    except OSError:
        return None
    return int.from_bytes(header[8:12], "big") if header[:4] == b"DIRC" else None


def count_files(root: Path) -> int:
    """Return how many files were found below `root` within the time for a look."""
    end = time.monotonic() + LOOK
    found = 0
    for _, _, names in os.walk(root):
        found += len(names)
        if time.monotonic() > end:
            break
    return found
