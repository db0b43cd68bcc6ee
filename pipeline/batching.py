"""Compares the file list with the index, and groups what changed into batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from pipeline.sifting import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.records import FileEntry, Limits

FIRST_BATCH_FILES: Final = 4
"""The first batch of a job; each following one is twice as large, up to the limit, so that all stages start at once."""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file as the index has it; `mtime_ns` is 0 when its time was too fresh to be trusted.

    `blob_id` is git's name of its content, of a file that was read from a repository's objects.
    """

    path: str
    size: int
    mtime_ns: int
    skip_reason: str | None = None
    blob_id: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that is new, or whose size or time (or blob) is not what the index has."""

    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file that is as the index has it; `skip_reason` says why it is not indexed, if it is not."""

    entry: FileEntry
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """A file of the index that is no longer listed."""

    path: str


Change: TypeAlias = Changed | Unchanged | Removed


class Batcher:
    """Collects files until they fill the next batch of a job, of which `made` exist already."""

    def __init__(self, limits: Limits, made: int = 0) -> None:
        self._limits = limits
        self._made = made
        self._files: list[FileEntry] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Return whether the batch is to be taken before another file is added."""
        most = min(self._limits.batch_files, FIRST_BATCH_FILES << min(self._made, 32))
        return len(self._files) >= most or self._bytes >= self._limits.batch_bytes

    def fits(self, entry: FileEntry) -> bool:
        """Return whether the batch may take this file; an empty one takes a file of any size."""
        return not self._files or not (self.full or self._bytes + entry.size > self._limits.batch_bytes)

    def add(self, entry: FileEntry) -> None:
        """Add a file to the batch."""
        self._files.append(entry)
        self._bytes += entry.size

    def take(self) -> tuple[FileEntry, ...]:
        """Return the batch, which may be empty, and start the next one."""
        batch = tuple(self._files)
        self._made += bool(batch)
        self._files, self._bytes = [], 0
        return batch


def changes(entries: Iterable[FileEntry], known: Iterable[KnownFile]) -> Iterator[Change]:
    """Compare two streams, both sorted by the UTF-8 bytes of their paths, in constant memory.

    Every entry is Changed or Unchanged, every other known file is Removed.
    """
    before = iter(known)
    old = next(before, None)
    for entry in entries:
        while old and old.path < entry.path:  # code points sort as their UTF-8 bytes do
            yield Removed(old.path)
            old = next(before, None)
        if not old or old.path != entry.path:
            yield Changed(entry)
            continue
        yield Changed(entry) if _differs(entry, old) else Unchanged(entry, old.skip_reason)
        old = next(before, None)
    while old:
        yield Removed(old.path)
        old = next(before, None)


def _differs(entry: FileEntry, old: KnownFile) -> bool:
    if entry.blob_id:
        return entry.blob_id != old.blob_id
    # Giving the right to read a file changes neither its size nor its time.
    was_unreadable = (old.skip_reason or "").startswith(UNREADABLE)
    return was_unreadable or not old.mtime_ns or (entry.size, entry.mtime_ns) != (old.size, old.mtime_ns)
