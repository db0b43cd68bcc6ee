"""The embedding server goes away, in every way it can: the job says so, waits, and goes on by itself (R13, R51)."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import TYPE_CHECKING, Final, Self

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from pipeline import jobs
from pipeline.embedders.ollama_server import WITNESS
from pipeline.states import TERMINAL, JobStatus, Stage
from pipeline.store import events
from pipeline.store.engine import connect
from pipeline.store.jobs import JobFilter
from tests.acceptance.working import System, eventually, running
from tests.inspecting import leftovers, sums, vectors
from tests.ollama_record import text_hash
from tests.ollama_standin import Fault, OllamaStandin, Settings
from tests.repositories import generate

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from uuid import UUID

    from sqlalchemy import Engine

    from pipeline.records import Job

MODEL: Final = "nomic-embed-text"
BATCH: Final = 16
THREADS: Final = 2
IN_FLIGHT: Final = BATCH * THREADS
"""The most passages that are with the server at once."""
FILES: Final = 80
RECOVERY: Final = 20.0
"""R13 says 10 s; a busy machine may double it."""
USUAL: Final = Settings(passage_delay=0.01)
SLOW: Final = Settings(request_delay=60)
SEEDS: Final = count(100)
OLLAMA: Final = {
    "PENSTOCK_EMBEDDER": "ollama",
    "OLLAMA_EMBEDDING_MODEL": MODEL,
    "OLLAMA_BATCH_SIZE": str(BATCH),
    "OLLAMA_TIMEOUT_SECONDS": "100",
}

# Everything that work on a job writes.
WRITTEN: Final = text("""
SELECT (SELECT to_jsonb(j) FROM penstock.indexing_jobs j WHERE j.id = :job),
       (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.id) FROM penstock.batches b WHERE b.job_id = :job),
       (SELECT count(*) FROM penstock.job_events WHERE job_id = :job),
       (SELECT count(*) FROM penstock.file_outcomes WHERE job_id = :job),
       (SELECT count(*) FROM penstock.embeddings),
       (SELECT count(*) FROM penstock.chunks),
       (SELECT count(*) FROM penstock.files)
""")
DUE_TO_EMBED: Final = text("SELECT count(*) FROM penstock.batches WHERE job_id = :job AND stage = 'embed'")
HELD: Final = text("SELECT count(*) FROM dramatiq.queue WHERE state = 'consumed'")


@dataclass(frozen=True)
class Outage:
    """A way to be away: how it begins and ends, and what the job says of it."""

    begin: Callable[[OllamaStandin], object]
    end: Callable[[OllamaStandin], object]
    reason: str


def faulty(reason: str, *faults: Fault) -> Outage:
    """Return an outage in which the server is there and misbehaves."""
    return Outage(lambda server: server.misbehave(*map(replace, faults)), lambda server: server.misbehave(), reason)


DOWN: Final = Outage(lambda server: server.stop(), lambda server: server.start(), "cannot be reached")
WITHOUT_MODEL: Final = Outage(
    lambda server: server.configure(replace(USUAL, models=("all-minilm",))),
    lambda server: server.configure(USUAL),
    f"run `ollama pull {MODEL}` there",
)
OUTAGES: Final = {
    "down": DOWN,
    "model missing": WITHOUT_MODEL,
    "500": faulty("llama runner process has terminated", Fault("status", status=500)),
    "502": faulty("bad gateway", Fault("status", status=502, error="bad gateway")),
    "503": faulty("server busy", Fault("status", status=503, error="server busy, please try again")),
    "429": faulty("too many requests", Fault("status", status=429, error="too many requests")),
    "garbage": faulty("not what Ollama answers", Fault("garbage")),
    "NaN": faulty("NaN", Fault("nan")),
}


@dataclass
class Watch:
    """Looks at a job many times a second, and remembers how it stood; a context manager."""

    engine: Engine
    job_id: UUID
    seen: list[Job] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self.over.wait(0.05):
            self.seen.append(jobs.status(self.engine, self.job_id))

    def assert_steady(self) -> None:
        """Assert that progress never fell (R22), and that a job is blocked exactly when it says since when."""
        shares = [job.progress_percentage for job in self.seen]
        assert all(later >= earlier for earlier, later in pairwise(shares))
        assert all((job.status == JobStatus.BLOCKED) == (job.blocked_since is not None) for job in self.seen)


@pytest.fixture(scope="module")
def server() -> Iterator[OllamaStandin]:
    """The embedding server of all tests here."""
    with OllamaStandin(USUAL) as standin:
        yield standin


@pytest.fixture(scope="module")
def shared_url(server_url: str, template: str) -> Iterator[str]:
    """Yield the URL of a database that the tests here share."""
    name = f"penstock_blocked_{os.getpid()}"
    with psycopg.connect(server_url, autocommit=True) as administrator:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        administrator.execute(create)
    yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server_url, autocommit=True) as administrator:
        administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def workers(server: OllamaStandin, shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Yield a system with workers for every stage, shared by the tests here; its timeout is long."""
    engine = connect(shared_url)
    folder = tmp_path_factory.mktemp("blocked")
    with running(engine, shared_url, folder, OLLAMA_HOST=server.url, **OLLAMA) as system:
        start(system)
        yield system
    engine.dispose()


