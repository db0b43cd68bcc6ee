"""Watches a job to its end: woken by what the database announces, patient when it is away."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol, Self

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from pipeline import jobs
from pipeline.errors import DatabaseError
from pipeline.states import TERMINAL
from pipeline.store import messages
from pipeline.store.jobs import listen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sqlalchemy import Connection, Engine

    from pipeline.records import Job, JobEvent

FALLBACK_SECONDS: Final = 2.0
"""How long to wait for an announcement before looking anyway."""
SAID: Final = {
    "started": "started",
    "blocked": "blocked: {blocked_reason}; it goes on by itself when that is mended",
    "unblocked": "goes on",
    "paused": "paused; `penstock resume {job_id}` goes on",
    "resumed": "resumed",
    "scan_interrupted": "the scan was interrupted: {reason}; it is tried again",
}
"""The events that a follower is told as they happen; how it ends is said at the end."""
BACK_OFF: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


@contextmanager
def unmasked() -> Iterator[None]:
    """Raise the KeyboardInterrupt again that hit a statement and was hidden by an error of the clean-up."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error, DatabaseError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from None
        raise


class View(Protocol):
    """What shows a job to somebody."""

    def show(self, job: Job) -> None:
        """Show where the job is."""

    def say(self, text: str) -> None:
        """Tell what happened."""


class Announcements:
    """A connection of its own that hears of changed jobs; while it has none, waiting is all it does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def wait(self, job_id: UUID, seconds: float) -> None:
        """Return when the job has changed, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if str(job_id) in self.hear(left):
                return

    def hear(self, seconds: float) -> set[str]:
        """Return the ids of jobs that have changed, as soon as there are any; none after `seconds`."""
        deadline = time.monotonic() + seconds
        if self._connection is None:
            self._listen()
        try:
            if self._connection:
                return messages.heard(self._connection, seconds)
        except (SQLAlchemyError, psycopg.Error):
            self._close()
        time.sleep(max(0.0, deadline - time.monotonic()))
        return set()

    def _listen(self) -> None:
        with suppress(SQLAlchemyError, psycopg.Error), unmasked():  # without it, waiting is a look every so often
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.detach()  # a listening session must not go back to the pool
            listen(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError, psycopg.Error):
                driver = self._connection.connection.driver_connection
                self._connection.close()
                if driver is not None:
                    driver.close()  # a broken one that was detached is closed by nobody else
        self._connection = None


def follow(engine: Engine, job_id: UUID, view: View) -> Job:
    """Show a job until it has ended, and return its last record; a database that is away is waited for.

    Raises JobNotFound.
    """
    with Announcements(engine) as announcements:
        seen: int | None = None
        while True:
            job, events = _look(engine, job_id, seen or 0, view)
            for event in () if seen is None else events:
                _tell(event, job, view)
            seen = max((event.event_id for event in events), default=seen)
            view.show(job)
            if job.status in TERMINAL:
                return job
            announcements.wait(job_id, FALLBACK_SECONDS)


def _tell(event: JobEvent, job: Job, view: View) -> None:
    if event.type in SAID:
        words = SAID[event.type].format_map({"job_id": job.job_id, **event.detail})
        view.say(f"{event.at.astimezone():%H:%M:%S}  {words}")


def _look(engine: Engine, job_id: UUID, after: int, view: View) -> tuple[Job, tuple[JobEvent, ...]]:
    """Return the job and what happened after an event; a database that is away is waited for."""
    failures = 0
    while True:
        try:
            with unmasked():
                found = jobs.status(engine, job_id), jobs.happened(engine, job_id, after)
        except DatabaseError as error:
            pause = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
            failures += 1
            view.say(f"{error}; looking again in {pause:.0f} s")
            time.sleep(pause)
        else:
            if failures:
                view.say("the database is back")
            return found
