"""What the broker's tests do again and again: send, look, take a message, wait."""

from __future__ import annotations

from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from pipeline.store import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from actors.broker import LeaseBroker
    from actors.lease import LeasedMessage
    from pipeline.states import Stage

T = TypeVar("T")
SOON: Final = 90.0
JOB: Final = UUID(int=1)
ROWS: Final = text("SELECT state, deliveries, error FROM dramatiq.queue ORDER BY seq")


def send(engine: Engine, stage: Stage, *subjects: str, job_id: UUID = JOB, delay: float = 0.0) -> None:
    """Send in a transaction of its own."""
    with engine.begin() as connection:
        for subject in subjects:
            messages.MessageOutbox().send(connection, stage, subject, job_id, delay=delay)


def rows(engine: Engine) -> list[tuple[str, int, str | None]]:
    """Return state, deliveries and error of every message."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(ROWS)]


def execute(engine: Engine, statement: str) -> None:
    """Run a statement in a transaction of its own."""
    with engine.begin() as connection:
        connection.execute(text(statement))


def take(broker: LeaseBroker, stage: Stage) -> LeasedMessage:
    """Take a message as a worker would, waiting for it."""
    consumer = broker.consume(stage, timeout=200)
    return until(lambda: next(consumer))


def until(look: Callable[[], T | None]) -> T:
    """Look again and again until there is something to see; the server may be away meanwhile."""
    deadline, pause = monotonic() + SOON, Event()
    while monotonic() < deadline:
        try:
            if seen := look():
                return seen
        except OperationalError:
            pass
        pause.wait(0.02)
    pytest.fail(f"nothing to see within {SOON:g} s")
