"""Worker processes are killed in every stage while a real tree is indexed; the index comes out the same (R33)."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.states import JobStatus, Stage
from tests.acceptance.working import System, eventually, running
from tests.driving import Driver
from tests.inspecting import chunk_set, leftovers, sums
from tests.ollama_standin import OllamaStandin, Settings
from tests.repositories import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

PACKAGES = ("asyncio", "email", "http", "json", "logging", "xml")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of some hundred files of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    folder = tmp_path_factory.mktemp("library") / "lib"
    for package in PACKAGES:
        shutil.copytree(library / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "test"))
    for file in library.glob("[a-g]*.py"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture
def system(engine: Engine, database_url: str, tmp_path: Path) -> Iterator[System]:
    """Yield a system with small batches, so that there is time to be killed in."""
    with running(engine, database_url, tmp_path, JOB_WINDOW="4") as system:
        yield system


def test_a_kill_in_every_stage_changes_nothing_in_the_index(system: System, tree: Path) -> None:
    """kill -9 of a worker that holds a message, once in each stage: same chunks, sums that agree, nothing left over."""
    undisturbed = Driver(system.engine, embedder=Driver(system.engine).embedder)
    undisturbed.index(tree)
    expected = chunk_set(system.engine)
    job_id = system.submit(tree, project="disturbed")
    for stage in Stage:
        system.start(stage)
        system.kill(system.holder(stage))
    job = system.finished(job_id)
    assert job.status == JobStatus.COMPLETED, job.error_message
    both = chunk_set(system.engine)
    assert both == sorted([*expected, *expected], key=lambda row: (str(row[0]).encode(), row[1]))
    assert sums(system.engine, job_id) == []
    eventually(lambda: leftovers(system.engine) == {})


def test_a_killed_embedder_repeats_only_the_request_in_flight(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """Answers are committed request by request: what the server is asked twice is at most 1 % of the chunks (R33)."""
    root = tmp_path / "shop"
    generate(root, 400)
    settings = {"PENSTOCK_EMBEDDER": "ollama", "OLLAMA_EMBEDDING_MODEL": "nomic-embed-text", "OLLAMA_BATCH_SIZE": "16"}
    with (
        OllamaStandin(Settings(passage_delay=0.001)) as server,
        running(engine, database_url, tmp_path, OLLAMA_HOST=server.url, **settings) as system,
    ):
        job_id = system.submit(root)
        system.start(Stage.EMBED)
        system.start(Stage.SCAN, Stage.CHUNK, Stage.WRITE)
        eventually(lambda: system.job(job_id).chunks_embedded > 0)
        system.kill(system.holder(Stage.EMBED))
        job = system.finished(job_id)
        record = server.ledger.record()
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, 400)
    assert record["repeated"] <= job.chunks_created / 100
    assert sums(engine, job_id) == []


def test_a_job_waits_for_its_embedding_server_and_goes_on(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """An absent server blocks the job, which says so; back again, the job goes on by itself (R13)."""
    root = tmp_path / "shop"
    generate(root, 40)
    settings = {"PENSTOCK_EMBEDDER": "ollama", "OLLAMA_EMBEDDING_MODEL": "nomic-embed-text"}
    with (
        OllamaStandin() as server,
        running(engine, database_url, tmp_path, OLLAMA_HOST=server.url, **settings) as system,
    ):
        server.stop()
        job_id = system.submit(root)
        system.start(*Stage)
        eventually(lambda: system.job(job_id).status == JobStatus.BLOCKED)
        assert server.url in system.job(job_id).progress_message
        server.start()
        assert system.finished(job_id, patience=20).files_indexed == 40
