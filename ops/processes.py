"""A group of forked worker processes: what dies or hangs is replaced, what should end is asked first."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from actors.watching import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TICK: Final = 0.2
GRACE: Final = 30.0
"""Seconds that a child has for its batch after it was asked to end."""
LAST_SECONDS: Final = 10.0
"""How long the group waits for what it has killed: the kernel may be writing for it still."""
START_SECONDS: Final = 60.0
"""How long a new child may take to give its first sign of life."""
ABSENCE: Final = 2.0
"""A turn that took longer was no turn: the group itself had been stopped, or its machine."""
MERCY: Final = 60.0
"""Seconds at most for which deadlines do not count that passed during an absence."""
RESTART: Final = (0.0, 0.2, 1.0, 5.0)
"""Seconds before a child is started again, by how often it died young."""
YOUNG: Final = 10.0

log = structlog.get_logger("penstock")


@dataclass(slots=True)
class Child:
    """One place in the group: what runs there, the process that runs it now, and what that has promised.

    `body` gets the place, with the pid that its process `replaces`: the last one there that others may count as alive.
    """

    name: str
    body: Callable[[Child], int]
    threads: int = 1
    pid: int = 0
    replaces: int | None = None
    started_at: float = 0.0
    early_deaths: int = 0
    due_at: float = 0.0
    deadlines: Deadlines = field(init=False)

    def __post_init__(self) -> None:
        self.deadlines = Deadlines(self.threads)


@dataclass(slots=True)
class Group:
    """Keeps its children alive until it is told to stop; fork it from a process without threads."""

    children: Sequence[Child]
    ending: bool = field(default=False)
    looked_at: float = field(default_factory=time.monotonic)
    merciful_until: float = 0.0

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
        """Note what died, kill what hangs, and start what is due."""
        self._reap()
        self._end_what_hangs()
        for child in self.children:
            if not child.pid and time.monotonic() >= child.due_at and not self.ending:
                self._start(child)

    def _start(self, child: Child) -> None:
        flush()
        child.deadlines.reset(START_SECONDS)
        child.started_at = time.monotonic()
        try:
            child.pid = os.fork()
        except OSError as error:
            delay = self._delay(child)
            log.warning("worker.refused", place=child.name, reason=str(error), restart_in=delay)
            return
        if child.pid == 0:
            become(lambda: child.body(child))
        log.info("worker.started", place=child.name, pid=child.pid, replaces=child.replaces)

    def _reap(self) -> None:
        for child in self.children:
            if child.pid and (status := ended(child.pid)) is not None:
                self._note_death(child, status)

    def _note_death(self, child: Child, status: int) -> None:
        delay = self._delay(child)
        if not self.ending:
            log.warning("worker.died", place=child.name, pid=child.pid, status=status, restart_in=delay)
        if child.deadlines.enrolled:  # else its predecessor's messages may wait to be given back still
            child.replaces = child.pid
        child.pid = 0

    def _delay(self, child: Child) -> float:
        """Count an early death and set when the next process is due; returns the seconds until then."""
        now = time.monotonic()
        child.early_deaths = child.early_deaths + 1 if now - child.started_at < YOUNG else 0
        delay = RESTART[min(child.early_deaths, len(RESTART) - 1)]
        child.due_at = now + delay
        return delay

    def _end_what_hangs(self) -> None:
        """Kill the children that broke a promise; whoever replaces them has their messages handed out again."""
        if self._was_absent():
            return
        for child in self.children:
            if child.pid and (late := child.deadlines.overdue()):
                seconds = round(late.seconds, 1)
                log.error("worker.hung", place=child.name, pid=child.pid, stage=late.stage, seconds=seconds)
                os.kill(child.pid, signal.SIGKILL)
                child.deadlines.forget()

    def _was_absent(self) -> bool:
        """Return whether the children may have been stopped with the group, as by Ctrl-Z: then they get time."""
        now = time.monotonic()
        absence, self.looked_at = now - self.looked_at, now
        if absence > ABSENCE:
            self.merciful_until = now + min(absence, MERCY)
        return now < self.merciful_until

    def _end(self) -> int:
        self.ending = True
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that was stopped hears nothing
        self._wait(GRACE)
        self._signal(signal.SIGKILL)
        self._wait(LAST_SECONDS)
        return 0

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(child.pid for child in self.children) and time.monotonic() < deadline:
            self._reap()
            time.sleep(TICK / 4)

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            if child.pid:
                os.kill(child.pid, number)


def ended(pid: int) -> int | None:
    """Return the exit code of a process of ours that ended (negative: the signal), None while it runs."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if found else None


def become(body: Callable[[], int]) -> NoReturn:
    """Run a body in a process that was just forked, and leave without the parent's clean-up, whatever happens."""
    code = 1
    try:
        code = body()
    except Exception:
        log.exception("worker.crashed")
    finally:
        flush()
        os._exit(code)


def flush() -> None:
    """Write out what was logged, which a forked process would say again, as far as a full disk lets us."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
