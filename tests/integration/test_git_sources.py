"""Repositories that are read from git's objects: by URL over HTTP, from a bare repository, at a branch or tag."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ops.cli.exits import Exit
from pipeline import jobs
from pipeline.mirroring import Mirrors
from pipeline.records import JobRequest, Limits
from pipeline.search import SearchRequest, search
from pipeline.states import JobStatus, Stage
from pipeline.store.jobs import JobFilter
from tests.commanding import open_terminal
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.git_server import serving
from tests.inspecting import chunk_set, leftovers
from tests.repositories import commit, git, repository, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from pipeline.records import Job
    from tests.git_server import GitServer

FILES = {
    "src/adding.py": "def add(a, b):\n    return a + b\n",
    "src/paying.py": "def pay(order):\n    return order.total\n",
    "README.md": "# The shop\n\nIt sells things.\n",
    "deploy/id_rsa": "a private key",
    "data/big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456\n",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a work tree, of which `published` makes a bare repository."""
    return repository(tmp_path / "shop", FILES)


@pytest.fixture
def served(tmp_path: Path, shop: Path) -> Iterator[GitServer]:
    """Yield a server that has the shop as shop.git."""
    published(shop)
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def embedder() -> WilfulEmbedder:
    """Return an embedder that counts."""
    return WilfulEmbedder()


@pytest.fixture
def driver(engine: Engine, embedder: WilfulEmbedder, tmp_path: Path) -> Driver:
    """Return a worker of all stages with a folder for mirrors."""
    return Driver(engine, embedder, mirrors=Mirrors(tmp_path / "mirrors"))


def published(shop: Path) -> Path:
    """Push every branch and tag of the work tree to its bare repository, which is made first, and return that."""
    bare = shop.parent / "served" / "shop.git"
    if not bare.exists():
        git(shop, "clone", "--quiet", "--bare", str(shop), str(bare))
    git(shop, "push", "--quiet", "--mirror", "--force", str(bare))
    git(bare, "update-server-info")
    return bare


def change(shop: Path, **files: str) -> str:
    """Commit another content of modules and return the commit's id."""
    write(shop, {f"src/{name}.py": content for name, content in files.items()})
    commit(shop)
    return revision(shop)


def revision(shop: Path, ref: str = "HEAD") -> str:
    """Return the id of a commit."""
    return git(shop, "rev-parse", f"{ref}^{{commit}}").decode().strip()


def reasons(driver: Driver, job: Job) -> dict[str, str]:
    """Return why files of a job were passed over."""
    return {note.path: note.reason for note in jobs.notes(driver.engine, job.job_id)}


@pytest.mark.parametrize("smart", [True, False], ids=["smart", "dumb"])
def test_a_url_is_indexed_as_its_work_tree_would_be(
    driver: Driver, served: GitServer, shop: Path, *, smart: bool
) -> None:
    """The chunks are those of a work tree of the same commit, which every record names (R05, R73)."""
    served.smart = smart
    url = served.url("shop.git")
    job = driver.index(url)
    assert (job.status, job.repo_path, job.name, job.revision) == (JobStatus.COMPLETED, url, "shop", revision(shop))
    driver.index(shop)
    assert chunk_set(driver.engine, url) == chunk_set(driver.engine, str(shop))
    assert leftovers(driver.engine) == {}
    (listed, _) = sorted(jobs.indexed(driver.engine), key=lambda found: found.root_path != url)
    assert (listed.root_path, listed.revision, listed.index_state) == (url, revision(shop), "complete")
    hits = search(driver.engine, lambda _e, _m: driver.embedder, SearchRequest("add", repo_path=url)).results
    assert {(hit.repository, hit.revision) for hit in hits} == {(url, revision(shop))}


