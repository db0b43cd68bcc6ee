"""Judges the path of a repository before anything is stored (R06)."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from pipeline.errors import InvalidPath

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_PATH: Final = 2_000
"""In bytes; a longer path does not fit into an index of the database."""
ENCODED_TWICE: Final = 2
MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


def validate(
    path: str, *, allowed_roots: Sequence[Path] = (), min_free_bytes: int = 0, disk_path: Path | None = None
) -> Path:
    """Return the real path of the folder that `path` names.

    `allowed_roots`, when there are any, must hold the real path; `min_free_bytes` must be free where `disk_path` (or
    the folder) lies. Raises InvalidPath, with a text that says what to do.
    """
    _check_text(path)
    folder = _resolve(path)
    _check_allowed(path, folder, allowed_roots)
    _check_folder(path, folder)
    check_disk(disk_path or folder, min_free_bytes)
    return folder


def _check_text(path: str) -> None:
    if not path.strip():
        raise InvalidPath("the path is empty: name the folder to index")
    if "\0" in path:
        raise InvalidPath(f"{path!r} holds a NUL character, which no path can")
    if not path.startswith("/"):
        raise InvalidPath(f"{path!r} is relative; the path must be absolute: start it at /")
    if climbs(path):
        raise InvalidPath(f"{path!r} holds a '..' component (path traversal): name the folder itself")
    check_encoding(path)


def climbs(path: str) -> bool:
    """Return whether a path has a `..` component, also percent-encoded."""
    for _ in range(ENCODED_TWICE + 1):
        if ".." in path.split("/"):
            return True
        path = unquote(path)
    return False


def check_encoding(path: str) -> None:
    """Raise InvalidPath for a path that the database cannot hold."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise InvalidPath(f"{path!a} is not valid UTF-8: rename the folder, or reach it by a link in UTF-8") from None
    if size > LONGEST_PATH:
        raise InvalidPath(f"the path is too long ({size:,} bytes, at most {LONGEST_PATH:,}): {path[:80]}…")


def _resolve(path: str) -> Path:
    try:
        folder = Path(path).resolve()
    except (OSError, RuntimeError):  # a name too long for the file system, or links in a circle
        raise InvalidPath(
            f"{path} cannot be resolved: is there a circle of links, or a name that is too long?"
        ) from None
    check_encoding(str(folder))
    return folder


def _check_allowed(path: str, folder: Path, allowed_roots: Sequence[Path]) -> None:
    if allowed_roots and not any(folder.is_relative_to(root.resolve()) for root in allowed_roots):
        allowed = ", ".join(map(str, allowed_roots))
        raise InvalidPath(f"{path} is outside the allowed roots ({allowed}): see PENSTOCK_ALLOWED_ROOTS")


def _check_folder(path: str, folder: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except OSError as error:
        if error.errno in MISSING:
            raise InvalidPath(f"{path} does not exist: check the spelling") from None
        raise _unreadable(path, error) from None
    if not is_folder:
        raise InvalidPath(f"{path} is not a directory: name the folder that holds the files")
    try:
        os.scandir(folder).close()
        os.stat(f"{folder}/.")  # noqa: PTH116 - pathlib drops the dot, which asks for the right to enter
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: OSError) -> InvalidPath:
    reason = (error.strerror or str(error)).lower()
    return InvalidPath(f"{path} is not readable ({reason}): grant read and search rights to the user of the workers")


def check_disk(place: Path, min_free_bytes: int) -> None:
    """Raise InvalidPath when fewer bytes are free at `place`."""
    free = shutil.disk_usage(place).free if min_free_bytes else 0
    if free < min_free_bytes:
        raise InvalidPath(
            f"too little free disk space at {place}: {free:,} bytes, at least {min_free_bytes:,} are needed; make room"
        )
