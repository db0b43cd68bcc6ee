"""Finds the files below a folder without git, keeping the rules of its `.gitignore` files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.ignoring import Rules, ignored, read_rules
from pipeline.worktree import Found

if TYPE_CHECKING:
    from collections.abc import Callable


def walk(root: bytes, enters: Callable[[bytes], bool]) -> Found:
    """Walk the folders below `root` that are neither ignored nor refused by `enters`; links are never followed.

    Folders with a `.git` of their own are not entered but named in `nested`. A `root` that is gone is empty.
    """
    found = Found()
    own_rules = read_rules(os.path.join(root, b".git", b"info", b"exclude"))  # noqa: PTH118 - bytes
    pending: list[tuple[bytes, tuple[Rules, ...]]] = [(b"", (own_rules,) if own_rules else ())]
    while pending:
        folder, chain = pending.pop()
        try:
            with os.scandir(root + b"/" + folder) as entries:
                children = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found.unreadable[folder] = (error.strerror or str(error)).lower()
            continue
        if folder and b".git" in children:
            found.nested.append(folder)
            continue
        chain = _extended(chain, root, folder, children)
        folders = _sort(found, folder, children, chain)
        pending += [(path, chain) for path in folders if enters(path)]
    return found


def _extended(chain: tuple[Rules, ...], root: bytes, folder: bytes, children: dict[bytes, bool]) -> tuple[Rules, ...]:
    if b".gitignore" not in children:
        return chain
    rules = read_rules(b"/".join(filter(None, (root, folder, b".gitignore"))), folder)
    return (*chain, rules) if rules else chain


def _sort(found: Found, folder: bytes, children: dict[bytes, bool], chain: tuple[Rules, ...]) -> list[bytes]:
    """Add the files of a folder to `found` and return its sub-folders, both without those that are ignored."""
    folders: list[bytes] = []
    prefix = folder + b"/" if folder else b""
    for name, is_folder in children.items():
        path = prefix + name
        if name == b".git" or ignored(chain, path, name, is_folder=is_folder):
            continue
        (folders if is_folder else found.untracked).append(path)
    return folders
