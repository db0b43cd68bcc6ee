"""How a job that is followed looks: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final, Self

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ops.cli.output import Screen, clean
from pipeline.describing import duration, percent
from pipeline.states import JobStatus, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rich.console import RenderableType
    from rich.progress import TaskID

    from pipeline.records import Job, StageProgress

LINE_SECONDS: Final = 2.0
MILESTONE: Final = 25
"""Percent between two lines that are printed in any case."""
RESTING: Final = frozenset({JobStatus.PAUSED, JobStatus.BLOCKED})
TASKBAR_STATES: Final = {JobStatus.FAILED: 2, JobStatus.PAUSED: 4, JobStatus.BLOCKED: 4}
"""How a taskbar colours a job; 1 is any other."""
NO_TASKBAR: Final = frozenset({"", "dumb", "linux"})
"""Terminals that may print what they do not understand."""
FIRST_ITERM: Final = (3, 6, 6)
"""Older ones take OSC 9 for a notification."""


class Lines:
    """A line for whatever happens and at every milestone; other news at most every two seconds."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._landmark: tuple[JobStatus, int] | None = None
        self._last = ""
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, job: Job) -> None:
        """Print where the job is, when that is news that no event tells."""
        news = job.progress_message != self._last and self._clock() >= self._due
        told = self._landmark is not None and job.status in RESTING
        landmark = (job.status, int(job.progress_percentage // MILESTONE))
        if told or (landmark == self._landmark and not news):
            return
        self._landmark, self._last, self._due = landmark, job.progress_message, self._clock() + LINE_SECONDS
        self._write(f"{job.progress_percentage:3.0f} %  {job.progress_message}{_left(job)}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._write(text)


class Taskbar:
    """The progress that a terminal shows outside of its window, on a tab or in the taskbar (OSC 9;4)."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._shown = ""

    def show(self, job: Job) -> None:
        """Show how far the job is, and whether it rests."""
        self._write(f"{TASKBAR_STATES.get(job.status, 1)};{job.progress_percentage:.0f}")

    def clear(self) -> None:
        """Show nothing any more."""
        if self._shown:
            self._write("0;0")

    def _write(self, state: str) -> None:
        if state != self._shown and understands_taskbar(os.environ):
            self._shown = state  # before it is: a Ctrl-C in between must still clear it
            self._screen.file.write(f"\x1b]9;4;{state}\x1b\\")
            self._screen.file.flush()


def understands_taskbar(environment: Mapping[str, str]) -> bool:
    """Return whether a terminal takes progress as it is meant, or ignores it."""
    version = re.findall(r"\d+", environment.get("TERM_PROGRAM_VERSION", ""))
    old = environment.get("TERM_PROGRAM") == "iTerm.app" and tuple(map(int, version)) < FIRST_ITERM
    return not old and environment.get("TERM", "") not in NO_TASKBAR


class Bars(Progress):
    """A bar a stage, one for the whole job, and the job's own words beneath."""

    def __init__(self, screen: Screen) -> None:
        self._words = Text()
        self._taskbar = Taskbar(screen)
        columns = ("{task.description:>8}", "{task.fields[share]:>5}", "{task.fields[count]}", "{task.fields[rate]}")
        head, *tail = map(TextColumn, columns)
        super().__init__(head, BarColumn(), *tail, console=screen, transient=True)
        self._tasks_of: dict[str, TaskID] = {}
        for name in (*Stage, "all"):
            self._tasks_of[name] = self.add_task(name, total=None, share="", count="", rate="")

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bars and the words."""
        yield self.make_tasks_table(self.tasks)
        yield self._words

    def show(self, job: Job) -> None:
        """Move the bars to where the job is."""
        for stage in job.stages:
            self._move(stage)
        percentage = job.progress_percentage
        whole = self._tasks_of["all"]
        self.update(whole, completed=percentage, total=100, share=percent(percentage), rate=_left(job))
        self._words = Text(clean(job.progress_message))
        self._taskbar.show(job)

    def stop(self) -> None:
        """Take everything away again, also at Ctrl-C."""
        super().stop()
        self._taskbar.clear()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(clean(text))

    def _move(self, stage: StageProgress) -> None:
        task = self._tasks_of[stage.stage]
        share = f"{100 * stage.done / stage.total:.0f} %" if stage.total else ""
        self.update(task, completed=stage.done, total=stage.total, share=share, count=_count(stage))
        speed = self._tasks[task].speed
        self.update(task, rate=f"{speed:,.0f}/s" if speed else "")


def view_of(screen: Screen) -> Bars | Lines:
    """Return what fits the screen."""
    return Bars(screen) if screen.is_terminal else Lines(lambda line: screen.print(clean(line)))


def _count(stage: StageProgress) -> str:
    total = f"/{stage.total:,}" if stage.total is not None else ""
    return f"{stage.done:,}{total} {stage.unit}"


def _left(job: Job) -> str:
    seconds = job.estimated_remaining_seconds
    return "" if seconds is None else f"  about {duration(seconds)} left"
