"""What a job tells of itself while it goes on: percentage, words, counters, what is left, why it stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import structlog
from sqlalchemy import Interval, literal, text

from actors import caretaker
from actors.broker import LeaseBroker
from actors.caretaker import Caretaker
from pipeline import jobs
from pipeline.errors import EmbedderUnavailable
from pipeline.records import JobRequest, Limits
from pipeline.states import JobStatus, Stage
from pipeline.store import messages, progress
from pipeline.store.embeddings import driver as driver_of
from pipeline.store.jobs import listen
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.integration.broker_tools import until
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

    from pipeline.embedders import Passage
    from pipeline.records import Job

NOW: Final = text("UPDATE dramatiq.queue SET eta = clock_timestamp() WHERE state = 'queued'")
ENROL: Final = text("""
INSERT INTO penstock.workers (id, host, pid, stages, threads, seen_at)
VALUES (:id, 'host', 1, :stages, 1, clock_timestamp() - make_interval(secs => :age))
""")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of twelve files."""
    return write(tmp_path / "shop", {f"part{n:02}.py": f"def part_{n}():\n    return {n}\n" for n in range(12)})


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker of all stages, whose batches hold four files."""
    return Driver(engine, embedder=WilfulEmbedder())


def submit(driver: Driver, root: Path) -> UUID:
    """Submit a repository."""
    return jobs.submit(driver.office, JobRequest(repo_path=str(root))).job_id


def enrol(engine: Engine, identity: int, stages: Sequence[str] = tuple(Stage), age: float = 0) -> None:
    """Note a worker process for some stages that was seen `age` seconds ago."""
    with engine.begin() as connection:
        connection.execute(ENROL, {"id": identity, "stages": list(stages), "age": age})


def watched(driver: Driver, job_id: UUID) -> list[Job]:
    """Work to the end, and return the job as it was after every message."""
    seen = []
    while driver.step():
        seen.append(jobs.status(driver.engine, job_id))
        with driver.engine.begin() as connection:
            connection.execute(NOW)
    return seen


def test_the_percentage_never_falls(driver: Driver, root: Path) -> None:
    """Neither when a batch is split nor when its staged rows are lost and it starts over (R22)."""

    def stumble(passages: Sequence[Passage]) -> None:
        if any("part_5" in passage.content for passage in passages):
            message = "the embedder fell over"
            raise RuntimeError(message)

    driver.embedder = WilfulEmbedder(before=stumble)
    job_id = submit(driver, root)
    driver.drain(until=lambda: jobs.status(driver.engine, job_id).progress_percentage > 40)
    with driver.engine.begin() as connection:
        connection.execute(text("DELETE FROM penstock.staged_chunks"))
    seen = [job.progress_percentage for job in watched(driver, job_id)]
    assert {"split", "back to chunk", "failed file"} <= set(driver.mended)
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert max(seen[:-1]) < 100


def test_every_stage_is_told_with_its_counters(driver: Driver, root: Path) -> None:
    """The message names a stage and how far it is, the record has all four; at the end they are whole (R21, R23)."""
    enrol(driver.engine, 1)
    seen = watched(driver, submit(driver, root))
    told = " ".join(job.progress_message for job in seen)
    for words in ("Chunking files: ", "Generating embeddings: ", "Writing to database: "):
        assert words in told
    assert [(stage.stage, stage.done, stage.total) for stage in seen[-1].stages] == [
        ("scan", 12, 12),
        ("chunk", 12, 12),
        ("embed", 12, 12),
        ("write", 12, 12),
    ]
    assert all(stage.busy_seconds >= 0 and stage.started_at and stage.ended_at for stage in seen[-1].stages)


def test_a_scan_under_way_tells_its_files(driver: Driver, root: Path) -> None:
    """While the scan is ahead of the other stages, it is what one waits for (R23)."""
    job_id = submit(driver, root)
    enrol(driver.engine, 1)
    with driver.engine.begin() as connection:
        driver.bench.admit(connection, messages.MessageOutbox())
        connection.execute(text("UPDATE penstock.indexing_jobs SET files_listed = 90000, files_scanned = 12400"))
    assert jobs.status(driver.engine, job_id).progress_message == "Scanning: 12,400 files"


@pytest.mark.parametrize(
    ("counters", "told"),
    [
        ("files_chunked = 50, chunks_created = 700, chunks_embedded = 600", "Generating embeddings: 600 chunks"),
        (
            "files_chunked = 100, chunks_created = 900, chunks_embedded = 800, files_written = 7",
            "Writing to database: 7/100",
        ),
        (
            "files_chunked = 100, chunks_created = 900, chunks_reused = 9, files_written = 7",
            "Generating embeddings: 9/900 chunks",
        ),
    ],
)
def test_the_stage_that_is_furthest_behind_is_told(driver: Driver, root: Path, counters: str, told: str) -> None:
    """The one with the smallest share done; one whose total is not known yet counts as not begun (R23)."""
    job_id = submit(driver, root)
    enrol(driver.engine, 1)
    with driver.engine.begin() as connection:
        driver.bench.admit(connection, messages.MessageOutbox())
        known = "scan_completed = true, files_listed = 100, files_scanned = 100, files_due = 100"
        connection.execute(text(f"UPDATE penstock.indexing_jobs SET {known}, {counters}"))  # noqa: S608 - constants
    assert jobs.status(driver.engine, job_id).progress_message == told


def test_what_is_left_is_known_from_recent_rates_and_forgotten_by_a_pause(driver: Driver, root: Path) -> None:
    """Null until two samples are there; a rest makes them worthless (R24)."""
    job_id = submit(driver, root)
    driver.step()
    assert jobs.status(driver.engine, job_id).estimated_remaining_seconds is None
    age = text("""UPDATE penstock.indexing_jobs SET sampled_at = sampled_at - interval '10 seconds',
        earlier_at = earlier_at - interval '10 seconds'""")
    for _ in range(4):
        driver.step()
        with driver.engine.begin() as connection:
            connection.execute(age)
    driver.step()
    left = jobs.status(driver.engine, job_id).estimated_remaining_seconds
    assert left is not None
    assert left > 0
    jobs.pause(driver.office, job_id)
    jobs.resume(driver.office, job_id)
    jobs.sweep(driver.bench, messages.MessageOutbox())
    assert jobs.status(driver.engine, job_id).status == JobStatus.RUNNING
    assert jobs.status(driver.engine, job_id).estimated_remaining_seconds is None


@pytest.mark.parametrize(
    ("online", "age", "missing"),
    [
        (["scan", "chunk"], 0, "embed"),
        ([], 0, "chunk and embed"),
        (["scan", "chunk", "embed", "write"], 60, "chunk and embed"),
    ],
)
def test_a_job_says_which_stage_has_no_worker(
    engine: Engine, root: Path, online: list[str], age: float, missing: str
) -> None:
    """A worker that was not seen for a while does not count; one that serves the stage ends the complaint (R23)."""
    driver = Driver(engine, limits=Limits(batch_files=4, job_window=2))
    job_id = submit(driver, root)
    driver.step(Stage.SCAN)
    driver.step(Stage.CHUNK)
    enrol(engine, 1, online, age)
    job = jobs.status(engine, job_id)
    assert job.stall_reason == f"Waiting: no worker online for stage {missing}; `penstock workers` lists who is"
    assert job.progress_message == job.stall_reason
    enrol(engine, 2)
    assert jobs.status(engine, job_id).stall_reason is None


def test_a_blocked_job_says_since_when_and_why(driver: Driver, root: Path) -> None:
    """The server and the moment are named (R13, R23)."""

    def away(_passages: Sequence[Passage]) -> None:
        message = "the embedding server at http://10.0.0.1:11434 cannot be reached"
        raise EmbedderUnavailable(message)

    enrol(driver.engine, 1)
    driver.embedder = WilfulEmbedder(before=away)
    job_id = submit(driver, root)
    driver.drain()
    job = jobs.status(driver.engine, job_id)
    assert (job.status, job.stall_reason) == (JobStatus.BLOCKED, None)
    assert job.blocked_since is not None
    since = f"{job.blocked_since:%H:%M:%S} UTC"
    assert (
        job.progress_message
        == f"Waiting: the embedding server at http://10.0.0.1:11434 cannot be reached, since {since}"
    )


def test_every_change_of_state_is_announced_and_progress_now_and_then(
    driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener hears of each move at once; commits within the interval are one announcement (R26)."""
    monkeypatch.setattr(progress, "NOTIFY_EVERY", literal("1 hour").cast(Interval))
    with driver.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as listener:
        listen(listener)
        job_id = submit(driver, root)
        jobs.pause(driver.office, job_id)
        jobs.resume(driver.office, job_id)
        assert driver.drain() > 8
        heard = [news.payload for news in driver_of(listener).notifies(timeout=0.5)].count(str(job_id))
    moves = 4  # paused, resumed, started, completed
    assert heard == moves + 1


def test_every_event_is_told_once_as_a_log_line(driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever moved the job, the caretaker logs it, with the moment, the job and its context (R64)."""
    monkeypatch.setattr(caretaker, "ROUND_SECONDS", 0.01)
    job_id = submit(driver, root)
    jobs.pause(driver.office, job_id)
    jobs.cancel(driver.office, job_id)
    broker = LeaseBroker(driver.engine, middleware=[])
    broker.consume("chunk")
    thread = Caretaker(broker, driver.bench, retention_days=0)
    with structlog.testing.capture_logs() as lines:
        thread.start()
        until(lambda: [line for line in lines if line["event"] == "job.cancelled"])
        thread.end()
        thread.join()
    broker.close()
    told = [line for line in lines if str(line["event"]).startswith("job.")]
    assert [line["event"] for line in told] == ["job.submitted", "job.paused", "job.cancelled"]
    assert all(line["job_id"] == str(job_id) and line["repo_path"] == str(root) and "T" in line["at"] for line in told)
