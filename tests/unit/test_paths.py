"""The refusals of a repository path (R06)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import InvalidPath
from pipeline.paths import validate
from tests.repositories import unprivileged

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("src", "must be absolute"),
        ("./src", "must be absolute"),
        ("~/src", "must be absolute"),
        ("/srv/../etc", "path traversal"),
        ("/srv/..", "path traversal"),
        ("/srv/%2e%2e/etc", "path traversal"),
        ("/srv/%2E%2e/etc", "path traversal"),
        ("/srv/.%2e/etc", "path traversal"),
        ("/srv/%252e%252E/etc", "path traversal"),
        ("/srv/..%2fetc", "path traversal"),
        ("/srv/a\0b", "NUL"),
        ("/srv/caf\udce9", "not valid UTF-8"),
        ("/" + "x/" * 1_500, "too long"),
        ("/" + "x" * 300, "does not exist"),
        ("/nowhere/at/all", "does not exist"),
        ("/dev/null/below", "does not exist"),
        ("/dev/null", "not a directory"),
    ],
)
def test_a_path_that_cannot_be_indexed_is_refused_with_its_own_text(path: str, text: str) -> None:
    """Each refusal is an InvalidPath whose text says what is wrong (R06)."""
    with pytest.raises(InvalidPath, match=text):
        validate(path)


@pytest.mark.parametrize("name", ["foo..bar", "two words", "ünïcödé 中文", "x" * 255, "...", "100%", ".hidden", "a\nb"])
def test_an_unusual_name_is_legal(tmp_path: Path, name: str) -> None:
    """Dots within a name, spaces, long and non-ASCII names are accepted (R06)."""
    (tmp_path / name).mkdir()
    assert validate(str(tmp_path / name)) == tmp_path.resolve() / name


def test_the_real_path_is_returned(tmp_path: Path) -> None:
    """Links, double and trailing slashes are resolved, so that a folder has one name (R06, R07)."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert validate(f"{tmp_path}//link/") == (tmp_path / "real").resolve()


def test_a_link_cannot_escape_the_allowed_roots(tmp_path: Path) -> None:
    """The resolved path is what must lie in an allowed root (R06)."""
    allowed, outside = tmp_path / "allowed", tmp_path / "allowed-not"
    (allowed / "repo").mkdir(parents=True)
    outside.mkdir()
    (allowed / "escape").symlink_to(outside)
    assert validate(str(allowed / "repo"), allowed_roots=[allowed]) == (allowed / "repo").resolve()
    for path in (allowed / "escape", outside):
        with pytest.raises(InvalidPath, match="outside the allowed roots"):
            validate(str(path), allowed_roots=[allowed])


def test_an_allowed_root_may_itself_be_a_link(tmp_path: Path) -> None:
    """Allowed roots are resolved like the path (R06)."""
    (tmp_path / "real" / "repo").mkdir(parents=True)
    (tmp_path / "root").symlink_to("real")
    validate(str(tmp_path / "root" / "repo"), allowed_roots=[tmp_path / "root"])


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    """A link to itself ends in an InvalidPath, not in a crash (R06)."""
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(InvalidPath, match="circle"):
        validate(str(tmp_path / "self"))


def test_a_link_to_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """The database holds the real path, so that one must be UTF-8 too (R06)."""
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(odd)  # noqa: PTH102 - a name that is not UTF-8
    (tmp_path / "link").symlink_to(os.fsdecode(odd))
    with pytest.raises(InvalidPath, match="not valid UTF-8"):
        validate(str(tmp_path / "link"))


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600])
def test_a_folder_without_rights_is_refused(mode: int) -> None:
    """Both the right to list and the right to enter are needed (R06)."""
    with unprivileged() as folder:
        folder.chmod(mode)
        with pytest.raises(InvalidPath, match="not readable"):
            validate(str(folder))


def test_too_little_free_disk_is_refused(tmp_path: Path) -> None:
    """The disk that is asked about is the one named, and 0 asks for nothing (R06)."""
    validate(str(tmp_path), min_free_bytes=1)
    validate(str(tmp_path), min_free_bytes=1, disk_path=tmp_path)
    with pytest.raises(InvalidPath, match="too little free disk"):
        validate(str(tmp_path), min_free_bytes=1 << 62)
