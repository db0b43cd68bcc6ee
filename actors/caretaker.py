"""The caretaker: one elected worker mends what fell between two transactions; it is never on the normal path."""

from __future__ import annotations

import math
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from actors import metering
from pipeline import jobs
from pipeline.stages import mend
from pipeline.store import events

if TYPE_CHECKING:
    from actors.broker import LeaseBroker
    from pipeline.stages.workbench import Workbench

ROUND_SECONDS: Final = 1.5
TIDY_SECONDS: Final = 30.0
RETENTION_SECONDS: Final = 86_400.0
MOST_EVENTS: Final = 100
"""How many events a round tells."""

log = structlog.get_logger("penstock")


class Caretaker(Thread):
    """Admits pending jobs, sends again what has no message, tells events and tidies up, while this process leads."""

    def __init__(self, broker: LeaseBroker, bench: Workbench, retention_days: float) -> None:
        super().__init__(daemon=True, name="caretaker")
        self._broker = broker
        self._bench = bench
        self._retention_days = retention_days
        self._ended = Event()
        self._tidied_at = self._cleaned_at = -math.inf

    def run(self) -> None:
        """Make a round every 1.5 s until ended; a round that fails is made again."""
        while not self._ended.wait(ROUND_SECONDS):
            if self._broker.leader:
                try:
                    self._round()
                except Exception as error:  # noqa: BLE001 - while it leads, nobody else mends
                    log.warning("caretaker.failed", reason=mend.clean(error))

    def end(self) -> None:
        """Make no further round."""
        self._ended.set()

    def _round(self) -> None:
        self._tell()
        jobs.sweep(self._bench, self._broker)
        if monotonic() - self._tidied_at > TIDY_SECONDS:
            with self._bench.engine.begin() as connection:
                jobs.tidy(connection)
            self._tidied_at = monotonic()
        if monotonic() - self._cleaned_at > RETENTION_SECONDS:
            with self._bench.engine.begin() as connection:
                deleted = jobs.expire(connection, self._retention_days)
            self._cleaned_at = monotonic()
            log.info("retention.applied", jobs_deleted=deleted)

    def _tell(self) -> None:
        """Log what happened to jobs, whoever did it, at least once (R64)."""
        with self._bench.engine.begin() as connection:
            told = events.take_untold(connection, MOST_EVENTS)
            for event in told:
                about = {"job_id": str(event.job_id), "repo_path": event.repo_path, "at": event.at.isoformat()}
                log.info(f"job.{event.type}", **{**event.detail, **about})
        for event in told:
            self._broker.meter.add(metering.JOB_EVENTS, label=event.type)
