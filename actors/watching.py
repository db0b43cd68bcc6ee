"""The watch over a worker process: how long a message may take, and the deadlines that its parent sees pass.

An exception ends Python code that takes too long. Native code never sees one, and a process that was stopped neither,
so a process writes its deadlines where its parent can read them, and the parent kills it when one has passed.
"""

from __future__ import annotations

import mmap
from itertools import count
from threading import local
from time import monotonic
from typing import Final, NamedTuple

from pipeline.states import Stage

SCAN_SECONDS: Final = 3_600.0
EMBED_SECONDS: Final = 1_800.0
WRITE_FACTOR: Final = 4.0
"""A batch may take so many times longer to be written than to be chunked: writing waits for disks and locks."""
GRACE_SECONDS: Final = 5.0
"""How long a thread has to heed its time limit before its whole process is killed."""
PULSE_SECONDS: Final = 10.0
"""How long a process may show no sign of life while none of its threads works, when nothing may hold it up."""
CELL: Final = 8
ROW: Final = 3
"""Cells of a thread: its deadline (0 when it rests), since when it works, and the number of the stage.

The first row is the process's: its deadline, when it gave the last sign of life, and whether it is enrolled.
"""


def time_limits(batch_seconds: float) -> dict[Stage, float]:
    """Return for each stage the seconds from the start of a message, or its last sign of progress, to its end (R17)."""
    return {
        Stage.SCAN: SCAN_SECONDS,
        Stage.CHUNK: batch_seconds,
        Stage.EMBED: EMBED_SECONDS,
        Stage.WRITE: batch_seconds * WRITE_FACTOR,
    }


class Overdue(NamedTuple):
    """A deadline that passed: the stage whose it was, None for the process itself, and the seconds since its start."""

    stage: Stage | None
    seconds: float


class Deadlines:
    """Moments of the monotonic clock by which a worker process promises a sign of life, in memory of two processes.

    Build it before the fork, for so many threads that work. The parent resets it for each child and looks; the child
    writes. A deadline is one aligned cell and written last, so that the parent never reads half of one.
    """

    def __init__(self, threads: int = 1) -> None:
        self._cells = memoryview(mmap.mmap(-1, CELL * ROW * (threads + 1))).cast("d")
        self._rows = range(0, len(self._cells), ROW)
        self._numbers = count(1)
        self._thread = local()

    # --- the parent ---

    def reset(self, seconds: float) -> None:
        """Forget the last child; the next one has so many seconds to show up."""
        self.forget()
        self._cells[2] = 0.0
        self._write(0, None, seconds)

    def forget(self) -> None:
        """Expect nothing of this child any more."""
        for row in self._rows:
            self._cells[row] = 0.0

    def overdue(self) -> Overdue | None:
        """Return the deadline that passed, a thread's before the process's; None while all is well."""
        now = monotonic()
        working = [row for row in self._rows[1:] if self._cells[row]]
        for row in working:
            if 0.0 < self._cells[row] < now:
                return Overdue(list(Stage)[int(self._cells[row + 2])], now - self._cells[row + 1])
        deadline, seen_at, enrolled = self._cells[:ROW]
        if enrolled and not working:
            deadline = min(deadline, seen_at + PULSE_SECONDS)
        return Overdue(None, now - seen_at) if 0.0 < deadline < now else None

    @property
    def enrolled(self) -> bool:
        """Whether this child has entered the list of workers, and so stands for itself when it dies."""
        return bool(self._cells[2])

    # --- the child ---

    def live(self, seconds: float) -> None:
        """Promise the process's next sign of life within so many seconds."""
        self._write(0, None, seconds)

    def rest(self) -> None:
        """Promise nothing more for the process; its threads still do."""
        self._cells[0] = 0.0

    def enrol(self) -> None:
        """Tell the parent that the process is in the list of workers."""
        self._cells[2] = 1.0

    def begin(self, stage: Stage, seconds: float) -> None:
        """Promise that the calling thread ends its message, or begins anew, within so many seconds."""
        self.enrol()
        self._write(self._row(), stage, seconds)

    def end(self) -> None:
        """Keep the promise of the calling thread; the process may have been held up by it until now."""
        self._cells[1] = monotonic()
        self._cells[self._row()] = 0.0

    def _row(self) -> int:
        if not hasattr(self._thread, "row"):
            self._thread.row = ROW * next(self._numbers)
        return int(self._thread.row)

    def _write(self, row: int, stage: Stage | None, seconds: float) -> None:
        now = monotonic()
        self._cells[row] = 0.0
        self._cells[row + 1] = now
        if stage is not None:
            self._cells[row + 2] = float(list(Stage).index(stage))
        self._cells[row] = now + seconds
