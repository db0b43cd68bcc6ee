"""Worker hosts on one database without a shared folder: a home each, and a git server that both reach (R73)."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from pipeline import jobs
from pipeline.states import JobStatus, Stage
from tests.acceptance.working import System, alive, eventually, running
from tests.git_server import serving
from tests.inspecting import leftovers, sums
from tests.repositories import generate, git, repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.git_server import GitServer

FILES = 400


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """Yield a server of one repository."""
    work = tmp_path / "work"
    generate(work, FILES)
    repository(work, {})
    git(tmp_path, "clone", "--quiet", "--bare", str(work), "served/shop.git")
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def hosts(engine: Engine, database_url: str, tmp_path: Path) -> Iterator[tuple[System, System]]:
    """Yield two hosts without workers."""
    with running(engine, database_url, tmp_path / "one") as one, running(engine, database_url, tmp_path / "two") as two:
        yield one, two


def chunked(host: System) -> int:
    """Return how many batches a host's workers have chunked, as they log it."""
    lines = host.log.read_text().splitlines() if host.log.exists() else []
    return sum(json.loads(line)["event"] == "chunk.done" for line in lines)


def test_hosts_share_a_job_without_sharing_a_folder(hosts: tuple[System, System], server: GitServer) -> None:
    """Each fetches the commit once and chunks batches of it, whoever scanned; the sums agree (R73)."""
    one, two = hosts
    one.start(Stage.SCAN, Stage.EMBED, Stage.WRITE)
    for host in hosts:
        host.start(Stage.CHUNK)
    eventually(lambda: len(jobs.online(one.engine)) == 3)
    job_id = one.submit(server.url("shop.git"))
    job = one.finished(job_id)
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, FILES)
    assert chunked(one) + chunked(two) == job.batches_total
    assert min(chunked(one), chunked(two)) > 0
    assert sum(line.startswith("POST") for line in server.requests) == 3  # one host asked for HEAD first
    assert (sums(one.engine, job_id), leftovers(one.engine)) == ([], {})


def test_a_host_that_is_lost_while_it_fetches_is_done_without(hosts: tuple[System, System], server: GitServer) -> None:
    """What it held goes to the host that has the commit, within seconds (R33, R73)."""
    one, two = hosts
    one.start(Stage.SCAN, Stage.EMBED, Stage.WRITE)
    job_id = one.submit(server.url("shop.git"))
    eventually(lambda: one.job(job_id).files_scanned == FILES)
    server.flowing.clear()
    server.requests.clear()
    two.start(Stage.CHUNK)
    eventually(lambda: server.requests)
    lost = [*psutil.Process(two.groups[0].pid).children(recursive=True), psutil.Process(two.groups[0].pid)]
    assert "git" in {process.name() for process in lost}
    for process in reversed(lost):
        with suppress(psutil.NoSuchProcess):  # one that ended with the one that it served
            process.kill()
    one.start(Stage.CHUNK)
    job = one.finished(job_id)
    assert (job.status, job.files_indexed, chunked(two)) == (JobStatus.COMPLETED, FILES, 0)
    assert not [process.pid for process in lost if alive(process.pid) and process.pid != two.groups[0].pid]
