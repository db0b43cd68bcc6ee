"""What a doorman says of a message, and that it says it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest
from dramatiq.middleware import CurrentMessage
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from actors.broker import LeaseBroker
from actors.runtime import Runtime
from pipeline import jobs
from pipeline.errors import BatchMoved, LeaseLost
from pipeline.records import JobRequest
from pipeline.stages.chunk import chunk
from pipeline.states import Stage
from pipeline.store import workers
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


def perform(driver: Driver, work: StageFunction, *, deaths: int = 0) -> MutableMapping[str, object]:
    """Have the runtime work on the chunk message as Dramatiq does, and return the one line that it logs."""
    message = driver.claim(Stage.CHUNK)
    assert message is not None
    message.deaths = deaths
    broker, current = LeaseBroker(driver.engine), CurrentMessage()
    current.before_process_message(broker, message)
    try:
        with capture_logs(processors=[merge_contextvars]) as lines:
            Runtime(driver.bench).perform(Stage.CHUNK, work, str(message.args[0]))
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
