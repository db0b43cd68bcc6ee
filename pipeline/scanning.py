"""The file list of a folder: what is indexed, and what is passed over for which reason."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from pipeline.errors import ScanRefused
from pipeline.excluding import folder_reason, untracked_folder_reason
from pipeline.ignoring import Rules, ignored, read_rules
from pipeline.sifting import IGNORE_FILE, UNREADABLE, Folder, Listing, ScanOptions, Sieve
from pipeline.walking import walk
from pipeline.worktree import Found, list_work_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS: Final = (
    (stat.S_ISLNK, "symbolic link, not followed"),
    (stat.S_ISFIFO, "not a regular file (named pipe)"),
    (stat.S_ISSOCK, "not a regular file (socket)"),
    (stat.S_ISCHR, "not a regular file (device)"),
    (stat.S_ISBLK, "not a regular file (device)"),
)


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


class _Sieve(Sieve):
    """Sorts what is found on disk."""

    def __init__(self, top: bytes, options: ScanOptions, heed: Callable[[], None]) -> None:
        self._prefix = top.rstrip(b"/") + b"/"
        self._tracked_folders: set[bytes] = set()
        super().__init__(options, heed)

    def take(self, found: Found) -> None:
        """Judge all paths of `found`."""
        self._note_tracked(found)
        for path in found.tracked:
            self._judge(path, tracked=True)
        for path in found.untracked:
            self._judge(path, tracked=False)
        for folder, reason in found.unreadable.items():
            self.skip(folder + b"/", f"{UNREADABLE}: {reason}")

    def enters_repository(self, path: bytes) -> bool:
        """Return whether a repository inside this one is to be listed, such as a submodule."""
        if not os.path.lexists(self._prefix + path + b"/.git"):
            self.skip(path, "submodule that is not checked out")
            return False
        return self.enters(path)

    def rules(self, folder: bytes) -> tuple[Rules, ...]:
        """Read the ignore file in a folder."""
        prefix = self._prefix + folder + b"/" if folder else self._prefix
        rules = read_rules(prefix + IGNORE_FILE, folder)
        return (rules,) if rules else ()

    def look_at(self, path: bytes, parent: Folder) -> Folder:
        """Look at a folder on disk."""
        full = self._prefix + path
        try:
            if not stat.S_ISDIR(os.lstat(full).st_mode):
                return Folder(gone=True)
        except OSError:
            return Folder(gone=True)
        name = path.rpartition(b"/")[2]
        reason = folder_reason(os.fsdecode(name))
        if not reason and path not in self._tracked_folders:
            reason = untracked_folder_reason(full)
        if not reason and ignored(parent.rules, path, name, is_folder=True):
            reason = "ignored by .penstockignore"
        return Folder((*parent.rules, *self.rules(path)), reason, path)

    def _note_tracked(self, found: Found) -> None:
        for folder in {path.rpartition(b"/")[0] for path in found.tracked} | set(found.submodules):
            above = folder
            while above and above not in self._tracked_folders:
                self._tracked_folders.add(above)
                above = above.rpartition(b"/")[0]

    def _judge(self, path: bytes, *, tracked: bool) -> None:
        above = path.rpartition(b"/")[0]
        if above and not self._options.recursive:
            self.enters(path.partition(b"/")[0])
            return
        folder = self.folder(above)
        if folder.reason:
            self.skip(path if tracked else folder.refused + b"/", folder.reason)
        elif not folder.gone:
            self._judge_file(path, folder)

    def _judge_file(self, path: bytes, folder: Folder) -> None:
        try:
            status = os.lstat(self._prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.skip(path, f"{UNREADABLE}: {(error.strerror or str(error)).lower()}")
            return
        if not stat.S_ISDIR(status.st_mode):  # git tracks a file where a folder is by now: deleted
            self.file(path, folder, _kind_reason(status.st_mode), status.st_size, status.st_mtime_ns)


def _kind_reason(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return next((reason for is_kind, reason in KINDS if is_kind(mode)), "not a regular file")