def start(system: System) -> None:
    """Start one worker process for all stages: its two threads may both wait for the embedding server."""
    system.start(*Stage, threads=THREADS)


@contextmanager
def alone(engine: Engine, url: str, folder: Path, **settings: str) -> Iterator[tuple[System, OllamaStandin]]:
    """Yield a system of a test's own, with its own server."""
    with (
        OllamaStandin(USUAL) as server,
        running(engine, url, folder, **OLLAMA | {"OLLAMA_HOST": server.url} | settings) as system,
    ):
        start(system)
        yield system, server


@pytest.fixture
def system(workers: System, server: OllamaStandin) -> Iterator[System]:
    """Yield the system with a server that behaves; whatever a test leaves behind is ended."""
    yield workers
    server.configure(USUAL)
    server.misbehave()
    if server.stopped.is_set():
        server.start()
    for job in jobs.listed(workers.engine, JobFilter(), limit=100).jobs:
        if job.status not in TERMINAL:
            jobs.cancel(workers.office, job.job_id)
    eventually(lambda: leftovers(workers.engine) == {}, patience=20)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a repository whose passages no model has seen."""
    generate(tmp_path / "shop", FILES, seed=next(SEEDS))
    return tmp_path / "shop"


@pytest.fixture
def asked(server: OllamaStandin) -> Callable[[], int]:
    """Return the function that counts the passages that were asked for again since the test began."""
    before: Counter[str] = server.ledger.texts.copy()

    def repeated() -> int:
        since = server.ledger.texts - before
        return sum(times - 1 for passage, times in since.items() if passage != text_hash(WITNESS))

    return repeated


def embedding(system: System, job_id: UUID) -> bool:
    """Return whether some chunks of the job are embedded, and it is far from its end."""
    return system.job(job_id).chunks_embedded > 0


def blocked(system: System, job_id: UUID, reason: str) -> bool:
    """Return whether the job is blocked; assert that it says why and since when, in the record and in words."""
    job = system.job(job_id)
    if job.status != JobStatus.BLOCKED:
        return False
    assert job.blocked_since is not None
    assert reason in job.progress_message
    assert f"since {job.blocked_since:%H:%M:%S} UTC" in job.progress_message
    return True


def told(system: System, job_id: UUID) -> list[str]:
    """Return the kinds of a job's events, oldest first, without its milestones."""
    with system.engine.connect() as connection:
        return [event.type for event in events.of_job(connection, job_id) if event.type != "milestone"]


