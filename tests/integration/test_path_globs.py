"""Path globs of a search mean to PostgreSQL what they mean to git."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import text

from pipeline.errors import InvalidQuery
from pipeline.querying import glob_pattern
from tests.repositories import git, write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

PATHS: Final = (
    "a.py", "b.pyc", "README.md", "src/a.py", "src/deep/er/a.py", "src/deep/b.go", "lib/src/a.py", "srcs/a.py",
    "test_a.py", "src/test_b.py", "tests/unit/test_c.py", "docs/a b.md", "docs/{x,y}.md", "docs/a+b(c)|$.md",
    "docs/x.md", "docs/a^b.md", "web/[id].ts", "web/i.ts", "web/één.ts", "web/日本.ts", ".github/ci.yml", "#note.txt",
    "!loud.txt", "back\\slash.txt", "a-b.txt", "a.b.c", "a*b.txt", "x/foo/y/z.py", "foo/z.py", "x/foo",
)  # fmt: skip
GLOBS: Final = (
    "*.py", "*.md", "src", "src/", "/src", "src/*", "src/**", "/src/*.py", "**/src", "**/src/*.py", "src/**/a.py",
    "src/**/*.py", "test_*", "**/test_*.py", "tests/**/test_?.py", "a?b.txt", "a b.md", "docs/a b.md", "{x,y}.md",
    "a+b(c)|$.md", "a^b.md", "[id].ts", "\\[id\\].ts", "[!i].ts", "[^i].ts", "[a-j].ts", "é*", "*本*", ".*",
    ".github", "\\#note.txt", "\\!loud.txt", "back\\\\slash.txt", "a[-.]b*", "a.b.c", "a\\*b.txt", "*", "**", "*/",
    "*/*", "**/", "foo", "foo/", "/foo", "x/**/z.py", "**/foo/**", "a", "*.PY", "***.py", "s*c/*.py",
)  # fmt: skip
MATCHED: Final = text("SELECT path FROM unnest(CAST(:paths AS text[])) AS t (path) WHERE path ~ :pattern")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that holds the paths, so that git knows which are folders."""
    root = write(tmp_path_factory.mktemp("globs"), dict.fromkeys(PATHS[:-1], ""))
    git(root, "init", "--quiet")
    return root


def ignored_by_git(root: Path, glob: str) -> set[str]:
    """Return the paths that git ignores when the glob is its only rule."""
    (root / ".git" / "info" / "exclude").write_text(f"{glob}\n")
    found = subprocess.run(
        ["git", "-c", "safe.directory=*", "check-ignore", "--no-index", "--stdin", "-z"],
        cwd=root,
        input="\0".join(PATHS[:-1]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode <= 1, found.stderr
    return set(found.stdout.split("\0")) - {""}


@pytest.mark.parametrize("glob", GLOBS)
def test_a_glob_matches_what_git_matches(shop: Path, shared_engine: Engine, glob: str) -> None:
    """The pattern is tried by PostgreSQL's own operator on paths that are meant to mislead it (R52)."""
    with shared_engine.connect() as connection:
        found = connection.execute(MATCHED, {"paths": list(PATHS[:-1]), "pattern": glob_pattern(glob)})
        assert set(found.scalars()) == ignored_by_git(shop, glob)


@pytest.mark.parametrize("glob", ["", "  ", "# all", "!*.py", "/", "half\\"])
def test_a_glob_that_names_no_paths_is_refused(glob: str) -> None:
    """An empty one, a comment or a negation would otherwise search everything, or the opposite (R53)."""
    with pytest.raises(InvalidQuery, match="names no paths"):
        glob_pattern(glob)
