"""A group of forked worker processes: what dies is started again, what should end is asked first."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TICK: Final = 0.2
GRACE: Final = 30.0
"""Seconds that a child has for its batch after it was asked to end."""
RESTART: Final = (0.0, 0.2, 1.0, 5.0)
"""Seconds before a child is started again, by how often it died young."""
YOUNG: Final = 10.0

log = structlog.get_logger("penstock")


@dataclass(slots=True)
class Child:
    """One place in the group: what runs there, and the process that runs it now."""

    name: str
    body: Callable[[], int]
    pid: int = 0
    started_at: float = 0.0
    early_deaths: int = 0
    due_at: float = 0.0


@dataclass(slots=True)
class Group:
    """Keeps its children alive until it is told to stop; fork it from a process without threads."""

    children: Sequence[Child]
    ending: bool = field(default=False)

    def run(self, until: Callable[[], bool] = lambda: False) -> int:
        """Run the children until SIGTERM, SIGINT or `until()`; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self.ending and not until():
            self.tend()
            time.sleep(TICK)
        return self._end()

    def _stop(self, _signal: int, _frame: object) -> None:
        self.ending = True

    def tend(self) -> None:
        """Start what is due and note what died."""
        now = time.monotonic()
        self._reap()
        for child in self.children:
            if not child.pid and now >= child.due_at and not self.ending:
                self._start(child)

    def _start(self, child: Child) -> None:
        sys.stdout.flush()
        child.pid = os.fork()
        if child.pid == 0:
            _become(child.body)
        child.started_at = time.monotonic()
        log.info("worker.started", worker=child.name, pid=child.pid)

    def _reap(self) -> None:
        for child in self.children:
            if child.pid and (status := _ended(child.pid)) is not None:
                self._note_death(child, status)

    def _note_death(self, child: Child, status: int) -> None:
        now = time.monotonic()
        young = now - child.started_at < YOUNG
        child.early_deaths = child.early_deaths + 1 if young else 0
        delay = RESTART[min(child.early_deaths, len(RESTART) - 1)]
        if not self.ending:
            log.warning("worker.died", worker=child.name, pid=child.pid, status=status, restart_in=delay)
        child.pid, child.due_at = 0, now + delay

    def _end(self) -> int:
        self.ending = True
        deadline = time.monotonic() + GRACE
        self._signal(signal.SIGTERM)
        while any(child.pid for child in self.children) and time.monotonic() < deadline:
            self._reap()
            time.sleep(TICK / 4)
        self._signal(signal.SIGKILL)
        return 0

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            if child.pid:
                os.kill(child.pid, number)


def _ended(pid: int) -> int | None:
    """Return the exit code of a process of ours that ended (negative: the signal), None while it runs."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if found else None


def _become(body: Callable[[], int]) -> None:
    """Run a child's body in the forked process, and leave without the parent's clean-up."""
    code = 1
    try:
        code = body()
    except Exception:
        log.exception("worker.crashed")
    finally:
        sys.stdout.flush()
        os._exit(code)