def assert_whole(system: System, job_id: UUID) -> None:
    """Assert that the job completed with every file that no job before it had written, and that its sums agree."""
    job = system.finished(job_id, patience=60)
    files = job.files_indexed + job.files_unchanged
    assert (job.status, files, job.files_failed) == (JobStatus.COMPLETED, FILES, 0), job.error_message
    assert job.chunks_written == job.chunks_embedded + job.chunks_reused
    assert sums(system.engine, job_id) == []


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_a_job_waits_for_its_server_and_goes_on(
    system: System, server: OllamaStandin, tree: Path, asked: Callable[[], int], outage: Outage
) -> None:
    """In the middle of a job: it is blocked, says so, needs no command, and repeats what was in flight only (R13)."""
    job_id = system.submit(tree)
    with Watch(system.engine, job_id) as watch:
        eventually(lambda: embedding(system, job_id))
        outage.begin(server)
        eventually(lambda: blocked(system, job_id, outage.reason))
        outage.end(server)
        eventually(lambda: system.job(job_id).status != JobStatus.BLOCKED, patience=RECOVERY)
        assert_whole(system, job_id)
    watch.assert_steady()
    assert asked() <= IN_FLIGHT
    # An answer that one thread got before the outage may unblock what the other one has just blocked.
    assert re.fullmatch("submitted started( blocked unblocked){1,2} completed", " ".join(told(system, job_id)))


@pytest.mark.parametrize("outage", [DOWN, WITHOUT_MODEL], ids=["down", "model not pulled yet"])
def test_a_job_may_be_submitted_while_its_server_is_away(
    system: System, server: OllamaStandin, tree: Path, asked: Callable[[], int], outage: Outage
) -> None:
    """From the start: it is blocked as soon as it needs the server; nothing is asked for twice (R13)."""
    outage.begin(server)
    job_id = system.submit(tree)
    eventually(lambda: blocked(system, job_id, outage.reason))
    outage.end(server)
    eventually(lambda: system.job(job_id).status != JobStatus.BLOCKED, patience=RECOVERY)
    assert_whole(system, job_id)
    assert asked() == 0


def test_a_slow_server_blocks_nothing(
    system: System, server: OllamaStandin, tree: Path, asked: Callable[[], int]
) -> None:
    """Slow is not away: the job goes on at the server's pace, and asks for nothing twice (R13)."""
    job_id = system.submit(tree)
    with Watch(system.engine, job_id) as watch:
        eventually(lambda: embedding(system, job_id))
        server.configure(Settings(request_delay=2))
        before = system.job(job_id).chunks_embedded
        eventually(lambda: system.job(job_id).chunks_embedded > before + IN_FLIGHT)
        server.configure(USUAL)
        assert_whole(system, job_id)
    watch.assert_steady()
    assert asked() == 0
    assert "blocked" not in told(system, job_id)


def test_a_server_that_hangs_is_away(engine: Engine, database_url: str, tmp_path: Path, tree: Path) -> None:
    """It takes requests and never answers: after the timeout the job is blocked, until answers come (R13)."""
    with alone(engine, database_url, tmp_path, OLLAMA_TIMEOUT_SECONDS="1") as (system, server):
        job_id = system.submit(tree)
        eventually(lambda: embedding(system, job_id))
        server.misbehave(Fault("hang"))
        eventually(lambda: blocked(system, job_id, "no answer within 1 s"))
        server.misbehave()
        eventually(lambda: system.job(job_id).status != JobStatus.BLOCKED, patience=RECOVERY)
        assert_whole(system, job_id)


def assert_replaced(system: System, job_id: UUID, dimension: int) -> None:
    """Assert that a job failed because the model answers in another dimension now, and says what to do."""
    failed = system.finished(job_id, patience=30)
    assert (failed.status, failed.error_type) == (JobStatus.FAILED, "DimensionChanged")
    assert f"answers with {dimension} dimensions" in (failed.error_message or "")
    assert "submit the repository again" in (failed.error_message or "")


def replaced_midway(system: System, server: OllamaStandin, tree: Path) -> UUID:
    """Have the model answer with 384 dimensions in the middle of a job, which fails for it; return the job's id."""
    job_id = system.submit(tree)
    eventually(lambda: embedding(system, job_id))
    server.configure(replace(USUAL, dimension=384))
    assert_replaced(system, job_id, 384)
    return job_id


def test_a_model_replaced_in_the_middle_is_never_mixed(
    engine: Engine, database_url: str, tmp_path: Path, tree: Path
) -> None:
    """A job that meets another dimension fails and says why; the next one embeds the repository anew (R50)."""
    with alone(engine, database_url, tmp_path) as (system, server):
        replaced_midway(system, server, tree)
        assert_whole(system, system.submit(tree))
        assert {len(vector) for vector in vectors(engine, str(tree)).values()} == {384}


