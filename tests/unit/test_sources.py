"""What a submission may name as the source of a repository (R06, R73)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.errors import InvalidPath
from pipeline.sources import Kind, accept, is_url, parse
from tests.repositories import git, repository, write

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"  # noqa: S105 - of no account


@pytest.mark.parametrize(
    ("text", "name", "short"),
    [
        ("https://example.org/team/app.git", "https://example.org/team/app.git", "app"),
        ("HTTPS://Example.ORG:8443/Team/app/", "https://example.org:8443/Team/app", "app"),
        ("https://example.org/app#release/1.0", "https://example.org/app#release/1.0", "app#release/1.0"),
        ("https://example.org/app#", "https://example.org/app", "app"),
        ("ssh://Git@example.org:22/app.git", "ssh://Git@example.org:22/app.git", "app"),
        ("git@example.org:team/app.git#v1", "git@example.org:team/app.git#v1", "app#v1"),
        ("git@example.org:app", "git@example.org:app", "app"),
        ("git://example.org/app", "git://example.org/app", "app"),
    ],
)
def test_a_url_has_one_spelling(text: str, name: str, short: str) -> None:
    """The host in lower case, no slash at the end; a name that is parsed again stays as it is (R07)."""
    source = accept(text)
    assert is_url(text)
    assert (source.kind, source.name, source.short_name) == (Kind.REMOTE, name, short)
    assert parse(name) == source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"https://me:{SECRET}@example.org/app", "holds credentials"),
        (f"https://{SECRET}@example.org/app", "holds credentials"),
        (f"ssh://me:{SECRET}@example.org/app", "holds credentials"),
        (f"https://example.org/app?token={SECRET}", "holds a query"),
        ("https://example.org/team/../other", "path traversal"),
        ("https://example.org/team/%2e%2e/other", "path traversal"),
        ("git@example.org:../other", "path traversal"),
        ("https://example.org", "names no host or no repository"),
        ("https:///app", "names no host or no repository"),
        ("ssh://-oProxyCommand=x/app", "names no host or no repository"),
        ("ssh://-x@example.org/app", "begins with a dash"),
        ("https://example.org:port/app", "no URL"),
        ("ftp://example.org/app", "unknown scheme"),
        ("ext://example.org/app", "unknown scheme"),
        ("https://example.org/a b", "encode it"),
        ("https://example.org/app#--upload-pack=x", "no name of a branch"),
        ("https://example.org/app#a..b", "no name of a branch"),
        ("https://example.org/app#a:b", "no name of a branch"),
        ("https://example.org/app#a b", "holds a space|no name of a branch"),
        ("https://example.org/" + "x" * 3_000, "too long"),
        ("ext::sh -c id", "must be absolute"),
        ("file://relative/app", "must be absolute"),
        ("file:///srv/../etc", "path traversal"),
        ("file:///nowhere/app.git", "does not exist"),
        ("/nowhere/app.git#main", "does not exist"),
    ],
)
def test_a_url_that_git_must_not_see_is_refused(text: str, said: str) -> None:
    """Each refusal says what is wrong, and never repeats a password (R06)."""
    with pytest.raises(InvalidPath, match=said) as refused:
        accept(text)
    assert SECRET not in str(refused.value)


def test_what_lies_on_disk_decides_what_a_path_names(tmp_path: Path) -> None:
    """A bare repository, a ref of any repository, a folder; a folder with a # in its name is itself (R06)."""
    work = repository(tmp_path / "app", {"a.py": "x"})
    git(tmp_path, "clone", "--quiet", "--bare", str(work), "c#.git")
    bare = tmp_path / "c#.git"
    (tmp_path / "app#main").mkdir()
    for text, kind, name in (
        (str(work), Kind.FOLDER, str(work)),
        (f"{work}/.git", Kind.FOLDER, f"{work}/.git"),
        (f"{work}#main", Kind.FOLDER, f"{work}#main"),
        (f"{work}#v1/#2", Kind.LOCAL, f"{work}#v1/#2"),
        (f"file://{work}", Kind.LOCAL, f"{work}#HEAD"),
        (str(bare), Kind.LOCAL, str(bare)),
        (f"{bare}#main", Kind.LOCAL, f"{bare}#main"),
        (f"file://{tmp_path}/c%23.git", Kind.LOCAL, str(bare)),
    ):
        source = accept(text)
        assert (source.kind, source.name) == (kind, name)
        assert parse(source.name) == source


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.org/team/app.git", True),
        ("https://example.org/team", True),
        ("git@example.org:team/app", True),
        ("https://example.org/team-b/app.git", False),
        ("https://example.org.evil.net/team/app", False),
        ("http://example.org/team/app", False),
        ("git@example.org:other/app", False),
        ("http://169.254.169.254/latest/meta-data", False),
    ],
)
def test_allowed_urls_bound_what_may_be_fetched(url: str, *, allowed: bool) -> None:
    """An allowed beginning ends at a border, so that it names no other host and no other team (R06)."""
    known = ("https://example.org/team", "git@example.org:team/")
    if allowed:
        assert accept(url, allowed_urls=known).place == url
        return
    with pytest.raises(InvalidPath, match="not among the allowed URLs"):
        accept(url, allowed_urls=known)


def test_allowed_roots_bound_urls_and_bare_repositories_too(tmp_path: Path) -> None:
    """Who restricts folders does not open the network by it (R06)."""
    git(tmp_path, "init", "--quiet", "--bare", "app.git")
    assert accept(f"{tmp_path}/app.git", allowed_roots=[tmp_path]).kind is Kind.LOCAL
    (tmp_path / "other").mkdir()
    for text in (f"{tmp_path}/app.git#main", f"file://{tmp_path}/app.git"):
        with pytest.raises(InvalidPath, match="outside the allowed roots"):
            accept(text, allowed_roots=[tmp_path / "other"])
    repository(tmp_path / "other/work", {"a.py": "x"})
    for name, disguise in {
        "gitfile": {".git": f"gitdir: {tmp_path}/app.git\n"},
        "common": {"HEAD": "ref: refs/heads/main\n", "objects/x": "", "refs/x": "", "commondir": f"{tmp_path}/app.git"},
        "alternate": {"HEAD": "x", "refs/x": "", "objects/info/alternates": f"{tmp_path}/app.git/objects\n"},
    }.items():
        write(tmp_path / "other" / name, disguise)
        with pytest.raises(InvalidPath, match="objects from elsewhere"):
            accept(f"file://{tmp_path}/other/{name}", allowed_roots=[tmp_path / "other"])
    assert accept(f"{tmp_path}/other/work#main", allowed_roots=[tmp_path / "other"]).ref == "main"
    with pytest.raises(InvalidPath, match="PENSTOCK_ALLOWED_URLS"):
        accept("https://example.org/app", allowed_roots=[tmp_path])
    source = accept("https://example.org/app", allowed_roots=[tmp_path], allowed_urls=["https://example.org"])
    assert source.kind is Kind.REMOTE
