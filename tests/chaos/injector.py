"""Brings the planned faults about, one after the other; those that last overlap, unless they break the same thing."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil
import psycopg

from tests.chaos.waiting import heed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chaos.kinds import Kind
    from tests.chaos.plan import Planned
    from tests.chaos.recovery import Watch
    from tests.chaos.report import Report
    from tests.chaos.world import World

TICK: Final = 0.05
MISSES: Final = (LookupError, OSError, psutil.Error, psycopg.Error)
"""There was nothing to break: the server is away, the process has ended, nobody holds a message."""


@dataclass
class Injector:
    """Breaks things for the length of a round, and leaves nothing broken."""

    world: World
    watch: Watch
    report: Report
    out: frozenset[str]
    """The kinds that cannot be brought about here."""
    _lasting: dict[str, tuple[float, ExitStack]] = field(default_factory=dict)
    """By what is broken: when it is mended, and how."""

    def run(self, planned: Iterator[Planned], seconds: float) -> None:
        """Bring about faults for so long."""
        until = time.monotonic() + seconds
        try:
            for number, fault in enumerate(planned):
                self._rest(min(until, time.monotonic() + fault.after))
                while fault.kind.on in self._lasting and time.monotonic() < until:
                    self._rest(time.monotonic() + TICK)
                if time.monotonic() >= until:
                    break
                if fault.kind.name not in self.out:
                    self._strike(fault, number)
        finally:
            self._mend(self._lasting.copy())

    def _rest(self, until: float) -> None:
        while (now := time.monotonic()) < until:
            heed()
            self._mend({on: (due, stack) for on, (due, stack) in self._lasting.items() if due <= now})
            time.sleep(max(0.0, min(TICK, until - now)))

    def _strike(self, fault: Planned, number: int) -> None:
        kind = fault.kind
        stack = ExitStack()
        try:
            stack.enter_context(self.watch.broken(kind.name))
            stack.enter_context(self.world.embedded.disturbed(throughout=kind.lossy, aftermath=kind.aftermath))
            facts = stack.enter_context(kind.strike(self.world, fault.random()))
        except MISSES as error:
            stack.close()
            self.report.spared(kind.name, number, error)
            return
        except BaseException:
            stack.close()
            raise
        self.report.struck(kind.name, number, facts | {"seconds": round(fault.seconds, 1)})
        self._lasting[kind.on] = (time.monotonic() + fault.seconds, stack)

    def _mend(self, due: dict[str, tuple[float, ExitStack]]) -> None:
        with ExitStack() as all_of_them:
            for on, (_, stack) in due.items():
                del self._lasting[on]
                all_of_them.push(stack)


def left_out(world: World, kinds: Iterable[Kind]) -> dict[str, str]:
    """Return the kinds that cannot be brought about here, and why."""
    names = {kind.name for kind in kinds}
    reasons = {} if world.server.small else {"full-disk": "only root may mount a small disk"}
    return {name: why for name, why in reasons.items() if name in names}
