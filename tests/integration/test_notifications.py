"""Notifications: what is told to whom, when and how often, with real HTTP receivers (R63)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import text

from actors import notifier
from actors.broker import LeaseBroker
from actors.notifier import Notifier
from ops.notifying import services
from pipeline import jobs, notifying
from pipeline.errors import EmbedderUnavailable
from pipeline.records import JobRequest, NotifyRules
from pipeline.states import NOTIFIABLE, JobStatus, Stage
from tests.acceptance.working import eventually
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.receiver import Receiver, receiving
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

    from pipeline.embedders import Passage

ALL: Final = NotifyRules(interval=0, least_seconds=0)
NOW: Final = text("UPDATE dramatiq.queue SET eta = clock_timestamp() WHERE state = 'queued'")
AGE: Final = text("UPDATE penstock.job_events SET at = at - interval '25 hours'")
Lines = list["MutableMapping[str, Any]"]


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make rounds often, and try again soon."""
    monkeypatch.setattr(notifier, "ROUND_SECONDS", 0.02)
    monkeypatch.setattr(notifying, "FIRST_RETRY", 0.1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of twelve files."""
    return write(tmp_path / "shop", {f"part{n:02}.py": f"def part_{n}():\n    return {n}\n" for n in range(12)})


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker of all stages, whose batches hold four files."""
    return Driver(engine, embedder=WilfulEmbedder())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield somebody who is notified."""
    with receiving() as receiver:
        yield receiver


@contextmanager
def notifying_(driver: Driver, *urls: str, rules: NotifyRules = ALL) -> Iterator[Lines]:
    """Run a notifier in the leading process, and yield what is logged."""
    broker = LeaseBroker(driver.engine, middleware=[])
    broker.consume("chunk")
    eventually(lambda: broker.leader)
    thread = Notifier(broker, driver.engine, rules, services(tuple(map(SecretStr, urls))))
    with structlog.testing.capture_logs() as lines:
        thread.start()
        yield lines
        thread.end()
        thread.join(5)
    broker.close()
    assert not thread.is_alive()


def submit(driver: Driver, root: Path) -> UUID:
    """Submit a repository."""
    return jobs.submit(driver.office, JobRequest(repo_path=str(root))).job_id


def waiting(engine: Engine) -> int:
    """Return how many events wait in the outbox."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM penstock.notification_outbox")).scalar_one())


def of(lines: Lines, event: str) -> list[tuple[int, str]]:
    """Return which URLs were told of which event, as the log has it."""
    return [(line["url"], line["about"]) for line in lines if line["event"] == event]


def live(driver: Driver, root: Path) -> UUID:
    """Have a job go through its whole life, and return its id."""
    away = [True]

    def once(_passages: Sequence[Passage]) -> None:
        if away.pop():
            message = "the embedding server cannot be reached"
            raise EmbedderUnavailable(message)
        away.append(False)

    driver.embedder = WilfulEmbedder(before=once)
    away.insert(0, False)
    job_id = submit(driver, root)
    driver.step(Stage.SCAN)
    jobs.pause(driver.office, job_id)
    jobs.resume(driver.office, job_id)
    while driver.step():
        with driver.engine.begin() as connection:
            connection.execute(NOW)
    return job_id


def test_every_event_arrives(driver: Driver, root: Path, receiver: Receiver) -> None:
    """Each R63 event of a job, once, in words that name the repository (R63)."""
    with notifying_(driver, receiver.url()) as lines:
        finished = live(driver, root)
        other = write(root.parent / "other", {"a.py": "x = 1\n"})
        jobs.cancel(driver.office, submit(driver, other))
        assert driver.index(write(root.parent / "empty", {"a.bin": "\0"})).status == JobStatus.FAILED
        eventually(lambda: waiting(driver.engine) == 0)
    told = [about for _, about in of(lines, "notification.sent")]
    assert set(told) == set(NOTIFIABLE)
    assert len(receiver.titles) == len(told)
    assert "shop: indexing is at 50 %" in receiver.titles
    assert "shop: indexing is complete" in receiver.titles
    assert f"{root} (project default), job {finished}" in receiver.bodies[0]