def test_what_is_not_source_is_skipped_with_its_reason(driver: Driver, served: GitServer, shop: Path) -> None:
    """Links, submodules, LFS pointers and secrets of a commit are named, as those of a work tree are (R15, R40)."""
    (shop / "link.py").symlink_to("src/adding.py")
    write(shop, {".penstockignore": "docs/\n", "docs/a.md": "x", "node_modules/a.js": "x", "empty.py": ""})
    commit(shop)
    git(shop, "update-index", "--add", "--cacheinfo", f"160000,{revision(shop)},library")
    git(shop, "commit", "--quiet", "--message", "Add a submodule")
    published(shop)
    job = driver.index(served.url("shop.git"))
    assert reasons(driver, job) == {
        "deploy/id_rsa": "may hold a secret",
        "data/big.bin": "Git LFS pointer: the content is kept elsewhere",
        "docs/a.md": "ignored by .penstockignore",
        "empty.py": "empty",
        "library": "submodule, a repository of its own: index its URL",
        "link.py": "symbolic link, not followed",
        "node_modules/a.js": "in a dependency folder (node_modules)",
    }


def test_a_second_commit_reads_and_embeds_only_what_differs(
    driver: Driver, embedder: WilfulEmbedder, served: GitServer, shop: Path
) -> None:
    """Files of the same blob are not even read; the history is never fetched (R05, R44)."""
    url = served.url("shop.git")
    driver.index(url)
    embedder.seen.clear()
    newest = change(shop, paying="def refund(order):\n    return -order.total\n")
    (shop / "README.md").rename(shop / "READ.md")
    commit(shop)
    published(shop)
    job = driver.index(url)
    assert (job.files_indexed, job.files_unchanged, job.files_removed, job.batches_total) == (2, 1, 1, 1)
    assert [passage.symbol for passage in embedder.seen] == ["refund"]
    assert (job.revision, newest) == (revision(shop), revision(shop, "HEAD~1"))
    (mirror,) = (driver.mirrors.folder).glob("*.git")
    assert git(mirror, "rev-list", "--count", revision(shop)) == b"1\n"
    assert driver.index(url).progress_message == "Up to date: 3 files unchanged, 2 skipped"


def test_branches_and_worktrees_share_embeddings(
    driver: Driver, embedder: WilfulEmbedder, served: GitServer, shop: Path
) -> None:
    """A second branch, a tag and a work tree of one repository are repositories of their own, embedded once (R44)."""
    url = served.url("shop.git")
    driver.index(url)
    embedder.seen.clear()
    git(shop, "checkout", "--quiet", "-b", "team/returns")
    change(shop, paying="def refund(order):\n    return -order.total\n")
    git(shop, "tag", "--annotate", "--message", "first", "v1.0")
    published(shop)
    for name in (f"{url}#team/returns", f"{url}#v1.0", f"{url}#{revision(shop)}"):
        job = driver.index(name)
        assert (job.repo_path, job.revision, job.files_indexed) == (name, revision(shop), 3)
    git(shop, "worktree", "add", "--quiet", str(shop.parent / "second"), "main")
    change(shop.parent / "second", adding="def add(a, b, c):\n    return a + b + c\n")
    assert driver.index(shop.parent / "second").files_indexed == 3
    assert [passage.symbol for passage in embedder.seen] == ["refund", "add"]
    assert len(list(driver.mirrors.folder.glob("*.git"))) == 1


def test_a_bare_repository_is_indexed_where_it_lies(driver: Driver, shop: Path) -> None:
    """A path of a bare repository, or any repository and a ref, is read from its objects without a mirror (R73)."""
    bare = published(shop)
    first = revision(shop)
    change(shop, adding="def plus(a, b):\n    return a + b\n")
    for name, stored in ((str(bare), str(bare)), (f"file://{bare}", str(bare)), (f"{shop}#{first}", f"{shop}#{first}")):
        job = driver.index(name)
        assert (job.repo_path, job.revision, job.status) == (stored, first, JobStatus.COMPLETED)
    assert chunk_set(driver.engine, str(bare)) == chunk_set(driver.engine, f"{shop}#{first}")
    assert not driver.mirrors.folder.exists()


