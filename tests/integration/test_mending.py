"""What becomes of a message whose stage raises, whose worker dies, or whose lease is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import text

from actors.lease import LeasedMessage
from pipeline import chunking, jobs
from pipeline.records import JobRequest, Limits
from pipeline.stages import mend
from pipeline.states import JobStatus, Stage
from pipeline.store import batches, messages, workers
from tests.driving import SMALL, Driver
from tests.embedders import WilfulEmbedder
from tests.inspecting import chunk_set, leftovers, sums
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Connection, Engine, TextClause

    from pipeline.embedders import Passage
    from pipeline.records import Chunk

CURSOR: Final = text("SELECT scan_cursor FROM penstock.indexing_jobs")
FAILURES: Final = text("SELECT coalesce(sum(failures), 0) FROM penstock.batches")
NOW: Final = text("UPDATE dramatiq.queue SET eta = clock_timestamp() WHERE state = 'queued'")
POISON: Final = text("SELECT id FROM penstock.batches WHERE CAST(files AS text) LIKE '%part05.py%'")
SEVER: Final = text("SELECT pg_terminate_backend(pg_backend_pid())")


class Stumbling(LeasedMessage):
    """A scan's message whose work raises when the second batch is let in."""

    batches = 0

    def send(self, connection: Connection, stage: Stage, subject: str, job_id: UUID, *, delay: float = 0.0) -> None:
        """Send one batch's message, then raise."""
        self.batches += stage is Stage.CHUNK
        if self.batches > 1:
            message = "the disk stumbled"
            raise OSError(message)
        super().send(connection, stage, subject, job_id, delay=delay)


class Severed(LeasedMessage):
    """A message whose worker loses its session in the very transaction that should complete it."""

    def complete(self, connection: Connection) -> None:
        """End the session."""
        connection.execute(SEVER)


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


def take(driver: Driver, stage: Stage) -> LeasedMessage:
    """Take a message of a stage, also one that is to be tried again later."""
    with driver.engine.begin() as connection:
        connection.execute(NOW)
    message = driver.claim(stage)
    assert message is not None
    return message


def lose(driver: Driver) -> None:
    """Let the worker that holds messages die, as the others see it: it is in no list of the living."""
    with driver.engine.begin() as connection:
        workers.reap(connection)


def ask(driver: Driver, question: TextClause) -> object:
    """Return the one value that answers a question."""
    with driver.engine.connect() as connection:
        return connection.execute(question).scalar_one()


def test_an_interrupted_scan_goes_on_from_its_cursor(driver: Driver, root: Path) -> None:
    """Two attempts commit a batch each before they raise; the third adds the last one, and no file twice (R33, R36)."""
    job_id = submit(driver, root)
    for last in ("part03.py", "part07.py"):
        driver.work(Stumbling(take(driver, Stage.SCAN).lease))
        assert ask(driver, CURSOR) == last
    driver.work(take(driver, Stage.SCAN))
    driver.drain()
    job = jobs.status(driver.engine, job_id)
    assert driver.mended == ["again in 0.2 s", "again in 1.0 s"]
    assert (job.status, job.files_indexed, job.batches_total) == (JobStatus.COMPLETED, 12, 3)
    assert sums(driver.engine, job_id) == []


def test_a_scan_that_keeps_failing_fails_its_job(driver: Driver, root: Path) -> None:
    """The third interruption ends the job with the reason, its type and the place; what was scanned stays (R14)."""
    driver.bench = replace(driver.bench, limits=Limits(batch_files=1, max_failures=3))
    job_id = submit(driver, root)
    for _ in range(3):
        driver.work(Stumbling(take(driver, Stage.SCAN).lease))
    job = jobs.status(driver.engine, job_id)
    assert driver.mended[-1] == "failed job"
    assert (job.status, job.error_message, job.error_type) == (
        JobStatus.FAILED,
        "OSError: the disk stumbled",
        "OSError",
    )
    assert "in commit" in (job.error_traceback or "")
    assert job.files_scanned > 0
    driver.drain()
    assert leftovers(driver.engine) == {}


def test_another_dimension_fails_the_job_and_the_next_one_embeds_anew(driver: Driver, root: Path) -> None:
    """A replaced model of the same name never mixes with the old vectors: the next job redoes all (R50)."""
    driver.index(root)
    driver.embedder = WilfulEmbedder(dimension=128)
    write(root, {"part00.py": "def changed():\n    return 'changed'\n"})
    job = driver.index(root)
    assert (job.status, job.error_type) == (JobStatus.FAILED, "DimensionChanged")
    assert "answers with 128 dimensions, the index has 256" in (job.error_message or "")
    job = driver.index(root)
    assert (job.status, job.files_indexed, job.chunks_embedded) == (JobStatus.COMPLETED, 12, 12)
    assert ask(driver, text("SELECT count(DISTINCT model_id) FROM penstock.chunks")) == 1


