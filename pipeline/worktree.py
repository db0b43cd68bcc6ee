"""Asks git which files a work tree holds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline import git
from pipeline.errors import ScanRefused

if TYPE_CHECKING:
    import subprocess

SUBMODULE: Final = b"160000"

_UNREADABLE = re.compile(rb"^warning: could not open directory '(.*?)/?': (.*)$", re.MULTILINE)


@dataclass(slots=True)
class Found:
    """The paths found in a folder, relative to it.

    `submodules` and `nested` (which git does not track) are the repositories inside, which have rules of their own;
    `unreadable` maps a folder to the reason.
    """

    tracked: list[bytes] = field(default_factory=list)
    untracked: list[bytes] = field(default_factory=list)
    submodules: list[bytes] = field(default_factory=list)
    nested: list[bytes] = field(default_factory=list)
    unreadable: dict[bytes, str] = field(default_factory=dict)

    def below(self, prefix: bytes) -> Found:
        """Return the same with every path below `prefix`, which ends with a slash."""
        return Found(
            [prefix + path for path in self.tracked],
            [prefix + path for path in self.untracked],
            [prefix + path for path in self.submodules],
            [prefix + path for path in self.nested],
            {prefix + path: reason for path, reason in self.unreadable.items()},
        )


def list_work_tree(root: bytes, *, ceiling: bool = False) -> Found | None:
    """List the files that git tracks or would track below `root`; None where only a walk can tell.

    That is: no git, no work tree, or a folder that its own repository ignores. `ceiling` keeps git from looking for a
    repository above `root`. Raises ScanRefused for the inside of a bare repository or of a .git folder.
    """
    prefix = _prefix(root, ceiling=ceiling)
    if prefix is None or (prefix and git.run(root, "check-ignore", "-q", "--", root) is not None):
        return None
    staged = git.run(root, "ls-files", "-z", "--stage", "--cached")
    others = git.run(root, "ls-files", "-z", "--others", "--exclude-standard")
    return None if staged is None or others is None else _parse(staged.stdout, others, prefix)


def _prefix(root: bytes, *, ceiling: bool) -> bytes | None:
    """Return the path of `root` in its work tree with a trailing slash, b"" at the top; None outside of any."""
    above = os.path.dirname(root) if ceiling else None  # noqa: PTH120 - bytes
    answer = git.run(root, "rev-parse", "--is-inside-git-dir", "--is-inside-work-tree", "--show-prefix", ceiling=above)
    if answer is None:
        return None
    in_git_folder, in_work_tree, prefix = answer.stdout.split(b"\n", 2)
    if in_git_folder == b"true":
        raise ScanRefused(f"{os.fsdecode(root)} is the inside of a git repository: index the repository itself")
    return prefix.removesuffix(b"\n") if in_work_tree == b"true" else None


def _parse(staged: bytes, others: subprocess.CompletedProcess[bytes], prefix: bytes) -> Found:
    found = Found()
    for record in staged.split(b"\0")[:-1]:
        kind, _, path = record.partition(b"\t")
        (found.submodules if kind.startswith(SUBMODULE) else found.tracked).append(path)
    for path in others.stdout.split(b"\0")[:-1]:
        # Git names a repository inside with a slash.
        (found.nested if path.endswith(b"/") else found.untracked).append(path.removesuffix(b"/"))
    found.tracked = list(dict.fromkeys(found.tracked))  # an unmerged path has a record a side
    for folder, reason in _UNREADABLE.findall(others.stderr):
        found.unreadable[folder.removeprefix(prefix)] = reason.decode(errors="replace").lower()
    return found
