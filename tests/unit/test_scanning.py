"""The file list of a repository (R40, R41)."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import ScanRefused
from pipeline.paths import LONGEST_PATH
from pipeline.records import FileEntry
from pipeline.scanning import list_files
from pipeline.sifting import Listing, ScanOptions, describe_size
from pipeline.walking import walk
from tests.repositories import (
    add_oddities,
    add_symlink_loop,
    generate,
    git,
    repository,
    source_file,
    unprivileged,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.worktree import Found


@pytest.fixture(params=[True, False], ids=["git", "walk"])
def with_git(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Say whether the test runs in work trees; if not, git is not even installed for the scan."""
    if not request.param:
        monkeypatch.setattr("pipeline.git.shutil.which", lambda _: None)
    return bool(request.param)


def scan(
    root: Path, *, recursive: bool = True, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
) -> Listing:
    """List the files with these options."""
    return list_files(root, ScanOptions(recursive=recursive, include=include, exclude=exclude))


def paths(listing: Listing) -> list[str]:
    """Return the paths of the entries."""
    return [entry.path for entry in listing.entries]


def reasons(listing: Listing) -> dict[str, str]:
    """Return the reason of each skipped path."""
    return {skipped.path: skipped.reason for skipped in listing.skipped}


# --- what is listed ---------------------------------------------------------------------------------------------------


def test_entries_come_sorted_with_their_size_and_time(tmp_path: Path, *, with_git: bool) -> None:
    """The order is that of the UTF-8 bytes, and the total is that of the entries (R08, R36)."""
    names = ["b.py", "a/z.py", "a.py", "é.py", "B.py", "\U0001f600.py", "\uffee.py", "a\nb.py", "x.py/y"]
    (repository if with_git else write)(tmp_path, dict.fromkeys(names, "12345"))
    listing = scan(tmp_path)
    assert paths(listing) == sorted(names, key=str.encode)
    assert listing.entries[0] == FileEntry("B.py", 5, (tmp_path / "B.py").stat().st_mtime_ns)
    assert listing.total_bytes == 5 * len(names)


def test_ignored_files_are_not_mentioned(tmp_path: Path, *, with_git: bool) -> None:
    """What the ignore files rule out is neither an entry nor a skip (R40)."""
    tree = {
        ".gitignore": "*.log\nbig/\n",
        "a.log": "x",
        "big/a.py": "x",
        "src/.gitignore": "!a.log\n",
        "src/a.log": "x",
    }
    (repository if with_git else write)(tmp_path, tree)
    listing = scan(tmp_path)
    assert paths(listing) == [".gitignore", "src/.gitignore", "src/a.log"]
    assert listing.skipped == []


def test_a_penstockignore_file_excludes_more_and_never_less(tmp_path: Path, *, with_git: bool) -> None:
    """It has git's syntax, nests, and cannot bring back what git ignores (R40)."""
    tree = {
        ".gitignore": "*.log\n",
        ".penstockignore": "*.csv\ndata/\n!*.log\n",
        "keep/.penstockignore": "!*.csv\n",
        **dict.fromkeys(["a.csv", "keep/a.csv", "data/a.py", "a.log", "a.py"], "x"),
    }
    (repository if with_git else write)(tmp_path, tree)
    listing = scan(tmp_path)
    assert paths(listing) == [".gitignore", ".penstockignore", "a.py", "keep/.penstockignore", "keep/a.csv"]
    folder = "data/a.py" if with_git else "data/"
    assert reasons(listing) == dict.fromkeys(["a.csv", folder], "ignored by .penstockignore")


def test_globs_choose_and_exclusion_wins(tmp_path: Path, *, with_git: bool) -> None:
    """Include and exclude are git patterns from the root (R04)."""
    tree = dict.fromkeys(["a.py", "src/a.py", "src/a.js", "src/test/a.py", "docs/a.md", "docs/b.py"], "x")
    (repository if with_git else write)(tmp_path, tree)
    assert paths(scan(tmp_path, include=("*.py",))) == ["a.py", "docs/b.py", "src/a.py", "src/test/a.py"]
    chosen = scan(tmp_path, include=("src/", "/a.py"), exclude=("test/", "*.js"))
    assert paths(chosen) == ["a.py", "src/a.py"]
    assert reasons(chosen)["src/a.js"] == "excluded by the job's globs"
    assert reasons(chosen)["docs/a.md"] == "not among the job's globs"


def test_secrets_are_passed_over_unless_they_are_meant(tmp_path: Path, *, with_git: bool) -> None:
    """A rule that brings a file back, or a glob that names it, shows that it is meant; a broad glob does not (R40)."""
    tree = {
        "config/.penstockignore": "!test.key\n",
        **dict.fromkeys(["config/test.key", "config/live.key", "a.tfvars", "src/.env", ".aws/credentials"], "x"),
    }
    (repository if with_git else write)(tmp_path, tree)
    secrets = {".aws/credentials", "a.tfvars", "config/live.key", "src/.env"}
    assert {path for path, reason in reasons(scan(tmp_path)).items() if reason == "may hold a secret"} == secrets
    chosen = scan(tmp_path, include=("**", "src/", "a.tfvars", "/src/.env"))
    assert set(paths(chosen)) == {"config/.penstockignore", "config/test.key", "a.tfvars", "src/.env"}
    assert paths(scan(tmp_path, include=("a.tfvars",), exclude=("*.tfvars",))) == []


