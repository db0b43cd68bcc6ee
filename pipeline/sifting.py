"""Sorts the paths of a repository into files to index and paths that are passed over, whatever the paths come from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.excluding import file_reason, is_secret
from pipeline.ignoring import Rules, verdict
from pipeline.paths import LONGEST_PATH
from pipeline.records import FileEntry, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

IGNORE_FILE: Final = b".penstockignore"
SMALLEST_IN_MB: Final = 100_000
SECRET: Final = "may hold a secret"  # noqa: S105 - the reason that a user reads
UNREADABLE: Final = "not readable"
WILDCARDS: Final = frozenset("*?[\\!")


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a scan takes: globs are gitignore patterns relative to the root, and `exclude` wins over `include`."""

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_file_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Listing:
    """The files to index, sorted by the UTF-8 bytes of their paths, their bytes, and what is passed over.

    A skipped path that ends with a slash stands for everything below it.
    """

    entries: list[FileEntry]
    skipped: list[Skipped]
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder below the root: the `.penstockignore` rules for it, and why its files are passed over ("" if not).

    `refused` is the outermost folder that the reason is about; `gone` says that it is no folder (any more).
    """

    rules: tuple[Rules, ...] = ()
    reason: str = ""
    refused: bytes = b""
    gone: bool = False

    @property
    def is_open(self) -> bool:
        """Return whether its files are looked at."""
        return not (self.reason or self.gone)


class Sieve(ABC):
    """Sorts paths into entries and skips, and remembers what it found out about each folder."""

    def __init__(self, options: ScanOptions, heed: Callable[[], None]) -> None:
        self._heed = heed
        self._options = options
        self._include = Rules(os.fsencode(glob) for glob in options.include)
        self._exclude = Rules(os.fsencode(glob) for glob in options.exclude)
        # A glob without a wildcard names a file, and who names a file means it.
        self._named = Rules(os.fsencode(glob) for glob in options.include if not WILDCARDS & set(glob))
        self._folders: dict[bytes, Folder] = {b"": Folder(rules=self.rules(b""))}
        self._entries: dict[str, FileEntry] = {}
        self._skipped: dict[str, str] = {}

    def listing(self) -> Listing:
        """Return everything taken so far."""
        entries = [self._entries[path] for path in sorted(self._entries)]
        skipped = [Skipped(path, self._skipped[path]) for path in sorted(self._skipped)]
        return Listing(entries, skipped, sum(entry.size for entry in entries))

    @abstractmethod
    def rules(self, folder: bytes) -> tuple[Rules, ...]:
        """Return the rules of the ignore file in a folder."""

    @abstractmethod
    def look_at(self, path: bytes, parent: Folder) -> Folder:
        """Judge a folder whose parent is open."""

    def enters(self, path: bytes) -> bool:
        """Return whether a folder is to be looked into; if not, say why in the skips."""
        if not self._options.recursive:
            self.skip(path + b"/", "in a sub-folder, and only the folder itself was asked for")
            return False
        folder = self.folder(path)
        if folder.reason:
            self.skip(folder.refused + b"/", folder.reason)
        return folder.is_open

    def folder(self, path: bytes) -> Folder:
        """Return what is known of a folder; it and those above it are looked at the first time."""
        known = self._folders.get(path)
        if known is None:
            known, end = self._folders[b""], 0
            while end < len(path):  # no recursion: a commit may be as deep as its paths are long
                end = path.find(b"/", end + 1) % (len(path) + 1)
                known = self._below(path[:end], known)
        return known

    def _below(self, path: bytes, parent: Folder) -> Folder:
        known = self._folders.get(path)
        if known is None:
            self._heed()
            known = self._folders[path] = self.look_at(path, parent) if parent.is_open else parent
        return known

    def file(self, path: bytes, folder: Folder, kind_reason: str, size: int, mtime_ns: int, blob_id: str = "") -> None:
        """Take a file of a folder that is open; `kind_reason` says why it is no file to be read."""
        try:
            shown = path.decode()
        except UnicodeDecodeError:
            self.skip(path, "file name is not UTF-8")
            return
        reason = self._path_reason(path, kind_reason, folder) or _size_reason(size, self._options.max_file_bytes)
        if reason:
            self.skip(path, reason)
        else:
            self._entries[shown] = FileEntry(shown, size, mtime_ns, blob_id)

    def skip(self, path: bytes, reason: str) -> None:
        """Note why a path is passed over."""
        shown = path.decode(errors="backslashreplace")
        if len(shown.encode()) > LONGEST_PATH:
            shown = f"{shown[: LONGEST_PATH // 4]}…"
        self._skipped.setdefault(shown, reason)

    def _path_reason(self, path: bytes, kind_reason: str, folder: Folder) -> str:
        if len(path) > LONGEST_PATH:
            return f"path longer than {LONGEST_PATH:,} bytes"
        name = path.rpartition(b"/")[2]
        return kind_reason or file_reason(name.decode()) or self._choice_reason(path, name, folder)

    def _choice_reason(self, path: bytes, name: bytes, folder: Folder) -> str:
        ruled = verdict(folder.rules, path, name, is_folder=False)
        if ruled:
            return "ignored by .penstockignore"
        if self._exclude and self._exclude.covers(path):
            return "excluded by the job's globs"
        if self._include and not self._include.covers(path):
            return "not among the job's globs"
        meant = ruled is False or self._named.verdict(path, name, is_folder=False)
        return "" if meant or not is_secret(path.decode()) else SECRET


def describe_size(size: int) -> str:
    """Return a number of bytes as the user reads it: "3.2 MB", "512 bytes"."""
    return f"{size / 1e6:,.1f} MB" if size >= SMALLEST_IN_MB else f"{size:,} bytes"


def _size_reason(size: int, limit: int) -> str:
    if size > limit:
        return f"larger than {describe_size(limit)} ({describe_size(size)})"
    return "" if size else "empty"