@pytest.mark.parametrize(("told", "deaths"), [(True, 4), (False, 9)])
def test_a_file_that_kills_its_worker_ends_alone(driver: Driver, root: Path, *, told: bool, deaths: int) -> None:
    """Told by the second death it is cut out, else its batch is halved; alone it fails, the rest completes (R34)."""
    job_id = submit(driver, root)
    driver.step(Stage.SCAN)
    seen = 0
    while (message := driver.claim()) is not None:
        if message.args == (str(ask(driver, POISON)),) and not gives_up(driver, message):
            seen += 1
            if told and message.deaths:
                note(driver, int(message.args[0]))
            lose(driver)
        elif not message.settled:
            driver.work(message)
    job = jobs.status(driver.engine, job_id)
    assert (job.status, job.files_indexed, job.files_failed) == (JobStatus.COMPLETED, 11, 1)
    ((path, reason),) = [(note.path, note.reason) for note in jobs.notes(driver.engine, job_id)]
    assert (path, reason[:49]) == ("part05.py", "its worker process crashed or hung at stage chunk")
    assert seen == deaths
    assert sums(driver.engine, job_id) == []
    assert leftovers(driver.engine) == {}


def gives_up(driver: Driver, message: LeasedMessage) -> bool:
    """Tell whether a worker would not even begin with the message."""
    return mend.give_up_on(driver.bench, Stage.CHUNK, str(message.args[0]), message) is not None


def note(driver: Driver, batch_id: int) -> None:
    """Note the poisonous file as the one that is worked on, as a wary stage does."""
    with driver.engine.begin() as connection:
        files = batches.load(connection, batch_id).files
        index = next(index for index, file in enumerate(files) if file.path == "part05.py")
        batches.note_suspect(connection, batch_id, index)


