"""What is done for a repository's searches after a job: vector indexes are built and dropped, statistics refreshed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy.exc import OperationalError

from pipeline.store import lexicon, vectors

if TYPE_CHECKING:
    from psycopg import Connection as DriverConnection
    from sqlalchemy import Connection, Engine

    from pipeline.store.vectors import Due, TuningRules

CANCEL_SECONDS: Final = 3.0
"""How long the server may take to end a statement that is cancelled."""
PATIENCE: Final = "2s"
"""How long a removal waits for those who use the index."""
AUTOCOMMIT: Final = "AUTOCOMMIT"
"""PostgreSQL builds and drops an index beside its users in transactions of its own."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What one step of tuning came to, for its log line."""

    step: str
    repository_id: int
    chunks: int
    seconds: float


def is_due(engine: Engine, rules: TuningRules) -> bool:
    """Return whether there is anything to do; it costs a millisecond."""
    with engine.connect() as connection:
        return bool(vectors.due(connection, rules))


def tune(engine: Engine, session: Connection, rules: TuningRules) -> Tuned | None:
    """Do the next thing that is due; None when nothing is, or another session tunes.

    `session` is an autocommit connection of the caller's alone, which it closes after an error: it holds the right to
    tune. When the caller dies, the server goes on building, and the right is taken until it has.
    """
    if not vectors.lock(session):
        return None
    step = next(iter(vectors.due(session, rules)), None)
    done = None if step is None else _perform(engine, session, step)
    vectors.unlock(session)
    return done


def _perform(engine: Engine, session: Connection, step: Due) -> Tuned:
    started = time.monotonic()
    if step.step == "drop":
        vectors.drop(session, step.repository_id, step.model_id)
    elif step.step == "build":
        vectors.build(session, step)
    else:
        with engine.begin() as connection:
            lexicon.refresh(connection, step.repository_id)
            vectors.note_tuned(connection, step.repository_id, step.changes)
    return Tuned(step.step, step.repository_id, step.chunks, time.monotonic() - started)


def cancel(session: Connection) -> None:
    """End the statement that another thread runs on this connection: a build that is cancelled is begun again later."""
    beneath = cast("DriverConnection", session.connection.dbapi_connection)
    beneath.cancel_safe(timeout=CANCEL_SECONDS)


def forget(engine: Engine, repository_id: int) -> None:
    """Drop the vector indexes of a repository that was removed; what cannot be had at once is left to the workers."""
    with suppress(OperationalError), engine.connect().execution_options(isolation_level=AUTOCOMMIT) as connection:
        for model_id in vectors.models_of(connection, repository_id):
            vectors.drop(connection, repository_id, model_id, patience=PATIENCE)