def test_a_flat_scan_takes_the_folder_itself(tmp_path: Path, *, with_git: bool) -> None:
    """With recursive=False the sub-folders are one skip each (R04)."""
    (repository if with_git else write)(tmp_path, dict.fromkeys(["a.py", "x/b.py", "x/y/c.py", "z/d.py"], "x"))
    listing = scan(tmp_path, recursive=False)
    assert paths(listing) == ["a.py"]
    assert list(reasons(listing)) == ["x/", "z/"]


@pytest.mark.parametrize("above", [".hidden", "node_modules", "build", ".venv/lib/site-packages"])
def test_the_path_above_the_root_is_never_judged(tmp_path: Path, above: str, *, with_git: bool) -> None:
    """A repository below a hidden or a dependency folder is listed like any other (R40)."""
    root = tmp_path / above / "repo"
    (repository if with_git else write)(root, {"a.py": "x", "src/b.py": "x"})
    assert paths(scan(root)) == ["a.py", "src/b.py"]


@pytest.mark.usefixtures("with_git")
def test_repositories_below_a_plain_folder_keep_their_own_rules(tmp_path: Path) -> None:
    """A folder of clones is listed clone by clone, each by its own rules alone (R40)."""
    write(tmp_path, {".gitignore": "*.md\n", "a.md": "x", "b.py": "x"})
    repository(tmp_path / "one", {"c.md": "x", ".gitignore": "*.py\n"})
    write(tmp_path, {"one/d.py": "x"})
    (tmp_path / "one/.git/info").mkdir(exist_ok=True)
    (tmp_path / "one/.git/info/exclude").write_text("*.tmp\n")
    write(tmp_path, {"one/e.tmp": "x", "node_modules/two/f.py": "x"})
    (tmp_path / "node_modules/two/.git").mkdir()
    listing = scan(tmp_path)
    assert paths(listing) == [".gitignore", "b.py", "one/.gitignore", "one/c.md"]
    assert list(reasons(listing)) == ["node_modules/"]


# --- what is passed over ----------------------------------------------------------------------------------------------


def test_odd_files_are_skipped_with_their_reason(tmp_path: Path, *, with_git: bool) -> None:
    """Links, pipes, large, empty, secret, generated and oddly named files are passed over, never opened (R41)."""
    root = repository(tmp_path, {"a.py": "x"}) if with_git else write(tmp_path, {"a.py": "x"})
    expected = {path: reason for path, reason in add_oddities(root).items() if reason != "binary"}
    if with_git:
        del expected["pipe"]  # git does not list what it cannot track
    listing = scan(root)
    assert reasons(listing) == expected
    assert paths(listing) == ["a.py", "noise.dat", "nul.bin"]


def test_sockets_are_not_opened(tmp_path: Path) -> None:
    """A socket in the tree is passed over with its kind (R41)."""
    here = Path.cwd()
    os.chdir(tmp_path)  # the path of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("listener")
            assert reasons(scan(tmp_path)) == {"listener": "not a regular file (socket)"}
    finally:
        os.chdir(here)


def test_loops_of_links_end_and_links_out_are_not_followed(tmp_path: Path, *, with_git: bool) -> None:
    """Links are named in the skips, and nothing behind them is listed (R40)."""
    write(tmp_path, {"outside/secret.py": "x"})
    root = tmp_path / "root"
    root.mkdir()
    add_symlink_loop(root)
    (root / "out").symlink_to("../outside")
    (repository if with_git else write)(root, {"a.py": "x"})
    listing = scan(root)
    assert paths(listing) == ["a.py"]
    assert reasons(listing) == dict.fromkeys(["left/loop", "out", "right/loop", "self"], "symbolic link, not followed")


def test_dependency_folders_are_skipped_tracked_or_not(tmp_path: Path) -> None:
    """An untracked one is one skip, a tracked one a skip a file, an ignored one is not mentioned (R40)."""
    root = repository(tmp_path, {".gitignore": "/ignored\n", "tracked/node_modules/a.js": "x", "a.js": "x"})
    write(root, {"node_modules/b/b.js": "x", "node_modules/c.js": "x", "ignored/node_modules/d.js": "x"})
    listing = scan(root)
    assert paths(listing) == [".gitignore", "a.js"]
    assert reasons(listing) == dict.fromkeys(
        ["node_modules/", "tracked/node_modules/a.js"], "in a dependency folder (node_modules)"
    )


