"""The file list of git work trees (R40)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import ScanRefused
from tests.repositories import add_oddities, commit, generate, git, listed_by_git, repository, write
from tests.unit.test_scanning import paths, reasons, scan

if TYPE_CHECKING:
    from pathlib import Path


def test_every_path_of_git_is_accounted_for(tmp_path: Path) -> None:
    """Each path that `git ls-files` names is an entry or a skip, so that counts can be reconciled (R15, R40)."""
    root = repository(tmp_path, {})
    generate(root, 60)
    add_oddities(root)
    commit(root)
    (root / "pipe").unlink()
    write(root, {"new.py": "x", ".penstockignore": "*.md\n"})
    listing = scan(root, exclude=("*.go",))
    assert listed_by_git(root) == {*paths(listing), *reasons(listing)}
    assert len(paths(listing)) > 20
    assert len(reasons(listing)) > 10


def test_untracked_files_count_and_deleted_ones_do_not(tmp_path: Path) -> None:
    """The work tree as it is decides, not the last commit (R40)."""
    root = repository(tmp_path, {"a.py": "x", "gone.py": "x", "folder/b.py": "x", "file": "x"})
    (root / "gone.py").unlink()
    (root / "folder/b.py").unlink()
    (root / "folder").rmdir()
    (root / "folder").symlink_to("/etc")
    (root / "file").unlink()
    write(root, {"new.py": "x", "file/inside.py": "x"})
    listing = scan(root)
    assert paths(listing) == ["a.py", "file/inside.py", "new.py"]
    assert reasons(listing) == {"folder": "symbolic link, not followed"}


def test_a_tracked_file_is_listed_even_when_a_rule_ignores_it(tmp_path: Path) -> None:
    """Git never ignores what it tracks (R40)."""
    root = repository(tmp_path, {"a.log": "x"})
    write(root, {".gitignore": "*.log\n", "b.log": "x"})
    assert paths(scan(root)) == [".gitignore", "a.log"]


def test_a_sub_folder_keeps_the_rules_of_its_parents(tmp_path: Path) -> None:
    """Indexing a part of a work tree gives what the whole would, relative to the part (R40)."""
    repository(tmp_path, {".gitignore": "*.log\nsub/x/\n", "a.py": "x", "sub/b.py": "x"})
    write(tmp_path, {"sub/b.log": "x", "sub/x/c.py": "x", "sub/new.py": "x"})
    assert paths(scan(tmp_path / "sub")) == ["b.py", "new.py"]


def test_a_folder_that_its_work_tree_ignores_is_listed_by_its_own_rules(tmp_path: Path) -> None:
    """Who names an ignored folder wants it indexed: a home folder under git may ignore everything (R40)."""
    repository(tmp_path, {".gitignore": "*\n"})
    write(tmp_path, {"project/.gitignore": "*.log\n", "project/a.py": "x", "project/a.log": "x"})
    assert paths(scan(tmp_path / "project")) == [".gitignore", "a.py"]


def test_submodules_and_repositories_inside_are_listed_by_their_own_rules(tmp_path: Path) -> None:
    """Initialised submodules and clones inside count; a submodule that is not checked out is named (R40)."""
    library = repository(tmp_path / "library", {"lib.py": "x", ".gitignore": "*.tmp\n"})
    root = repository(tmp_path / "root", {"a.py": "x"})
    for folder in ("deps/one", "deps/two"):
        git(root, "submodule", "--quiet", "add", str(library), folder)
    commit(root)
    git(root, "submodule", "--quiet", "deinit", "--force", "deps/two")
    write(root, {"deps/one/x.tmp": "x", "deps/one/new.py": "x"})
    repository(root / "clone", {"c.py": "x"})
    listing = scan(root)
    assert paths(listing) == [
        *(".gitmodules", "a.py", "clone/c.py", "deps/one/.gitignore", "deps/one/lib.py", "deps/one/new.py"),
    ]
    assert reasons(listing) == {"deps/two": "submodule that is not checked out"}


def test_a_submodule_below_a_vendor_folder_is_listed(tmp_path: Path) -> None:
    """Git tracks a submodule, so its folder is no build output; a clone that a build made is (R40)."""
    library = repository(tmp_path / "library", {"lib.py": "x"})
    root = repository(tmp_path / "root", {"go.mod": "x", "CMakeLists.txt": "x"})
    git(root, "submodule", "--quiet", "add", str(library), "vendor/library")
    repository(root / "build/_deps/other", {"other.c": "x"})
    listing = scan(root)
    assert "vendor/library/lib.py" in paths(listing)
    assert reasons(listing) == {"build/": "in a build folder (build)"}


def test_an_unmerged_file_is_listed_once(tmp_path: Path) -> None:
    """The three sides of a conflict are one file (R40)."""
    root = repository(tmp_path, {"a.py": "base\n"})
    for branch in ("left", "right"):
        git(root, "checkout", "--quiet", "-b", branch, "main")
        write(root, {"a.py": f"{branch}\n"})
        commit(root)
    with pytest.raises(Exception, match="status 1"):
        git(root, "merge", "left")
    assert len(git(root, "ls-files", "--stage").splitlines()) == 3
    assert paths(scan(root)) == ["a.py"]


def test_worktrees_and_sparse_checkouts_are_listed_as_they_are(tmp_path: Path) -> None:
    """A `.git` that is a file works, and what is not checked out is not there (R40)."""
    root = repository(tmp_path / "main", {"a/a.py": "x", "b/b.py": "x", ".gitignore": "*.log\n"})
    git(root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "other"))
    write(tmp_path / "other", {"a/a.log": "x"})
    assert paths(scan(tmp_path / "other")) == [".gitignore", "a/a.py", "b/b.py"]
    git(root, "sparse-checkout", "set", "--cone", "--sparse-index", "a")
    assert paths(scan(root)) == [".gitignore", "a/a.py"]


def test_a_repository_of_another_user_is_listed(tmp_path: Path) -> None:
    """Workers often run under another account than the one that cloned (R40)."""
    root = repository(tmp_path, {".gitignore": "*.log\n", "a.log": "x", "a.py": "x"})
    write(root, {"tracked.log": "x"})
    git(root, "add", "--force", "tracked.log")
    if os.geteuid() == 0:
        os.chown(root, 12_345, 12_345)
        os.chown(root / ".git", 12_345, 12_345)
    assert paths(scan(root)) == [".gitignore", "a.py", "tracked.log"]


def test_variables_of_another_repository_do_not_mislead_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker started from a hook has GIT_DIR set; the root alone decides (R40)."""
    other = repository(tmp_path / "other", {"other.py": "x"})
    root = repository(tmp_path / "root", {"a.py": "x"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    assert paths(scan(root)) == ["a.py"]


def test_a_repository_cannot_run_code_by_being_listed(tmp_path: Path) -> None:
    """A file system monitor named by the repository's own settings is not started (R40)."""
    root = repository(tmp_path / "root", {"a.py": "x"})
    write(tmp_path, {"monitor": f"#!/bin/sh\ntouch {tmp_path}/ran\n"})
    (tmp_path / "monitor").chmod(0o755)
    git(root, "config", "core.fsmonitor", str(tmp_path / "monitor"))
    assert paths(scan(root)) == ["a.py"]
    assert not (tmp_path / "ran").exists()


def test_a_broken_repository_is_walked(tmp_path: Path) -> None:
    """When git cannot read its own files, the ignore files still hold (R40)."""
    root = repository(tmp_path, {".gitignore": "*.log\n", "a.py": "x"})
    write(root, {".git/index": "no index", "a.log": "x"})
    assert paths(scan(root)) == [".gitignore", "a.py"]


def test_a_bare_repository_is_refused(tmp_path: Path) -> None:
    """It has no files to index, and the text says what to do (R09)."""
    git(tmp_path, "init", "--quiet", "--bare", "bare.git")
    for root in (tmp_path / "bare.git", tmp_path / "bare.git/objects"):
        with pytest.raises(ScanRefused, match="is the inside of a git repository"):
            scan(root)
