"""Mirrors of git repositories: fetched once, by one process, whatever is killed (R33, R73)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Thread
from typing import TYPE_CHECKING

import psutil
import pytest

from pipeline.blobs import Blobs
from pipeline.committed import list_commit
from pipeline.errors import FetchFailed, FileSkipped, JobStopped, ScanRefused, SourceUnavailable
from pipeline.mirroring import UNUSED_SECONDS, Mirrors, _lock
from pipeline.sifting import ScanOptions
from pipeline.sources import Source, parse
from tests.acceptance.working import eventually
from tests.git_server import serving
from tests.repositories import commit, git, repository, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.git_server import GitServer

FETCHER = """
import sys
from pathlib import Path
from pipeline.mirroring import Mirrors
from pipeline.sources import parse
Mirrors(Path(sys.argv[1])).resolve(parse(sys.argv[2]), lambda: None)
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[GitServer]:
    """Yield a server that has a repository app.git."""
    repository(tmp_path / "served/app.git", {"a.py": "x = 1\n", "b/.penstockignore": "*.md\n", "b/b.md": "x"})
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def mirrors(tmp_path: Path) -> Mirrors:
    """Return the mirrors of a host that has none yet."""
    return Mirrors(tmp_path / "mirrors")


def unheeded() -> None:
    """Let git go on."""


def app(server: GitServer) -> Source:
    """Return the source of the repository that is served."""
    return parse(server.url("app.git/.git"))


