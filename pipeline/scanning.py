"""The file list of a repository: what is indexed, and what is passed over for which reason."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.errors import ScanRefused
from pipeline.excluding import file_reason, folder_reason, untracked_folder_reason
from pipeline.ignoring import Rules, ignored, read_rules
from pipeline.paths import LONGEST_PATH
from pipeline.records import FileEntry, Skipped
from pipeline.walking import walk
from pipeline.worktree import Found, list_work_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IGNORE_FILE: Final = b".penstockignore"
SMALLEST_IN_MB: Final = 100_000
UNREADABLE: Final = "not readable"
KINDS: Final = (
    (stat.S_ISLNK, "symbolic link, not followed"),
    (stat.S_ISFIFO, "not a regular file (named pipe)"),
    (stat.S_ISSOCK, "not a regular file (socket)"),
    (stat.S_ISCHR, "not a regular file (device)"),
    (stat.S_ISBLK, "not a regular file (device)"),
)


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


def list_files(root: Path, options: ScanOptions, heed: Callable[[], None] = lambda: None) -> Listing:
    """List the files of a repository as git sees them, or by its ignore files where it is no work tree.

    Every path that git lists is either an entry, or skipped with a reason, or no longer on disk. `heed` is called in
    between; what it raises ends the listing. Raises ScanRefused when the root is gone or the inside of a bare
    repository.
    """
    top = os.fsencode(root)
    identity = _identity(root)
    sieve = _Sieve(top, options, heed)
    pending = [b""]
    while pending:
        folder = pending.pop()
        found = _find(top, folder, sieve)
        sieve.take(found)
        pending += filter(sieve.enters_repository, (*found.submodules, *found.nested))
    if _identity(root) != identity:
        raise ScanRefused(f"{root} was replaced while its files were listed: index it again")
    return sieve.listing()


def describe_size(size: int) -> str:
    """Return a number of bytes as the user reads it: "3.2 MB", "512 bytes"."""
    return f"{size / 1e6:,.1f} MB" if size >= SMALLEST_IN_MB else f"{size:,} bytes"


def _identity(root: Path) -> tuple[int, int]:
    try:
        status = root.stat()
        with os.scandir(root):
            return status.st_dev, status.st_ino
    except OSError as error:
        raise ScanRefused(
            f"{root} cannot be listed ({error.strerror}): is it still there, and readable for the workers?"
        ) from error


def _find(top: bytes, folder: bytes, sieve: _Sieve) -> Found:
    """Return what is below `folder` with paths relative to `top`."""
    place = top + b"/" + folder if folder else top
    prefix = folder + b"/" if folder else b""
    found = list_work_tree(place, ceiling=bool(folder)) or walk(place, lambda path: sieve.enters(prefix + path))
    return found.below(prefix) if prefix else found


class _Sieve:
    """Sorts candidate paths into entries and skips, and remembers what it found out about each folder."""

    def __init__(self, top: bytes, options: ScanOptions, heed: Callable[[], None]) -> None:
        self._heed = heed
        self._prefix = top.rstrip(b"/") + b"/"
        self._options = options
        self._include = Rules(os.fsencode(glob) for glob in options.include)
        self._exclude = Rules(os.fsencode(glob) for glob in options.exclude)
        self._folders: dict[bytes, Folder] = {b"": Folder(rules=self._rules(b""))}
        self._tracked_folders: set[bytes] = set()
        self._entries: dict[str, FileEntry] = {}
        self._skipped: dict[str, str] = {}

    def listing(self) -> Listing:
        """Return everything taken so far."""
        entries = [self._entries[path] for path in sorted(self._entries)]
        skipped = [Skipped(path, self._skipped[path]) for path in sorted(self._skipped)]
        return Listing(entries, skipped, sum(entry.size for entry in entries))

    def take(self, found: Found) -> None:
        """Judge all paths of `found`."""
        self._note_tracked(found)
        for path in found.tracked:
            self._judge(path, tracked=True)
        for path in found.untracked:
            self._judge(path, tracked=False)
        for folder, reason in found.unreadable.items():
            self._skip(folder + b"/", f"{UNREADABLE}: {reason}")

    def enters(self, path: bytes) -> bool:
        """Return whether an untracked folder is to be looked into; if not, say why in the skips."""
        if not self._options.recursive:
            self._skip(path + b"/", "in a sub-folder, and only the folder itself was asked for")
            return False
        folder = self._folder(path)
        if folder.reason:
            self._skip(folder.refused + b"/", folder.reason)
        return folder.is_open

    def enters_repository(self, path: bytes) -> bool:
        """Return whether a repository inside this one is to be listed, such as a submodule."""
        if not os.path.lexists(self._prefix + path + b"/.git"):
            self._skip(path, "submodule that is not checked out")
            return False
        return self.enters(path)

    def _note_tracked(self, found: Found) -> None:
        for folder in {path.rpartition(b"/")[0] for path in found.tracked} | set(found.submodules):
            above = folder
            while above and above not in self._tracked_folders:
                self._tracked_folders.add(above)
                above = above.rpartition(b"/")[0]

    def _judge(self, path: bytes, *, tracked: bool) -> None:
        above, _, name = path.rpartition(b"/")
        if above and not self._options.recursive:
            self.enters(path.partition(b"/")[0])
            return
        folder = self._folder(above)
        if folder.reason:
            self._skip(path if tracked else folder.refused + b"/", folder.reason)
        elif not folder.gone:
            self._judge_file(path, name, folder)

    def _judge_file(self, path: bytes, name: bytes, folder: Folder) -> None:
        try:
            status = os.lstat(self._prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._skip(path, f"{UNREADABLE}: {(error.strerror or str(error)).lower()}")
            return
        if stat.S_ISDIR(status.st_mode):
            return  # git tracks a file where a folder is by now: deleted
        try:
            shown = path.decode()
        except UnicodeDecodeError:
            self._skip(path, "file name is not UTF-8")
            return
        reason = self._reason(path, name, folder, status)
        if reason:
            self._skip(path, reason)
        else:
            self._entries[shown] = FileEntry(shown, status.st_size, status.st_mtime_ns)

    def _reason(self, path: bytes, name: bytes, folder: Folder, status: os.stat_result) -> str:
        if len(path) > LONGEST_PATH:
            return f"path longer than {LONGEST_PATH:,} bytes"
        if not stat.S_ISREG(status.st_mode):
            return next((reason for is_kind, reason in KINDS if is_kind(status.st_mode)), "not a regular file")
        return (
            file_reason(name.decode())
            or self._choice_reason(path, name, folder)
            or _size_reason(status.st_size, self._options.max_file_bytes)
        )

    def _choice_reason(self, path: bytes, name: bytes, folder: Folder) -> str:
        if folder.rules and ignored(folder.rules, path, name, is_folder=False):
            return "ignored by .penstockignore"
        if self._exclude and self._exclude.covers(path):
            return "excluded by the job's globs"
        return "not among the job's globs" if self._include and not self._include.covers(path) else ""

    def _folder(self, path: bytes) -> Folder:
        known = self._folders.get(path)
        if known is None:
            self._heed()
            known = self._folders[path] = self._look_at(path)
        return known

    def _look_at(self, path: bytes) -> Folder:
        above, _, name = path.rpartition(b"/")
        parent = self._folder(above)
        if not parent.is_open:
            return parent
        full = self._prefix + path
        try:
            if not stat.S_ISDIR(os.lstat(full).st_mode):
                return Folder(gone=True)
        except OSError:
            return Folder(gone=True)
        shown = os.fsdecode(name)
        reason = folder_reason(shown)
        if not reason and path not in self._tracked_folders:
            reason = untracked_folder_reason(full)
        if not reason and ignored(parent.rules, path, name, is_folder=True):
            reason = "ignored by .penstockignore"
        return Folder((*parent.rules, *self._rules(path)), reason, path)

    def _rules(self, folder: bytes) -> tuple[Rules, ...]:
        prefix = self._prefix + folder + b"/" if folder else self._prefix
        rules = read_rules(prefix + IGNORE_FILE, folder)
        return (rules,) if rules else ()

    def _skip(self, path: bytes, reason: str) -> None:
        shown = path.decode(errors="backslashreplace")
        if len(shown.encode()) > LONGEST_PATH:
            shown = f"{shown[: LONGEST_PATH // 4]}…"
        self._skipped.setdefault(shown, reason)


def _size_reason(size: int, limit: int) -> str:
    if size > limit:
        return f"larger than {describe_size(limit)} ({describe_size(size)})"
    return "" if size else "empty"
