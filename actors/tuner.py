"""The tuner: one elected worker does what makes searches quick once a job is done; no job ever waits for it."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

import psycopg
import structlog

from pipeline import tuning
from pipeline.stages import mend
from pipeline.store.vectors import TuningRules

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from actors.broker import LeaseBroker
    from pipeline.tuning import Tuned

ROUND_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 60.0
"""How long after a failure nothing is tried again."""
END_SECONDS: Final = 5.0

log = structlog.get_logger("penstock")


class Tuner(Thread):
    """Builds and drops vector indexes and refreshes statistics, while this process leads.

    The server does the work, so that a build of minutes holds up neither the batches nor the caretaker of the process.
    """

    def __init__(self, broker: LeaseBroker, engine: Engine, rules: TuningRules | None = None) -> None:
        super().__init__(daemon=True, name="tuner")
        self._broker = broker
        self._engine = engine
        self._rules = rules or TuningRules()
        self._session: Connection | None = None
        self._ended = Event()

    def run(self) -> None:
        """Look every 2 s until ended; after a failure rest for a minute."""
        pause = ROUND_SECONDS
        while not self._ended.wait(pause):
            pause = ROUND_SECONDS
            try:
                if self._broker.leader and tuning.is_due(self._engine, self._rules):
                    self._round()
            except Exception as error:  # noqa: BLE001 - while it leads, nobody else tunes
                if not self._ended.is_set():
                    log.warning("tuning.failed", reason=mend.clean(error))
                pause = PAUSE_SECONDS

    def end(self) -> None:
        """Make no further round; a build under way is cancelled, and begun again by whoever leads next."""
        self._ended.set()
        session = self._session
        if session is not None:
            with suppress(psycopg.Error):
                tuning.cancel(session)
        self.join(END_SECONDS)

    def _round(self) -> None:
        # On a connection of its own, for it keeps the settings and the lock of a build.
        with self._engine.connect().execution_options(isolation_level=tuning.AUTOCOMMIT) as session:
            session.detach()
            self._session = session
            try:
                while not self._ended.is_set() and (tuned := tuning.tune(self._engine, session, self._rules)):
                    _say(tuned)
            finally:
                self._session = None


def _say(tuned: Tuned) -> None:
    log.info(
        "repository.tuned",
        step=tuned.step,
        repository_id=tuned.repository_id,
        chunks=tuned.chunks,
        seconds=tuned.seconds,
    )
