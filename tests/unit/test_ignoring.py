"""Ignore rules are git's own: compared with git on given and on invented trees (R40)."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.excluding import file_reason, folder_reason, is_secret
from pipeline.ignoring import Rules, ignored, read_rules
from pipeline.walking import walk
from tests.repositories import Contents, git, listed_by_git, write

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("a", "b", "ab", "foo", "a.py", "b.txt", "é", "a b", "-", "[x]", "!q", "#h", "a\\b", " s", "t ")
TOKENS = (
    *(
        "a",
        "b",
        "foo",
        ".py",
        "*",
        "**",
        "?",
        "??",
        "/",
        "/",
        "**/",
        "/**",
        "é",
        " ",
        "\\ ",
        "!",
        "#",
        "-",
        "\\a",
        "\\*",
    ),
    *("[ab]", "[!a]", "[^b-z]", "[[:alpha:]]", "[]a]", "[a-]", "[", "\\", "[\\]a]", "[[:foo:]]", "[a-c-e]", "[[:]"),
)
PATTERNS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.one_of(st.sampled_from(NAMES), st.lists(st.sampled_from(TOKENS), min_size=1, max_size=5).map("".join)),
    st.sampled_from(["", "", "/", "/*", "/**"]),
    st.sampled_from(["", "", " ", "\r", "\t"]),
)
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
FOLDERS = st.sampled_from(["", "a", "foo", "a/foo", "a/b"])


@pytest.fixture(scope="module")
def work_tree() -> Iterator[Path]:
    """Yield an empty work tree that the examples of a property fill and empty."""
    with tempfile.TemporaryDirectory() as folder:
        git(Path(folder), "init", "--quiet")
        yield Path(folder)


def by_walk(root: Path) -> set[str]:
    """Return what the walk finds."""
    return {path.decode() for path in walk(os.fsencode(root), lambda _: True).untracked}


@settings(max_examples=60, deadline=None)
@given(
    st.sets(PATHS, min_size=5, max_size=25),
    st.dictionaries(FOLDERS, st.lists(PATTERNS, min_size=1, max_size=4), min_size=1, max_size=3),
    PATTERNS,
)
def test_the_walk_finds_what_git_finds(
    work_tree: Path, paths: set[str], rules: dict[str, list[str]], excluded: str
) -> None:
    """For any tree and any ignore files the walk agrees with `git ls-files` (R40)."""
    for child in work_tree.iterdir():
        if child.name != ".git":
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    for path in sorted(paths):
        if not any((work_tree / above).is_file() for above in Path(path).parents):
            (work_tree / path).parent.mkdir(parents=True, exist_ok=True)
            if not (work_tree / path).is_dir():
                (work_tree / path).touch()
    for folder, patterns in rules.items():
        if (work_tree / folder).is_dir():
            (work_tree / folder / ".gitignore").write_bytes("\n".join(patterns).encode())
    (work_tree / ".git/info/exclude").write_bytes(excluded.encode())
    assert by_walk(work_tree) == listed_by_git(work_tree)


@pytest.mark.parametrize(
    ("rules", "paths"),
    [
        ({".gitignore": "*.log\n!keep.log\n"}, ["a.log", "keep.log", "x/b.log", "x/keep.log"]),
        ({".gitignore": "/build\n"}, ["build/a", "x/build/a"]),
        ({".gitignore": "out/\n"}, ["out/a", "x/out/a", "y/out"]),
        ({".gitignore": "doc/*.txt\n"}, ["doc/a.txt", "doc/x/a.txt", "x/doc/a.txt"]),
        ({".gitignore": "**/tmp/**\n"}, ["tmp/a", "x/tmp/y/a", "tmp.py"]),
        ({".gitignore": "a/**/z\n"}, ["a/z", "a/b/z", "a/b/c/z", "b/z"]),
        ({".gitignore": "/*\n!/src/\n"}, ["src/a", "lib/a", "a"]),
        ({".gitignore": "foo/\n!foo/a\n"}, ["foo/a", "foo/b"]),
        ({".gitignore": "foo/*\n!foo/a\n"}, ["foo/a", "foo/b"]),
        ({".gitignore": "foo/\n", "x/.gitignore": "!foo/\n"}, ["foo/a", "x/foo/a"]),
        ({".gitignore": "*.py\n", "x/.gitignore": "!*.py\n"}, ["a.py", "x/a.py", "x/y/a.py"]),
        ({".gitignore": "# comment\n\\#real\n\\!bang\n"}, ["#real", "!bang", "# comment"]),
        ({".gitignore": "a\\ \nb  \nc\r\n"}, ["a ", "a", "b", "b  ", "c"]),
        ({".gitignore": "\ufeffa\n"}, ["a", "b"]),
        ({".gitignore": "?\n??.x\n"}, ["é", "e", "é.x", "ee.x"]),
        ({".gitignore": "foo**/bar\n"}, ["foo/bar", "foox/bar", "foox/y/bar", "bar"]),
        ({".gitignore": "[[:digit:]-]*\n[^a-y]\n"}, ["1x", "-x", "x1", "z", "b"]),
    ],
)
def test_known_patterns_mean_what_git_makes_of_them(tmp_path: Path, rules: Contents, paths: list[str]) -> None:
    """Negation, anchors, folders, nesting, escapes and classes agree with git, and rule something out (R40)."""
    git(tmp_path, "init", "--quiet")
    write(tmp_path, {**dict.fromkeys(paths, "x"), **rules})
    assert by_walk(tmp_path) == listed_by_git(tmp_path)
    assert by_walk(tmp_path) != {*paths, *rules}


def test_a_linked_ignore_file_is_not_read(tmp_path: Path) -> None:
    """As in git, so that rules cannot come from outside of the repository (R40)."""
    write(tmp_path, {"outside": "*\n", "tree/a": "x"})
    (tmp_path / "tree/.gitignore").symlink_to("../outside")
    assert read_rules(os.fsencode(tmp_path / "tree/.gitignore")) is None
    assert "a" in by_walk(tmp_path / "tree")


def test_a_pipe_as_ignore_file_is_not_waited_for(tmp_path: Path) -> None:
    """Nothing that blocks is ever opened for reading (R40)."""
    os.mkfifo(tmp_path / ".gitignore")
    assert read_rules(os.fsencode(tmp_path / ".gitignore")) is None


def test_a_deeper_ignore_file_wins() -> None:
    """The rules of the deepest folder that say anything decide (R40)."""
    chain = (Rules([b"*.py"]), Rules([b"!keep.py", b"drop.txt"], b"x"))
    assert ignored(chain, b"x/a.py", b"a.py", is_folder=False)
    assert not ignored(chain, b"x/keep.py", b"keep.py", is_folder=False)
    assert ignored(chain, b"x/drop.txt", b"drop.txt", is_folder=False)


def test_globs_cover_what_is_below_a_folder() -> None:
    """A glob that names a folder selects everything in it (R04)."""
    globs = Rules([b"docs/", b"*.py", b"!docs/old/", b"!test_*"])
    covered = [b"docs/a.md", b"x/docs/y/a.md", b"a.py", b"x/a.py", b"docs/old/a.md", b"test_a.py", b"a.md"]
    assert [path for path in covered if globs.covers(path)] == [b"docs/a.md", b"x/docs/y/a.md", b"a.py", b"x/a.py"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("poetry.lock", "lock file"),
        ("Cargo.lock", "lock file"),
        ("go.sum", "lock file"),
        ("jquery.min.js", "minified"),
        ("app.js.map", "source map"),
        ("user_pb2.py", "generated code"),
        ("user.pb.go", "generated code"),
        ("model.g.dart", "generated code"),
        ("Form.Designer.cs", "generated code"),
        ("zz_generated.deepcopy.go", "generated code"),
        ("lock.py", ""),
        ("admin.js", ""),
        ("keys.py", ""),
        ("environment.py", ""),
        ("linker.map", ""),
    ],
)
def test_names_that_never_hold_source_are_known(name: str, reason: str) -> None:
    """Lock, minified and generated files are told by name, and similar names are not (R40)."""
    assert file_reason(name) == reason


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        (".env", True),
        ("deploy/.env.production", True),
        ("id_rsa", True),
        ("keys/id_ed25519", True),
        ("server.PEM", True),
        ("home/.aws/credentials", True),
        (".kube/config", True),
        ("infra/prod.tfstate", True),
        (".npmrc", True),
        (".env.example", False),
        ("id_rsa.pub", False),
        ("src/credentials", False),
        ("src/config", False),
        ("environment.py", False),
        ("keys.py", False),
    ],
)
def test_files_that_hold_secrets_are_known(path: str, *, secret: bool) -> None:
    """Private keys, tokens and environment files are told by name and folder, templates of them are not (R40)."""
    assert is_secret(path) is secret


@pytest.mark.parametrize("name", [".git", "node_modules", ".venv", "site-packages", "__pycache__"])
def test_folders_that_never_hold_source_are_known(name: str) -> None:
    """Their files are passed over even when they are tracked (R40)."""
    assert name in folder_reason(name)


@pytest.mark.parametrize("name", ["build", "dist", "target", "vendor", "venv", "env", "lib", ".github", "out"])
def test_folders_with_ordinary_names_are_not_excluded_by_name(name: str) -> None:
    """A standard library has a `venv` and a compiler a `build`: the name alone says nothing (R40)."""
    assert not folder_reason(name)
