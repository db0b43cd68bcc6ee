"""What is done for a repository's searches after a job: vector indexes are built and dropped, statistics refreshed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import OperationalError

from pipeline.store import vectors
from pipeline.store.embeddings import driver

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from pipeline.store.vectors import Due, TuningRules

CANCEL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tuned:
    """What one step of tuning came to, for its log line."""

    step: str
    repository_id: int
    chunks: int
    seconds: float


def tune(connection: Connection, rules: TuningRules) -> Tuned | None:
    """Do the next thing that is due; None when nothing is, or another session tunes.

    The connection must be in autocommit mode and the caller's own: its settings are changed, and it holds the lock.
    When the caller dies, the server goes on building, and the lock is held until it has.
    """
    if not vectors.due(connection, rules) or not vectors.lock(connection):
        return None
    try:
        step = next(iter(vectors.due(connection, rules)), None)
        return step and _perform(connection, step)
    finally:
        vectors.unlock(connection)


def _perform(connection: Connection, step: Due) -> Tuned:
    started = time.monotonic()
    if step.step == "drop":
        vectors.drop(connection, step.repository_id, step.model_id)
    elif step.step == "build":
        vectors.build(connection, step)
    else:
        vectors.note_tuned(connection, step.repository_id, step.changes)
    return Tuned(step.step, step.repository_id, step.chunks, time.monotonic() - started)


def cancel(connection: Connection) -> None:
    """End the statement that another thread runs on this connection: a build that is cancelled is begun again later."""
    driver(connection).cancel_safe(timeout=CANCEL_SECONDS)


def forget(engine: Engine, repository_id: int) -> None:
    """Drop the vector indexes of a repository that was removed; where one is in use for long, the workers do it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            connection.exec_driver_sql("SET lock_timeout = '2s'")
        except OperationalError:
            pass
