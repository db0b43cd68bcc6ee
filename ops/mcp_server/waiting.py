"""Waits for jobs on behalf of calls: all of them share one thread and one connection, held only while one waits."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import anyio.from_thread
import anyio.to_thread

from pipeline.errors import DatabaseError
from pipeline.states import TERMINAL, JobStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from uuid import UUID

    from anyio.abc import TaskGroup
    from sqlalchemy import Engine

    from pipeline.records import Job

SLICE_SECONDS: Final = 0.5
"""How long the shared thread listens before it looks whether anybody waits still."""
LOOK_SECONDS: Final = 2.0
"""How long a call waits for an announcement before it looks anyway."""
STALL_SECONDS: Final = 5.0
"""How long a job must stand still before that is news: workers that are starting are none."""
AT_REST: Final = TERMINAL | {JobStatus.PAUSED}
"""The states that a job does not leave by itself: nobody should wait for it there."""
UNDER_WAY: Final = frozenset({JobStatus.PENDING, JobStatus.RUNNING})


class News:
    """What wakes one call."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def tell(self) -> None:
        """Wake the call."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return when there are news, or after `seconds`."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()


class Ear:
    """Hears of changed jobs for every call of this process; its listener runs in `tasks`."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._waiting: dict[str, set[News]] = {}
        self._listening = False

    @contextmanager
    def tuned(self, engine: Engine, job_id: UUID) -> Iterator[News]:
        """Yield what is told when the job changes."""
        news, name = News(), str(job_id)
        self._waiting.setdefault(name, set()).add(news)
        if not self._listening:
            self._listening = True
            self._tasks.start_soon(self._listen, engine)
        try:
            yield news
        finally:
            self._waiting[name].discard(news)
            if not self._waiting[name]:
                del self._waiting[name]

    async def _listen(self, engine: Engine) -> None:
        while self._waiting:
            await anyio.to_thread.run_sync(self._hear, engine)
        self._listening = False

    def _hear(self, engine: Engine) -> None:
        """Listen, in a thread, for as long as somebody waits."""
        from ops.following import Announcements  # noqa: PLC0415 - it needs the database's driver, as the desk does

        with Announcements(engine) as announcements:
            while self._waiting:
                if names := announcements.hear(SLICE_SECONDS):
                    anyio.from_thread.run_sync(self._tell, names)

    def _tell(self, names: set[str]) -> None:
        for name in names:
            for news in self._waiting.get(name, ()):
                news.tell()


class Vigil:
    """Knows when what happened to a job is worth an agent's attention: an end, a pause, an outage, a standstill.

    Being admitted is not, nor is progress. A job that stood still when the vigil began may go on doing so.
    """

    def __init__(self, first: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._clock = clock
        self._still_since: float | None = None

    def over(self, job: Job) -> bool:
        """Return whether the waiting should end with this record."""
        if job.status in AT_REST or _kind(job.status) != _kind(self._first.status):
            return True
        if self._first.stall_reason or not job.stall_reason:
            self._still_since = None
            return False
        now = self._clock()
        self._still_since = self._still_since or now
        return now - self._still_since >= STALL_SECONDS


def _kind(status: JobStatus) -> JobStatus:
    return JobStatus.RUNNING if status in UNDER_WAY else status


async def watch(
    look: Callable[[], Awaitable[Job]], news: News, deadline: float, show: Callable[[Job], Awaitable[None]]
) -> Job:
    """Return a job's record when something happened to it, or at `deadline` (monotonic); `show` gets each on the way.

    A database that is away meanwhile is waited for. Raises DatabaseError when it is still away at the deadline.
    """
    job = await look()
    vigil, fault = Vigil(job), None
    while not vigil.over(job) and (left := deadline - time.monotonic()) > 0:
        await show(job)
        await news.wait(min(left, LOOK_SECONDS))
        try:
            job, fault = await look(), None
        except DatabaseError as error:
            fault = error
    if fault is not None:
        raise fault
    return job