@pytest.mark.parametrize("smart", [True, False], ids=["smart", "dumb"])
def test_another_host_chunks_the_same_commit(driver: Driver, served: GitServer, shop: Path, *, smart: bool) -> None:
    """Who lacks the commit fetches it, though its branch has gone on; a resumed scan stays with it, too (R36, R73)."""
    served.smart = smart
    job = jobs.submit(driver.office, JobRequest(repo_path=served.url("shop.git")))
    driver.drain(Stage.SCAN)
    first = revision(shop)
    change(shop, paying="def refund(order):\n    return -order.total\n")
    published(shop)
    other = Driver(driver.engine, driver.embedder, mirrors=Mirrors(driver.mirrors.folder.parent / "other"))
    with driver.engine.begin() as connection:  # as if the scan had been interrupted right after it settled on a commit
        connection.execute(text("TRUNCATE penstock.batches, dramatiq.queue"))
        connection.execute(
            text(
                "UPDATE penstock.indexing_jobs SET scan_cursor = NULL, scan_completed = false, files_scanned = 0,"
                " files_skipped = 0, files_due = 0, batches_total = 0"
            )
        )
    jobs.sweep(driver.bench, driver.office.outbox)
    other.drain()
    ended = jobs.status(driver.engine, job.job_id)
    assert (ended.status, ended.revision, other.mended) == (JobStatus.COMPLETED, first, [])
    assert "refund" not in {symbol for *_, symbol, _, _ in chunk_set(driver.engine)}


def test_a_job_waits_for_a_host_that_is_away(driver: Driver, served: GitServer, shop: Path) -> None:
    """It says what git said, is tried again, and goes on when the host is back; a mirror that is gone is made again."""
    served.status = 503
    job = jobs.submit(driver.office, JobRequest(repo_path=served.url("shop.git")))
    driver.drain()
    waiting = jobs.status(driver.engine, job.job_id)
    assert (waiting.status, driver.mended) == (JobStatus.RUNNING, ["again in 3 s"])
    (listed,) = jobs.listed(driver.engine, JobFilter()).jobs
    assert listed.progress_message == f"Scanning: fetching {served.url('shop.git')}"
    with driver.engine.connect() as connection:
        error = connection.execute(text("SELECT error FROM dramatiq.queue")).scalar_one()
    assert f"{served.url('shop.git')} cannot be fetched" in error
    assert "503" in error
    served.status = 200
    now(driver.engine)
    driver.drain(Stage.SCAN)
    shutil.rmtree(driver.mirrors.folder)
    served.status = 503
    driver.drain()
    assert driver.mended == ["again in 3 s"] * 2
    served.status = 200
    now(driver.engine)
    driver.drain()
    assert jobs.status(driver.engine, job.job_id).files_indexed == 3
    assert jobs.status(driver.engine, job.job_id).revision == revision(shop)


def test_a_mirror_that_loses_files_is_made_again(driver: Driver, served: GitServer) -> None:
    """Who deletes or damages a mirror during a job takes nothing out of the index (R33)."""
    job = jobs.submit(driver.office, JobRequest(repo_path=served.url("shop.git")))
    driver.drain(Stage.SCAN)
    for pack in driver.mirrors.folder.glob("*.git/objects/pack/*"):
        pack.unlink()
    driver.drain()
    assert driver.mended == ["again in 3 s"]
    now(driver.engine)
    driver.drain()
    assert jobs.status(driver.engine, job.job_id).files_indexed == 3


