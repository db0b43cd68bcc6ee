"""Jobs share the workers: a small one does not wait for all that a huge one has in flight (R16)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ops.settings import Settings as Penstock
from ops.supervisor import places
from pipeline import jobs
from pipeline.states import JobStatus, Stage
from tests.acceptance.working import eventually, running
from tests.ollama_standin import OllamaStandin, Settings
from tests.repositories import generate

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

WINDOW: Final = 8
"""The less is in flight, the sooner all of it waits; what a batch costs the server makes it last, on any machine."""
WAITING: Final = text("SELECT count(*) FROM dramatiq.queue WHERE queue_name = 'embed' AND lane = :job")
EMBEDDED: Final = text("SELECT count(*) FROM penstock.batches WHERE job_id = :job AND stage IN ('write', 'done')")
SCANS: Final = text("SELECT repo_path, files_scanned, scan_completed FROM penstock.indexing_jobs")


def count(engine: Engine, question: object, job_id: UUID) -> int:
    """Return the number that answers a question about a job."""
    with engine.connect() as connection:
        return int(connection.execute(question, {"job": str(job_id)}).scalar_one())  # type: ignore[call-overload]


def test_a_small_job_overtakes_what_a_huge_one_has_waiting(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """With a slow embedding server and a full window before it, fifty files wait for few of the huge job's batches."""
    huge, small = tmp_path / "huge", tmp_path / "small"
    generate(huge, 1_000)
    generate(small, 50, seed=2)
    settings = {
        "PENSTOCK_EMBEDDER": "ollama",
        "OLLAMA_EMBEDDING_MODEL": "nomic-embed-text",
        "OLLAMA_CONCURRENCY": "1",
        "JOB_WINDOW": str(WINDOW),
    }
    with (
        OllamaStandin(Settings(passage_delay=0.02)) as server,
        running(engine, database_url, tmp_path, OLLAMA_HOST=server.url, **settings) as system,
    ):
        first = system.submit(huge)
        for stage in Stage:
            system.start(stage)
        eventually(lambda: count(engine, WAITING, first) >= WINDOW - 2)
        before = count(engine, EMBEDDED, first)
        second = system.submit(small)
        job = system.finished(second)
        overtaken = WINDOW - (count(engine, EMBEDDED, first) - before)
        assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, 50)
        assert overtaken > WINDOW / 4, "the small job waited until nearly all was embedded that came before it"
        assert system.job(first).status == JobStatus.RUNNING


def test_a_small_repository_is_scanned_while_a_huge_one_is(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """The local workers scan as many repositories at once as jobs run, so a small one does not queue up (R16)."""
    huge, small = tmp_path / "huge", tmp_path / "small"
    huge.mkdir()
    for number in range(8_000):
        (huge / f"{number}.py").write_bytes(b"x\n")
    generate(small, 50)
    threads = dict(places(Penstock()))[Stage.SCAN,]
    with running(engine, database_url, tmp_path) as system:
        system.start(Stage.SCAN, threads=threads)
        first = system.submit(huge)
        eventually(lambda: scans(engine)[str(huge)][0])
        system.submit(small)
        eventually(lambda: scans(engine)[str(small)][1])
        assert not scans(engine)[str(huge)][1]
        jobs.cancel(system.office, first)


def scans(engine: Engine) -> dict[str, tuple[int, bool]]:
    """Return for each repository how many files are scanned, and whether that is all."""
    with engine.connect() as connection:
        return {path: (files, completed) for path, files, completed in connection.execute(SCANS)}