def test_many_threads_fetch_a_commit_once(mirrors: Mirrors, served: GitServer) -> None:
    """Those who come while it is fetched wait for it, and find it there (R73)."""
    source = app(served)
    first = mirrors.resolve(source, unheeded)
    served.requests.clear()
    other = Mirrors(mirrors.folder.parent / "other")
    threads = [Thread(target=other.holding, args=(source, first, unheeded)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([line for line in served.requests if line.startswith("POST")]) == 1
    assert [entry.path for entry in list_commit(other.holding(source, first, unheeded), first, ScanOptions()).entries]


def test_a_fetch_ends_with_its_job(mirrors: Mirrors, served: GitServer) -> None:
    """What `heed` raises ends git and all that it started, within a moment (R30)."""
    served.flowing.clear()

    def heed() -> None:
        if served.requests:
            raise JobStopped("paused")

    with pytest.raises(JobStopped):
        mirrors.resolve(app(served), heed)
    assert not [child.name() for child in psutil.Process().children(recursive=True) if "git" in child.name()]
    served.flowing.set()
    assert mirrors.resolve(app(served), unheeded)


def test_a_killed_worker_leaves_a_usable_mirror(mirrors: Mirrors, served: GitServer) -> None:
    """Its git keeps the lock until it has ended, and what it left behind is cleared away (R33)."""
    source = app(served)
    served.flowing.clear()
    worker = subprocess.Popen([sys.executable, "-c", FETCHER, str(mirrors.folder), source.name])
    eventually(lambda: served.requests)
    (mirror,) = mirrors.folder.glob("*.git")
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert _lock(mirror) is None
    served.flowing.set()
    first = mirrors.resolve(source, unheeded)
    write(mirror, {"shallow.lock": "", "refs/penstock/incoming.lock": "", "objects/pack/tmp_pack_x": "x"})
    newest = write(served.folder / "app.git", {"a.py": "x = 2\n"})
    commit(newest)
    second = mirrors.resolve(source, unheeded)
    assert second != first
    assert not list(mirror.rglob("*.lock")) + list(mirror.rglob("tmp_*"))


def test_a_damaged_mirror_is_made_anew(mirrors: Mirrors, served: GitServer) -> None:
    """What git cannot explain is blamed on the mirror, which can always be made again (R33)."""
    source = app(served)
    first = mirrors.resolve(source, unheeded)
    (mirror,) = mirrors.folder.glob("*.git")
    (mirror / "config").write_text("[no config")
    with pytest.raises(FetchFailed, match="bad config"):
        mirrors.resolve(source, unheeded)
    assert mirrors.resolve(source, unheeded) == first


def test_too_much_to_fetch_is_given_up(mirrors: Mirrors, served: GitServer) -> None:
    """A fetch ends when the mirror grows beyond the limit, and not when the disk is full (R08)."""
    write(served.folder / "app.git", {"noise.txt": os.urandom(2_000_000).hex()})
    commit(served.folder / "app.git")
    small = Mirrors(mirrors.folder, most_bytes=1_000_000)
    with pytest.raises(ScanRefused, match="MAX_REPO_SIZE_GB"):
        small.resolve(app(served), unheeded)
    assert not list(mirrors.folder.rglob("tmp_*"))
    assert mirrors.resolve(app(served), unheeded)
    (mirror,) = mirrors.folder.glob("*.git")
    git(served.folder / "app.git", "rm", "--quiet", "noise.txt")
    commit(served.folder / "app.git")
    small.resolve(app(served), unheeded)  # what it grew to by other commits is not held against this one
    assert sum(pack.stat().st_size for pack in mirror.glob("objects/pack/*")) < small.most_bytes


def test_a_mirror_that_nobody_uses_is_deleted(mirrors: Mirrors, served: GitServer) -> None:
    """After a month without a fetch; also the commits of long ago go (R73)."""
    mirrors.resolve(app(served), unheeded)
    (old,) = mirrors.folder.glob("*.git")
    long_ago = time.time() - UNUSED_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    git(served.folder, "clone", "--quiet", "--bare", "app.git", "new.git")
    mirrors.resolve(parse(served.url("new.git")), unheeded)
    (new,) = mirrors.folder.glob("*.git")
    assert new != old


def test_a_host_says_what_it_lacks(mirrors: Mirrors, served: GitServer) -> None:
    """A commit that is nowhere any more is asked for again, perhaps of another host (R73)."""
    with pytest.raises(SourceUnavailable, match=r"^host .+ lacks commit 000000000000: .*cannot be fetched"):
        mirrors.holding(app(served), "0" * 40, unheeded)
    served.status = 500
    with pytest.raises(SourceUnavailable, match="error: 500"):
        mirrors.resolve(app(served), unheeded)


def test_no_password_is_told(
    mirrors: Mirrors, served: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL that the user's own settings rewrite to one with a token is told without it (R65)."""
    settings = tmp_path / "gitconfig"
    port = served.server_port
    settings.write_text(f'[url "http://me:hunter2@127.0.0.1:{port}/"]\n\tinsteadOf = http://127.0.0.1:{port}/\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    served.status = 500
    with pytest.raises(SourceUnavailable) as failed:
        mirrors.resolve(app(served), unheeded)
    assert "hunter2" not in str(failed.value)


def test_gits_own_credentials_are_used(
    mirrors: Mirrors, served: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential helper of the account answers for the user; without one, nobody is asked (R06)."""
    served.password = "hunter2"  # noqa: S105 - of no account
    with pytest.raises(ScanRefused, match="could not read Username"):
        mirrors.resolve(app(served), unheeded)
    settings = tmp_path / "gitconfig"
    settings.write_text("[credential]\n\thelper = \"!printf 'username=me\\npassword=hunter2\\n'; :\"\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert mirrors.resolve(app(served), unheeded)
    (mirror,) = mirrors.folder.glob("*.git")
    assert not [file for file in mirror.rglob("*") if file.is_file() and b"hunter2" in file.read_bytes()]


def test_the_settings_of_the_account_do_not_harm_a_mirror(
    mirrors: Mirrors, served: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks, templates, pruning, other formats and maintenance of the user's own do not apply to it (R33)."""
    hook = write(tmp_path, {"hooks/reference-transaction": f"#!/bin/sh\ntouch {tmp_path}/ran\n"}) / "hooks"
    (hook / "reference-transaction").chmod(0o755)
    settings = write(tmp_path, {"gitconfig": "[fetch]\n\tprune = true\n\tpruneTags = true\n"}) / "gitconfig"
    for name, value in {
        "core.hooksPath": hook,
        "init.templateDir": tmp_path,
        "init.defaultRefFormat": "reftable",
        "init.defaultObjectFormat": "sha256",
        "maintenance.strategy": "incremental",
        "core.askPass": "/bin/false",
    }.items():
        git(tmp_path, "config", "--file", str(settings), name, str(value))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    first = mirrors.resolve(app(served), unheeded)
    commit(write(served.folder / "app.git", {"a.py": "x = 2\n"}))
    assert mirrors.resolve(app(served), unheeded) != first
    served.status = 500
    assert mirrors.holding(app(served), first, unheeded).is_dir()
    assert not (tmp_path / "ran").exists()


def test_ssh_is_never_asked_questions(
    mirrors: Mirrors, served: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Your own GIT_SSH_COMMAND is kept and told not to prompt; a URL by ssh is read like any other (R73)."""
    ssh = (
        write(tmp_path, {"ssh": f'#!/bin/sh\nfor last; do :; done\necho "$@" >{tmp_path}/said\neval "$last"\n'}) / "ssh"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    commit_id = mirrors.resolve(parse(f"ssh://git@example.org{served.folder}/app.git/.git"), unheeded)
    assert mirrors.resolve(parse(f"git@example.org:{served.folder}/app.git/.git#main"), unheeded) == commit_id
    assert "-o BatchMode=yes" in (tmp_path / "said").read_text()


def test_a_redirect_is_followed_unless_urls_are_allowed_by_name(mirrors: Mirrors, served: GitServer) -> None:
    """A server that is allowed cannot lead to one that is not (R06)."""
    served.moved = "/old.git"
    source = parse(served.url("old.git/app.git/.git"))
    with pytest.raises(FetchFailed, match=r"redirect|302"):
        Mirrors(mirrors.folder, redirects=False).resolve(source, unheeded)
    assert mirrors.resolve(source, unheeded)


def test_a_folder_that_lost_its_repository_does_not_lead_to_the_one_around_it(tmp_path: Path) -> None:
    """Git looks into the named folder only (R40)."""
    repository(tmp_path, {"a.py": "x"})
    (tmp_path / "served").mkdir()
    git(tmp_path, "clone", "--quiet", "--bare", str(tmp_path), "served/app.git")
    source = parse(f"{tmp_path}/served/app.git")
    (tmp_path / "served/app.git/HEAD").unlink()
    with pytest.raises(ScanRefused, match="no commit of the name HEAD"):
        Mirrors(tmp_path).resolve(source, unheeded)


def test_a_commit_may_be_deeper_than_any_folder(tmp_path: Path) -> None:
    """Its paths need not fit on a disk; one too long for the database is a skip (R40, R41)."""
    root = repository(tmp_path, {"x": "x\n"})
    blob = git(root, "rev-parse", "HEAD:x").decode().strip()
    for depth in (900, 1_500):
        git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{'a/' * depth}x")
    git(root, "commit", "--quiet", "--message", "Dig")
    listing = list_commit(root, "HEAD", ScanOptions())
    assert [(len(entry.path), entry.blob_id) for entry in listing.entries] == [(1_801, blob), (1, blob)]
    assert [skipped.reason for skipped in listing.skipped] == ["path longer than 2,000 bytes"]


def test_contents_come_by_their_ids(tmp_path: Path) -> None:
    """Contents of any length and none; one that is missing is a reason to skip its file (R41)."""
    contents = [b"", b"x", b"line\n" * 100_000, b"no newline\0at the end"]
    root = repository(tmp_path, {f"{number}": content for number, content in enumerate(contents)})
    ids = [git(root, "rev-parse", f"HEAD:{number}").decode().strip() for number in range(len(contents))]
    with Blobs(root) as blobs:
        assert [blobs.read(blob_id) for blob_id in ids] == contents
        with pytest.raises(FileSkipped, match="missing"):
            blobs.read("0" * 40)
        assert blobs.read(ids[1]) == b"x"
    with Blobs(tmp_path / "nowhere") as blobs, pytest.raises(SourceUnavailable):
        blobs.read(ids[0])