def now(engine: Engine) -> None:
    """Make every message due."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE dramatiq.queue SET eta = clock_timestamp()"))


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("shop.git", 401, "could not read Username"),
        ("shop.git", 403, "error: 403"),
        ("other.git", 200, "not found"),
        ("shop.git#nowhere", 200, "remote ref nowhere"),
    ],
)
def test_what_can_never_be_fetched_fails_with_gits_words(
    driver: Driver, served: GitServer, name: str, status: int, said: str
) -> None:
    """No right, no repository, no ref: the job fails at once and says what to do (R14)."""
    served.status = status
    job = driver.index(served.url(name))
    assert job.status == JobStatus.FAILED
    assert said in (job.error_message or "")
    assert "check the URL and --ref" in (job.error_message or "")


def test_a_fault_that_nobody_foresaw_is_met_three_times(driver: Driver, served: GitServer) -> None:
    """Neither an outage nor a refusal: it is tried again, and then the job fails with git's words (R14, R34)."""
    served.status = 418
    job = jobs.submit(driver.office, JobRequest(repo_path=served.url("shop.git")))
    for _ in range(3):
        now(driver.engine)
        driver.drain()
    assert driver.mended == ["again in 0.2 s", "again in 1.0 s", "failed job"]
    assert "error: 418" in (jobs.status(driver.engine, job.job_id).error_message or "")


def test_a_repository_above_the_limit_is_refused_with_its_size(driver: Driver, served: GitServer, shop: Path) -> None:
    """The bytes of the files count, whatever their packed size (R08)."""
    write(shop, {f"{number}.txt": "x" * 900_000 for number in range(3)})
    commit(shop)
    published(shop)
    driver.bench = replace(driver.bench, limits=Limits(max_repository_bytes=2_000_000))
    job = driver.index(served.url("shop.git"))
    assert "holds 0.00 GB of files to index, more than MAX_REPO_SIZE_GB allows" in (job.error_message or "")


def test_a_removed_repository_takes_its_mirror_along(driver: Driver, served: GitServer) -> None:
    """The last repository that was read from a mirror ends it (R60)."""
    url = served.url("shop.git")
    driver.office = replace(driver.office, mirrors=driver.mirrors)
    driver.index(url)
    driver.index(f"{url}#main")
    jobs.remove(driver.office, "default", url)
    assert len(list(driver.mirrors.folder.iterdir())) == 2
    jobs.remove(driver.office, "default", f"{url}#main")
    assert not list(driver.mirrors.folder.iterdir())


def test_a_host_that_does_not_see_the_folder_takes_nothing_away(driver: Driver, shop: Path) -> None:
    """Files are not called vanished because this host has no such folder: the batch waits and says so (R36, R73)."""
    job = jobs.submit(driver.office, JobRequest(repo_path=str(shop)))
    driver.drain(Stage.SCAN)
    shop.rename(shop.parent / "elsewhere")
    driver.drain()
    assert driver.mended == ["again in 3 s"]
    with driver.engine.connect() as connection:
        assert f"does not see {shop}" in connection.execute(text("SELECT error FROM dramatiq.queue")).scalar_one()
    (shop.parent / "elsewhere").rename(shop)
    now(driver.engine)
    driver.drain()
    assert jobs.status(driver.engine, job.job_id).files_indexed == 3


def test_every_command_takes_a_url(
    driver: Driver,
    served: GitServer,
    shop: Path,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Index with a ref, look, search and remove: the URL and its ref name the repository everywhere (R60)."""
    terminal = open_terminal(database_url, tmp_path, monkeypatch)
    url = served.url("shop.git")
    submitted = terminal("index", url, "--ref", "main", "--background", "--json")
    assert f'"repo_path":"{url}#main"' in submitted.stdout.replace(" ", "")
    driver.drain()
    assert f"revision    {revision(shop)}" in terminal("status", "last").stdout
    assert f"{url}#main" in terminal("repos").stdout.replace("\n", "")
    assert "src/adding.py" in terminal("search", "add", "--repo", f"{url}#main").stdout
    assert terminal.error("search", "add", "--repo", url, code=Exit.NOT_FOUND)[0] == "REPOSITORY_NOT_FOUND"
    terminal("remove", f"{url}#main", "--yes")
    monkeypatch.setenv("PENSTOCK_ALLOWED_URLS", "https://example.org/")
    assert "PENSTOCK_ALLOWED_URLS" in terminal.error("index", url, code=Exit.VALIDATION)[1]
