"""Watches the jobs from outside: how soon they go on after a fault, whether they stall, whether progress falls."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg

from pipeline.states import JobStatus, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chaos.world import World

TICK: Final = 0.2
AWAY: Final = "the server was away"
STALL_SECONDS: Final = 60.0
PROMISED_SECONDS: Final = 10.0
"""What R13 and R33 allow."""
PLACES: Final = 3
"""MAX_CONCURRENT_INDEXING_JOBS."""
JOBS: Final = """
SELECT j.id::text, j.status, j.progress_percentage,
    md5(concat_ws(',', j.status, files_scanned, files_due, files_chunked, files_written, chunks_created,
        chunks_embedded, chunks_reused, chunks_written, batches_total, batches_done, scan_completed)),
    array(SELECT DISTINCT b.stage FROM penstock.batches b
          WHERE b.job_id = j.id AND b.stage IN ('chunk', 'embed', 'write'))
        || CASE WHEN scan_completed THEN '{}' ELSE '{scan}'::text[] END
FROM penstock.indexing_jobs j WHERE j.status IN ('pending', 'running', 'blocked')
"""


@dataclass
class Clock:
    """One job's time without progress: since when it could have gone on, and the fault that held it up last."""

    mark: str
    since: float
    fault: str = ""
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a job took to go on after a fault, once everything that it needs was there."""

    fault: str
    seconds: float
    status: str
    due: tuple[str, ...]


@dataclass
class Watch:
    """Looks every 0.2 s, and keeps a clock for each job.

    It runs while the server answers, nothing is broken, and a worker of a stage that is due lives; progress sets it
    back, and so does every fault.
    """

    world: World
    stalled: Callable[[str], None]
    recoveries: list[Recovery] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    _clocks: dict[str, Clock] = field(default_factory=dict)
    _highest: dict[str, float] = field(default_factory=dict)
    _broken: set[str] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch in a thread of its own."""
        thread = threading.Thread(target=self._run, name="watch")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextmanager
    def broken(self, fault: str) -> Iterator[None]:
        """Stop all clocks while a fault lasts, and set them back at its end."""
        with self._guard:
            self._broken.add(fault)
        try:
            yield
        finally:
            with self._guard:
                self._broken.discard(fault)
                self._set_back(fault)

    def _set_back(self, fault: str) -> None:
        for clock in self._clocks.values():
            clock.since, clock.fault = time.monotonic(), fault or clock.fault or AWAY

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with self.world.server.session() as session:
                    session.execute("SET statement_timeout = '5s'")
                    while not self._ended.wait(TICK):
                        self._look(session)
            except psycopg.Error:
                with self._guard:
                    self._set_back("")
                self._ended.wait(TICK)

    def _look(self, session: psycopg.Connection) -> None:
        rows = session.execute(JOBS).fetchall()
        awake = {stage for crew in self.world.crews if crew.awake() for stage in crew.stages}
        working = sum(status != JobStatus.PENDING for _, status, *_ in rows)
        with self._guard:
            for job, status, percentage, mark, due in rows:
                self._check_progress(job, percentage)
                needs = set(due) if status != JobStatus.PENDING else {Stage.SCAN} if working < PLACES else set()
                able = not self._broken and not needs.isdisjoint(awake)
                self._time(job, mark, able=able, status=status, due=due)
            for gone in self._clocks.keys() - {job for job, *_ in rows}:
                self._note(self._clocks.pop(gone), "ended", ())

    def _check_progress(self, job: str, percentage: float) -> None:
        if percentage < self._highest.get(job, 0.0):
            self.violations.append(f"progress was seen to fall: job {job} from {self._highest[job]} to {percentage}")
        self._highest[job] = percentage

    def _time(self, job: str, mark: str, *, able: bool, status: str, due: list[str]) -> None:
        now = time.monotonic()
        clock = self._clocks.setdefault(job, Clock(mark, now))
        if mark != clock.mark:
            self._note(clock, status, tuple(due))
            clock.mark, clock.since, clock.fault, clock.stalled = mark, now, "", False
        elif not able:
            clock.since = now
        elif now - clock.since > STALL_SECONDS and not clock.stalled:
            clock.stalled = True
            self.stalled(f"job {job} ({status}, due {', '.join(due)}) made no progress for {STALL_SECONDS:g} s")

    def _note(self, clock: Clock, status: str, due: tuple[str, ...]) -> None:
        if clock.fault and not self._broken:
            self.recoveries.append(Recovery(clock.fault, time.monotonic() - clock.since, status, due))
