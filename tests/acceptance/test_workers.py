"""Groups of worker processes as an operator meets them: what they log, how they end, and who starts them again."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Final

import psutil
import pytest
from sqlalchemy import text

from pipeline import jobs
from pipeline.states import JobStatus, Stage
from tests.acceptance.working import System, alive, eventually, running
from tests.ollama_standin import OllamaStandin, Settings
from tests.repositories import generate, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

HELD: Final = text("SELECT count(*) FROM dramatiq.queue WHERE state = 'consumed'")
DEATHS: Final = text("SELECT name FROM penstock.counters WHERE name LIKE 'penstock_worker_deaths/%' AND value > 0")
SECRET: Final = "correct horse battery staple"  # noqa: S105 - of no account


@pytest.fixture
def system(engine: Engine, database_url: str, tmp_path: Path) -> Iterator[System]:
    """Yield a system without workers."""
    with running(engine, database_url, tmp_path) as system:
        yield system


def pids(system: System) -> set[int]:
    """Return the worker processes that count as alive."""
    return {worker.pid for worker in jobs.online(system.engine)}


def held(system: System) -> int:
    """Return how many messages workers hold."""
    with system.engine.connect() as connection:
        return int(connection.execute(HELD).scalar_one())


def test_a_log_line_is_rich_and_holds_no_contents(system: System, tmp_path: Path) -> None:
    """One JSON line a batch and stage, with context; neither contents nor the database's password in any (R64, R65)."""
    root = write(tmp_path / "shop", {"a.py": f'PHRASE = "{SECRET}"\n', "b.py": f"# {SECRET}\n", "c.py": b"\0\1"})
    job_id = system.submit(root)
    for stage in Stage:
        system.start(stage)
    assert system.finished(job_id).files_indexed == 2
    workers = pids(system)
    system.end()
    printed = system.log.read_text()
    lines = [json.loads(line) for line in printed.splitlines()]
    done = [line for line in lines if line["event"].endswith(".done")]
    assert [line["event"] for line in done] == [f"{stage}.done" for stage in Stage]
    for line in done:
        assert {"level", "timestamp", "stage", "deliveries", "seconds"} <= line.keys()
        assert line["job_id"] == str(job_id)
        assert line["worker"] in workers
        assert "batch_id" in line or line["stage"] == Stage.SCAN
    assert SECRET not in printed
    assert system.environment["DATABASE_URL"] not in printed


def test_a_group_that_is_told_to_end_leaves_nothing_behind(system: System, tmp_path: Path) -> None:
    """SIGTERM under load: within seconds no process, no entry and no held message is left; the job goes on later."""
    root = tmp_path / "shop"
    generate(root, 300)
    job_id = system.submit(root)
    system.start(Stage.SCAN)
    system.start(Stage.CHUNK, processes=2)
    system.holder(Stage.CHUNK)
    workers = pids(system)
    began = time.monotonic()
    system.end()
    assert time.monotonic() - began < 10
    assert not [pid for pid in workers if alive(pid)]
    assert (pids(system), held(system)) == (set(), 0)
    for stage in Stage:
        system.start(stage)
    assert system.finished(job_id).status == JobStatus.COMPLETED


def test_a_worker_that_is_told_to_end_awaits_its_slow_embedder(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """SIGTERM amid a request of 3 s: the batch is finished first, nothing is asked twice, and all is signed off."""
    root = write(tmp_path / "shop", {f"part{n}.py": f"x = {n}\n" for n in range(20)})
    settings = {"PENSTOCK_EMBEDDER": "ollama", "OLLAMA_EMBEDDING_MODEL": "nomic-embed-text"}
    with (
        OllamaStandin(Settings(request_delay=3.0)) as server,
        running(engine, database_url, tmp_path, OLLAMA_HOST=server.url, **settings) as system,
    ):
        for stage in (Stage.SCAN, Stage.CHUNK, Stage.EMBED):
            system.start(stage)
        job_id = system.submit(root)
        assert server.ledger.arrived.wait(60)
        began = time.monotonic()
        system.end()
        took = time.monotonic() - began
        assert [group.returncode for group in system.groups] == [0] * 3
        assert (pids(system), held(system)) == (set(), 0)
        assert system.job(job_id).chunks_embedded == sum(server.ledger.sizes)
        with engine.connect() as connection:
            assert connection.execute(DEATHS).all() == []
    assert 1 < took < 15, "the request was given up, or the worker killed"
    assert (server.ledger.given_up, server.ledger.record()["repeated"]) == (0, 0)


def test_a_worker_that_dies_is_started_again(system: System, tmp_path: Path) -> None:
    """Its group replaces it at once, and what it would have done gets done (R33)."""
    for stage in Stage:
        system.start(stage)
    eventually(lambda: len(pids(system)) == len(Stage))
    first = pids(system)
    for pid in first:
        system.kill(pid)
    eventually(lambda: len(pids(system) - first) == len(Stage), patience=15)
    root = write(tmp_path / "shop", {"a.py": "x = 1\n"})
    assert system.finished(system.submit(root), patience=20).files_indexed == 1


def test_a_worker_may_not_take_all_memory(system: System) -> None:
    """Each process is bounded by PENSTOCK_WORKER_MEMORY_MB, which a user may turn off (R70)."""
    system.start(Stage.CHUNK)
    system.environment = {**system.environment, "PENSTOCK_WORKER_MEMORY_MB": "0"}
    system.start(Stage.WRITE)
    workers = eventually(lambda: found if len(found := jobs.online(system.engine)) == 2 else ())
    bounds = {worker.stages: psutil.Process(worker.pid).rlimit(psutil.RLIMIT_DATA)[0] for worker in workers}
    assert bounds == {("chunk",): 2_048_000_000, ("write",): psutil.RLIM_INFINITY}


def test_a_worker_without_its_group_leaves_by_itself(system: System) -> None:
    """kill -9 of the parent: nobody would restart or stop the orphans, so they sign off and go."""
    system.start(Stage.CHUNK, processes=2)
    eventually(lambda: len(pids(system)) == 2)
    orphans = pids(system)
    system.groups[0].send_signal(signal.SIGKILL)
    eventually(lambda: not pids(system), patience=15)
    eventually(lambda: not [pid for pid in orphans if alive(pid)], patience=15)
