"""What a doorman says of a message, and that it says it once."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import pytest
from dramatiq.middleware import CurrentMessage
from dramatiq.middleware.time_limit import TimeLimitExceeded
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from actors.broker import LeaseBroker
from actors.runtime import Runtime, Watch
from actors.watching import GRACE_SECONDS, time_limits
from pipeline import jobs
from pipeline.errors import BatchMoved, FileAtFault, LeaseLost
from pipeline.records import JobRequest
from pipeline.stages.chunk import ChunkReport, chunk
from pipeline.states import Stage
from pipeline.store import workers
from tests.acceptance.working import eventually
from tests.driving import SMALL, Driver
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from sqlalchemy import Engine

    from actors.runtime import StageFunction
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench


@pytest.fixture
def driver(engine: Engine, tmp_path: Path) -> Driver:
    """Return a driver with one batch that is due for chunking."""
    driver = Driver(engine)
    root = write(tmp_path / "shop", {"a.py": "x = 1\n", "b.py": "y = 2\n"})
    jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.drain(Stage.SCAN)
    return driver


def raising(error: BaseException) -> StageFunction:
    """Return a stage that only raises."""

    def work(bench: Workbench, subject: str, delivery: Delivery) -> NoReturn:
        del bench, subject, delivery
        raise error

    return work


class Pile:
    """Something large that a stage builds."""


def perform(
    driver: Driver, work: StageFunction, *, deaths: int = 0, runtime: Runtime | None = None
) -> MutableMapping[str, object]:
    """Have the runtime work on the chunk message as Dramatiq does, and return the one line that it logs."""
    message = driver.claim(Stage.CHUNK)
    assert message is not None
    message.deaths = deaths
    broker, current = LeaseBroker(driver.engine), CurrentMessage()
    current.before_process_message(broker, message)
    try:
        with capture_logs(processors=[merge_contextvars]) as lines:
            (runtime or Runtime(driver.bench)).perform(Stage.CHUNK, work, str(message.args[0]))
    finally:
        current.after_process_message(broker, message)
    (line,) = lines
    return line


def test_a_stage_that_is_done_says_what_it_did(driver: Driver) -> None:
    """One line holds the report and the context: stage, batch, job and delivery (R65)."""
    line = perform(driver, chunk)
    assert (line["event"], line["log_level"], line["stage"]) == ("chunk.done", "info", "chunk")
    assert (line["files"], line["indexed"], line["chunks"], line["deliveries"]) == (2, 2, 2, 1)
    assert {"job_id", "batch_id", "seconds"} <= line.keys()


def test_a_failure_is_mended_and_said(driver: Driver) -> None:
    """The line names what was decided, why, and the error's type (R65)."""
    line = perform(driver, raising(RuntimeError("the parser fell over")))
    assert (line["event"], line["log_level"], line["action"]) == ("batch.mended", "warning", "again in 0.2 s")
    assert isinstance(line["batch_id"], int)
    assert UUID(str(line["job_id"])) == UUID(str(line["job_id"]))
    assert (line["reason"], line["error_type"]) == ("RuntimeError: the parser fell over", "RuntimeError")


def test_a_second_delivery_is_no_warning(driver: Driver) -> None:
    """A batch that has moved on is everyday life (R65)."""
    line = perform(driver, raising(BatchMoved("it is past this stage")))
    assert (line["log_level"], line["action"]) == ("info", "dropped")
    assert driver.claim(Stage.CHUNK) is None


def test_a_lost_lease_is_left_to_its_new_holder(driver: Driver) -> None:
    """The message is not touched; the line says why (R65)."""
    line = perform(driver, raising(LeaseLost("another worker took it over")))
    assert (line["event"], line["reason"]) == ("lease.lost", "another worker took it over")
    with driver.engine.begin() as connection:
        assert workers.reap(connection) == 1, "it is still held"


def test_a_batch_delivered_too_often_is_not_worked_on(driver: Driver) -> None:
    """It is split before its stage could kill this worker, too (R34)."""
    line = perform(driver, raising(AssertionError("it was worked on")), deaths=SMALL.max_failures)
    assert (line["event"], line["action"]) == ("batch.mended", "split")
    assert line["reason"] == "its worker process crashed or hung at stage chunk, 3 times in a row"


def test_a_time_limit_is_told_in_words(driver: Driver) -> None:
    """Dramatiq's exception has none; the user reads the stage, the limit and the setting (R17)."""
    line = perform(driver, raising(TimeLimitExceeded()))
    expected = "TimeoutError: stage chunk took longer than 30 s; PENSTOCK_BATCH_TIMEOUT_SECONDS sets the limit"
    assert (line["action"], line["reason"]) == ("again in 0.2 s", expected)


def test_the_file_at_fault_keeps_its_place(driver: Driver) -> None:
    """The words are of the cause, the file is still the one to be cut out (R34)."""
    line = perform(driver, raising(FileAtFault(1, TimeLimitExceeded())))
    assert line["action"] == "split"
    assert str(line["reason"]).startswith("TimeoutError: stage chunk took longer than 30 s")


def test_a_worker_without_memory_makes_room_and_retires(driver: Driver) -> None:
    """What the stage had piled up is dropped before the message is mended, and the process is replaced (R34)."""
    piles: list[weakref.ref[Pile]] = []
    retired: list[bool] = []

    def hoard(bench: Workbench, subject: str, delivery: Delivery) -> NoReturn:
        del bench, subject, delivery
        pile = Pile()
        piles.append(weakref.ref(pile))
        raise MemoryError

    def retire() -> None:
        retired.append(piles[0]() is None)

    line = perform(driver, hoard, runtime=Runtime(driver.bench, retire=retire))
    assert line["reason"] == "MemoryError: stage chunk needs more memory than PENSTOCK_WORKER_MEMORY_MB allows"
    assert retired == [True], "the pile was gone when it retired"


def test_every_sign_of_progress_begins_the_time_anew(driver: Driver) -> None:
    """The deadline that the parent watches moves with each commit, and is gone when the message is settled (R17)."""
    watch = Watch()
    late: list[bool] = []

    def work(bench: Workbench, subject: str, delivery: Delivery) -> ChunkReport:
        watch.begin(Stage.CHUNK, -GRACE_SECONDS)
        overdue = eventually(watch.deadlines.overdue, patience=20)
        assert overdue is not None
        assert overdue.stage == Stage.CHUNK
        with bench.engine.begin() as connection:
            delivery.progressed(connection)
        late.append(watch.deadlines.overdue() is not None)
        report = chunk(bench, subject, delivery)
        watch.begin(Stage.CHUNK, -GRACE_SECONDS)
        return report

    perform(driver, work, runtime=Runtime(driver.bench, watch))
    assert late == [False]
    assert watch.deadlines.overdue() is None


def test_every_stage_has_its_time_limit() -> None:
    """The setting bounds the work on files; what waits for others has limits of its own (R17)."""
    limits = time_limits(10)
    assert limits.keys() == set(Stage)
    assert (limits[Stage.CHUNK], limits[Stage.WRITE]) == (10, 40)
