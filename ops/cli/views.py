"""How a job that is followed looks: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ops.cli.output import Screen, clean
from pipeline.describing import duration
from pipeline.states import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType
    from rich.progress import TaskID

    from pipeline.records import Job, StageProgress
    from pipeline.states import JobStatus

LINE_SECONDS: Final = 2.0
MILESTONE: Final = 25
"""Percent between two lines that are printed in any case."""


class Lines:
    """A line at every change of state and every milestone; other news at most every two seconds."""

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
        """Print where the job is, when that is news."""
        landmark = (job.status, int(job.progress_percentage // MILESTONE))
        news = job.progress_message != self._last and self._clock() >= self._due
        if landmark == self._landmark and not news:
            return
        self._landmark, self._last, self._due = landmark, job.progress_message, self._clock() + LINE_SECONDS
        self._write(f"{job.progress_percentage:3.0f} %  {job.progress_message}{_left(job)}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._write(text)


class Bars(Progress):
    """A bar a stage, one for the whole job, and the job's own words beneath."""

    def __init__(self, screen: Screen) -> None:
        self._words = Text()
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
        self.update(whole, completed=percentage, total=100, share=f"{percentage:.0f} %", rate=_left(job))
        self._words = Text(clean(job.progress_message))

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