def test_a_model_that_is_put_back_costs_no_embedding_twice(
    engine: Engine, database_url: str, tmp_path: Path, tree: Path
) -> None:
    """The old model is back: what it embedded before is still known; each change costs one job at most (R44, R50)."""
    with alone(engine, database_url, tmp_path) as (system, server):
        first = system.job(replaced_midway(system, server, tree))
        server.configure(USUAL)
        second = system.submit(tree)
        if system.finished(second, patience=60).status == JobStatus.FAILED:
            assert_replaced(system, second, 768)
            second = system.submit(tree)
        assert_whole(system, second)
        assert system.job(second).chunks_reused >= first.chunks_embedded - first.chunks_written
        assert {len(vector) for vector in vectors(engine, str(tree)).values()} == {768}


def test_a_reason_that_changes_is_told_anew(system: System, server: OllamaStandin, tree: Path) -> None:
    """The server comes back without its model: the status says what it waits for now, and since when it waits (R13)."""
    DOWN.begin(server)
    job_id = system.submit(tree)
    eventually(lambda: blocked(system, job_id, DOWN.reason))
    since = system.job(job_id).blocked_since
    WITHOUT_MODEL.begin(server)
    DOWN.end(server)
    eventually(lambda: WITHOUT_MODEL.reason in system.job(job_id).progress_message, patience=RECOVERY)
    assert system.job(job_id).blocked_since == since


def test_an_outage_is_not_hammered(system: System, server: OllamaStandin, tmp_path: Path) -> None:
    """Sixteen waiting batches and two threads ask a server in a storm about as seldom as one would (R13)."""
    generate(tmp_path / "large", 1_100, seed=next(SEEDS))
    server.misbehave(Fault("status", status=503, error="server busy"))
    job_id = system.submit(tmp_path / "large")

    def waiting() -> bool:
        with system.engine.connect() as connection:
            return int(connection.execute(DUE_TO_EMBED, {"job": job_id}).scalar_one()) >= 16

    eventually(waiting, patience=30)
    first = len(server.ledger.arrivals)
    eventually(lambda: len(server.ledger.arrivals) > first + 3, patience=30)
    arrivals = server.ledger.arrivals[first : first + 4]
    assert 3 / (arrivals[-1] - arrivals[0]) < 2
    assert set(server.ledger.sizes[first:]) == {1}


def written(system: System, job_id: UUID) -> tuple[object, ...]:
    """Return all that work on a job writes."""
    with system.engine.connect() as connection:
        return tuple(connection.execute(WRITTEN, {"job": job_id}).one())


def held(system: System) -> int:
    """Return how many messages workers hold."""
    with system.engine.connect() as connection:
        return int(connection.execute(HELD).scalar_one())


@pytest.mark.parametrize("stop", [jobs.cancel, jobs.pause], ids=["cancel", "pause"])
def test_a_slow_request_is_given_up_with_its_job(
    system: System,
    server: OllamaStandin,
    tree: Path,
    asked: Callable[[], int],
    stop: Callable[[jobs.Office, UUID], Job],
) -> None:
    """In the middle of requests of 60 s: acknowledged at once, connections closed, nothing written after (R30)."""
    job_id = system.submit(tree)
    eventually(lambda: embedding(system, job_id))
    server.configure(SLOW)
    given_up, configured = server.ledger.given_up, time.monotonic()
    eventually(lambda: len([moment for moment in server.ledger.arrivals if moment > configured]) == THREADS)
    began = time.monotonic()
    stop(system.office, job_id)
    assert time.monotonic() - began < 1
    at_once = written(system, job_id)
    eventually(lambda: server.ledger.in_flight == 0, patience=5)
    assert server.ledger.given_up == given_up + THREADS
    eventually(lambda: held(system) == 0, patience=5)
    server.configure(USUAL)
    other = system.submit(tree.parent, project="other") if stop is jobs.cancel else None
    if other is not None:  # the workers are well, and work for others
        assert system.finished(other, patience=60).status == JobStatus.COMPLETED
    assert written(system, job_id)[:4] == at_once[:4]
    if other is None:
        assert written(system, job_id) == at_once
        jobs.resume(system.office, job_id)
        assert_whole(system, job_id)
        assert asked() <= IN_FLIGHT
