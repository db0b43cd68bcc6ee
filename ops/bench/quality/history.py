"""What people said of their changes: the subjects of later commits, asked of the tree as it was before them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from ops.bench.quality.preparing import Prepared
from ops.bench.quality.records import WHOLE, Place, Question
from ops.bench.quality.sources import Package, lay_out, read, stamp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

TASK: Final = "commit"
LATER: Final = 150
MOST_FILES: Final = 10
LEAST_WORDS: Final = 3
COMMIT: Final = "\x01"


def prepare_history(folder: Path, repository: Path, later: int = LATER) -> Prepared:
    """Return a repository as a source: its tree before the last commits (the younger half at most), their subjects."""
    commits = _git(repository, "rev-list", "--first-parent", "HEAD").split()
    base = commits[min(later, len(commits) // 2)]
    name = f"history-{repository.resolve().name}"
    package = Package("git", name, base, "", "", small=False, language="history", folders=())
    archive = folder / "archives" / "git" / f"{name}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    _git(repository, "archive", "--prefix=tree/", f"--output={archive}", base)
    files = read(package, [archive]).files
    tree = folder / "trees" / package.label / WHOLE
    lay_out(files, tree)
    questions = tuple(_questions(name, _git(repository, "log", *LOG, f"{base}..HEAD"), files))
    return Prepared(package, {WHOLE: tree}, stamp(base, sorted(files)), questions)


LOG: Final = ("--no-merges", "--no-renames", "--name-only", f"--format={COMMIT}%s")


def _questions(source: str, log: str, files: Collection[str]) -> Iterator[Question]:
    for commit in log.split(COMMIT)[1:]:
        subject, _, names = commit.partition("\n")
        changed = names.split("\n")
        known = tuple(Place(name) for name in changed if name in files)
        if known and len([*filter(None, changed)]) <= MOST_FILES and len(subject.split()) >= LEAST_WORDS:
            yield Question(TASK, source, "history", subject, known, every=True)


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-c", "core.quotePath=false", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout  # noqa: S603 - git