def test_a_file_at_which_the_chunker_raises_is_cut_out_at_once(
    driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage knows the file: nobody else has to be tried again and again to find it (R34)."""

    def stumble(text: str, *_: object, **__: object) -> list[Chunk]:
        if "part_5" in text:
            reason = "too deep"
            raise RecursionError(reason)
        return chunking.chunk(text, "python", limit=1_500)

    monkeypatch.setattr("pipeline.stages.chunk.chunks_of", stumble)
    job_id = submit(driver, root)
    while driver.step():
        with driver.engine.begin() as connection:
            connection.execute(NOW)
    assert driver.mended == ["split", "again in 1.0 s", "failed file"]
    ((path, reason),) = [(note.path, note.reason) for note in jobs.notes(driver.engine, job_id)]
    assert (path, reason) == ("part05.py", "RecursionError: too deep")
    assert jobs.status(driver.engine, job_id).files_indexed == 11
    assert sums(driver.engine, job_id) == []


def test_work_that_advances_forgets_the_deaths_at_it(driver: Driver, root: Path) -> None:
    """A batch whose requests are answered one by one may outlive many workers: it is no poison (R34)."""
    submit(driver, root)
    driver.drain(Stage.SCAN, Stage.CHUNK)
    for _ in range(2):
        take(driver, Stage.EMBED)
        lose(driver)
    message = take(driver, Stage.EMBED)
    assert message.deaths == 2
    with driver.engine.begin() as connection:
        message.progressed(connection)
    lose(driver)
    assert take(driver, Stage.EMBED).deaths == 1


def test_two_workers_at_one_batch_count_its_passages_once(driver: Driver, root: Path) -> None:
    """One that was given up for dead keeps what it has embedded, and stops at the first answer (R33)."""
    job_id = submit(driver, root)
    driver.drain(Stage.SCAN, Stage.CHUNK)
    slow = take(driver, Stage.EMBED)

    def overtaken(_passages: Sequence[Passage]) -> None:
        if driver.embedder is embedder:
            driver.embedder = WilfulEmbedder(batch_size=1)
            lose(driver)
            driver.drain(until=lambda: len(quick().seen) == 2)

    def quick() -> WilfulEmbedder:
        assert isinstance(driver.embedder, WilfulEmbedder)
        return driver.embedder

    embedder = driver.embedder = WilfulEmbedder(batch_size=1, before=overtaken)
    driver.work(slow)
    assert "lease lost" in driver.mended
    assert len(embedder.seen) == 1
    driver.drain()
    job = jobs.status(driver.engine, job_id)
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, 12)
    assert sums(driver.engine, job_id) == []


def test_a_model_that_changes_back_is_no_longer_another_one(driver: Driver, root: Path) -> None:
    """The vector space in use is the one that answered last, whichever was made first (R50)."""
    driver.index(root)
    for dimension in (128, 256):
        driver.embedder = WilfulEmbedder(dimension=dimension)
        write(root, {"part00.py": f"def changed():\n    return {dimension}\n"})
        assert driver.index(root).error_type == "DimensionChanged"
        assert driver.index(root).status == JobStatus.COMPLETED
    assert ask(driver, text("SELECT count(DISTINCT model_id) FROM penstock.chunks")) == 1


def test_a_job_writes_in_one_vector_space_whatever_others_see(driver: Driver, root: Path, tmp_path: Path) -> None:
    """Its scan has taken files for unchanged in one space: another job's answer must not move the rest of it (R50)."""
    driver.index(root)
    write(root, {"part00.py": "def changed():\n    return 'changed'\n"})
    job_id = submit(driver, root)
    driver.drain(Stage.SCAN)
    driver.embedder = WilfulEmbedder(dimension=128)
    other = write(tmp_path / "other", {"a.py": "def other():\n    return 'elsewhere'\n"})
    submit(driver, other)
    driver.drain()
    assert jobs.status(driver.engine, job_id).error_type == "DimensionChanged"
    space = text(
        "SELECT count(DISTINCT c.model_id) FROM penstock.chunks c JOIN penstock.repositories r"
        " ON r.id = c.repository_id WHERE r.name = 'shop'"
    )
    assert ask(driver, space) == 1
    assert driver.index(root).files_indexed == 12
    assert ask(driver, space) == 1


@pytest.mark.parametrize("stage", [Stage.SCAN, Stage.CHUNK])
def test_a_failure_after_a_cancel_leaves_no_trace(driver: Driver, root: Path, stage: Stage) -> None:
    """Nothing of a cancelled job is written any more, not even why its last attempt failed (R30)."""
    job_id = submit(driver, root)
    if stage is Stage.CHUNK:
        driver.drain(Stage.SCAN)
    else:
        with driver.engine.begin() as connection:
            driver.bench.admit(connection, messages.MessageOutbox())
    message = take(driver, stage)
    jobs.cancel(driver.office, job_id)
    driver.note(stage, str(message.args[0]), message, RuntimeError("too late"))
    assert driver.mended == ["dropped"]
    assert ask(driver, FAILURES) == 0
    assert ask(driver, text("SELECT type FROM penstock.job_events ORDER BY id DESC LIMIT 1")) == "cancelled"


@pytest.mark.parametrize("stage", [Stage.CHUNK, Stage.EMBED, Stage.WRITE])
def test_a_lost_connection_is_no_fault_of_the_batch(driver: Driver, root: Path, stage: Stage) -> None:
    """A session that ends within a checkpoint costs a retry, counts no failure and doubles nothing (R33, R34)."""
    job_id = submit(driver, root)
    order = list(Stage)
    for earlier in order[: order.index(stage)]:
        driver.drain(earlier)
    for _ in range(SMALL.max_failures + 1):
        driver.work(Severed(take(driver, stage).lease))
    assert driver.mended == ["again in 1.0 s"] * (SMALL.max_failures + 1)
    assert ask(driver, FAILURES) == 0
    with driver.engine.begin() as connection:
        connection.execute(NOW)
    driver.drain()
    assert jobs.status(driver.engine, job_id).files_indexed == 12
    assert sums(driver.engine, job_id) == []


@pytest.mark.parametrize("stage", [Stage.CHUNK, Stage.EMBED, Stage.WRITE])
def test_who_lost_the_lease_writes_nothing(driver: Driver, root: Path, stage: Stage) -> None:
    """A worker taken for dead rolls back, and the one that took over does the work, once (R33)."""
    job_id = submit(driver, root)
    order = list(Stage)
    for earlier in order[: order.index(stage)]:
        driver.drain(earlier)
    slow = take(driver, stage)
    lose(driver)
    quick = take(driver, stage)
    before = chunk_set(driver.engine), jobs.status(driver.engine, job_id).progress_percentage
    driver.work(slow)
    assert driver.mended == ["lease lost"]
    if stage is not Stage.EMBED:  # whose answers are committed request by request, for whoever goes on
        assert (chunk_set(driver.engine), jobs.status(driver.engine, job_id).progress_percentage) == before
    driver.work(quick)
    driver.drain()
    assert jobs.status(driver.engine, job_id).files_indexed == 12
    assert sums(driver.engine, job_id) == []
    assert leftovers(driver.engine) == {}


def test_who_lost_the_lease_counts_no_failure(driver: Driver, root: Path) -> None:
    """A worker taken for dead that then stumbles leaves the batch to the one that took over (R34)."""
    submit(driver, root)
    driver.drain(Stage.SCAN)
    slow = take(driver, Stage.CHUNK)
    lose(driver)
    take(driver, Stage.CHUNK)
    driver.note(Stage.CHUNK, str(slow.args[0]), slow, RuntimeError("too late"))
    assert driver.mended == ["lease lost"]
    assert ask(driver, FAILURES) == 0