@pytest.mark.parametrize(
    ("folder", "sign", "reason"),
    [
        ("target", "Cargo.toml", "build folder"),
        ("dist", "package.json", "build folder"),
        ("build", "pyproject.toml", "build folder"),
        ("vendor", "go.mod", "build folder"),
        ("env", "env/pyvenv.cfg", "virtual environment"),
        ("store", "store/CACHEDIR.TAG", "cache folder"),
    ],
)
def test_build_output_is_told_by_what_lies_beside_it(
    tmp_path: Path, folder: str, sign: str, reason: str, *, with_git: bool
) -> None:
    """An ordinary name is excluded only with a sign that it is output, and never when git tracks it (R40)."""
    (repository if with_git else write)(tmp_path, {"a.py": "x", f"sub/{folder}/kept.py": "x"})
    write(tmp_path, {sign: "x", f"{folder}/out.py": "x"})
    listing = scan(tmp_path)
    assert f"sub/{folder}/kept.py" in paths(listing)
    assert reason in reasons(listing)[f"{folder}/"]
    assert f"{folder}/out.py" not in paths(listing)
    if with_git:
        git(tmp_path, "add", f"{folder}/out.py")
        assert f"{folder}/out.py" in paths(scan(tmp_path))


def test_a_closed_folder_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch, *, with_git: bool) -> None:
    """A folder or file that the worker may not enter does not stop the scan (R41)."""
    with unprivileged() as root:
        monkeypatch.setenv("HOME", str(root))
        (repository if with_git else write)(root, {"a.py": "x", "tracked/b.py": "x"})
        write(root, {"new/c.py": "x"})
        for folder in ("tracked", "new"):
            (root / folder).chmod(0)
        listing = scan(root)
        for folder in ("tracked", "new"):
            (root / folder).chmod(0o700)
    assert paths(listing) == ["a.py"]
    assert {"new/", "tracked/"} <= reasons(listing).keys()
    assert all(reason == "not readable: permission denied" for reason in reasons(listing).values())


def test_a_path_too_long_for_the_database_is_skipped(tmp_path: Path) -> None:
    """The reason is given under a shortened path (R41)."""
    write(tmp_path, {"/".join(["x" * 200] * 11) + "/a.py": "x", "a.py": "x"})
    listing = scan(tmp_path)
    assert paths(listing) == ["a.py"]
    (skipped,) = listing.skipped
    assert "path longer than" in skipped.reason
    assert len(skipped.path.encode()) < LONGEST_PATH


def test_sizes_read_as_people_write_them() -> None:
    """Sizes are decimal, as MAX_FILE_SIZE_MB is (R41)."""
    assert [describe_size(size) for size in (0, 999, 99_999, 1_000_000, 3_200_000)] == [
        *("0 bytes", "999 bytes", "99,999 bytes", "1.0 MB", "3.2 MB"),
    ]


# --- a tree in motion -------------------------------------------------------------------------------------------------


def test_a_root_that_is_gone_is_refused(tmp_path: Path) -> None:
    """A vanished root is an error, not an empty repository (R09)."""
    with pytest.raises(ScanRefused, match="still there"):
        scan(tmp_path / "gone")


def test_a_root_replaced_while_it_is_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-seen tree would remove files from the index that exist (R43)."""
    root = write(tmp_path / "root", {"a.py": "x"})

    def replace(place: bytes, enters: Callable[[bytes], bool]) -> Found:
        found = walk(place, enters)
        root.rename(tmp_path / "old")
        root.mkdir()
        return found

    monkeypatch.setattr("pipeline.scanning.walk", replace)
    with pytest.raises(ScanRefused, match="was replaced"):
        scan(root)


def test_files_that_vanish_while_they_are_listed_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an entry nor a skip, and no error (R36)."""
    root = write(tmp_path, {"a.py": "x", "b.py": "x", "x/c.py": "x"})

    def remove(place: bytes, enters: Callable[[bytes], bool]) -> Found:
        found = walk(place, enters)
        (root / "b.py").unlink()
        (root / "x").rename(root / "y")
        return found

    monkeypatch.setattr("pipeline.scanning.walk", remove)
    listing = scan(root)
    assert (paths(listing), reasons(listing)) == (["a.py"], {})


# --- the generator ----------------------------------------------------------------------------------------------------


def test_generated_repositories_are_the_same_each_time_and_only_grow(tmp_path: Path) -> None:
    """The same seed gives the same files, a larger number more of them, another seed others (R76)."""
    for name, files in (("small", 50), ("large", 120)):
        generate(tmp_path / name, files)
    small, large = ({e.path: e.size for e in scan(tmp_path / name).entries} for name in ("small", "large"))
    assert (len(small), len(large)) == (50, 120)
    assert small.items() < large.items()
    assert source_file(3) == source_file(3) != source_file(3, seed=2)
    compile(next(text for path, text in map(source_file, range(50)) if path.endswith(".py")), "module", "exec")


def test_a_scan_of_many_files_is_quick(tmp_path: Path) -> None:
    """A file costs tens of microseconds to list, in processor time (R70)."""
    for folder in range(40):
        write(tmp_path, {f"{folder}/{number}.py": "x" for number in range(50)})
    started = time.process_time()
    assert len(scan(tmp_path).entries) == 2_000
    assert time.process_time() - started < 0.4
