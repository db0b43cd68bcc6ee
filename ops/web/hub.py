"""The hub: one thread that looks at the database while somebody watches, and tells every watcher the newest of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog
from anyio import to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.routing import Route

from ops.following import FALLBACK_SECONDS, Announcements
from ops.web.answers import error_body
from ops.web.records import Snapshot
from pipeline import jobs
from pipeline.errors import PenstockError
from pipeline.states import ACTIVE, WORKING
from pipeline.store.jobs import JobFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy import Engine
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from ops.web.site import Site
    from pipeline.records import Job

LOOK_EVERY: Final = 0.25
"""Seconds between two looks at least: a burst of changes is one."""
BACK_OFF: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds between two looks at a database that does not answer."""
BEAT_SECONDS: Final = 10
"""How often a watcher hears that the line is alive, when there is no news."""
STUCK_SECONDS: Final = 60
"""A watcher that takes nothing for so long is given up."""
TURN_SECONDS: Final = 0.5
"""How often the thread asks whether anybody watches still."""
GRACE: Final = 1.0
"""Seconds that threads have to end with the site."""
NEWEST: Final = 20
EXPLAINED: Final = 12
"""How many active jobs are asked why they stand still, if they do."""

log = structlog.get_logger("penstock")


class Hub:
    """Knows who watches. The thread lives as long as anybody does, and has one connection that listens."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._watchers: set[asyncio.Event] = set()
        self._newest: ServerSentEvent | None = None
        self._thread: threading.Thread | None = None
        self._changing = threading.Lock()
        self._failures = 0
        self._ending = False

    def routes(self) -> Sequence[BaseRoute]:
        """Return the stream of snapshots."""
        return (Route("/api/events", self.events),)

    async def events(self, _request: Request) -> Response:
        """Stream what is seen as server-sent events, until the client leaves or the server ends (R26)."""
        return EventSourceResponse(
            self.stream(),
            ping=BEAT_SECONDS,
            ping_message_factory=lambda: ServerSentEvent("", event="beat"),
            send_timeout=STUCK_SECONDS,
        )

    async def stream(self) -> AsyncIterator[ServerSentEvent]:
        """Yield the newest event whenever there is a newer one; what a slow watcher missed is gone."""
        news = asyncio.Event()
        self._enter(news)
        try:
            while not self._ending:
                await news.wait()
                news.clear()
                if self._newest and not self._ending:
                    yield self._newest
        finally:
            with self._changing:
                self._watchers.discard(news)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """End the thread with the site."""
        yield
        self.end()
        if thread := self._thread:
            await to_thread.run_sync(thread.join, GRACE)

    def end(self) -> None:
        """End all streams; safe to call from a handler of signals."""
        self._ending = True
        for news in tuple(self._watchers):
            news.set()

    def _enter(self, news: asyncio.Event) -> None:
        with self._changing:
            self._watchers.add(news)
            if self._thread is None:
                self._newest = None
                loop = asyncio.get_running_loop()
                self._thread = threading.Thread(target=self._watch, args=(loop,), name="hub", daemon=True)
                self._thread.start()
            elif self._newest:
                news.set()

    def _left_alone(self) -> bool:
        """Return whether nobody watches any more; the thread ends then, and the next watcher starts another."""
        with self._changing:
            if self._watchers:
                return False
            self._thread = None
            return True

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look whenever a job is announced, and every so often for what is not: workers, reasons to stand still."""
        while not self._left_alone():
            try:
                engine = self._site.office().engine
                with Announcements(engine) as announcements:
                    self._look_on(engine, announcements, loop)
            except Exception as error:  # noqa: BLE001 - whatever it is, watchers hear of it, and the thread lives
                self._tell(loop, self._trouble(error))
                time.sleep(BACK_OFF[min(self._failures, len(BACK_OFF)) - 1])

    def _look_on(self, engine: Engine, announcements: Announcements, loop: asyncio.AbstractEventLoop) -> None:
        while self._watchers:
            due = time.monotonic() + LOOK_EVERY
            self._tell(loop, ServerSentEvent(snapshot(engine).model_dump_json(), event="snapshot"))
            self._failures = 0
            self._await_news(announcements)
            time.sleep(max(0.0, due - time.monotonic()))

    def _await_news(self, announcements: Announcements) -> None:
        deadline = time.monotonic() + FALLBACK_SECONDS
        while self._watchers and time.monotonic() < deadline and not announcements.hear(TURN_SECONDS):
            pass

    def _trouble(self, error: Exception) -> ServerSentEvent:
        """Return the event for a database that cannot be looked at; the log has it once."""
        self._failures += 1
        if self._failures == 1:
            log.warning("web.blind", reason=f"{type(error).__name__}: {error}")
        unknown = PenstockError(f"{type(error).__name__}: the log of this server says more")
        fault = error if isinstance(error, PenstockError) else unknown
        return ServerSentEvent(json.dumps(error_body(fault.code, str(fault))), event="trouble")

    def _tell(self, loop: asyncio.AbstractEventLoop, event: ServerSentEvent) -> None:
        try:
            loop.call_soon_threadsafe(self._publish, event)
        except RuntimeError:  # the loop is closed: the server ended, and this thread with it
            self._watchers.clear()

    def _publish(self, event: ServerSentEvent) -> None:
        self._newest = event
        for news in self._watchers:
            news.set()


def snapshot(engine: Engine) -> Snapshot:
    """Return what the page shows now. Raises DatabaseError."""
    newest = jobs.listed(engine, JobFilter(), limit=NEWEST)
    active = jobs.listed(engine, JobFilter(statuses=tuple(ACTIVE)), limit=jobs.MAX_PAGE)
    found = {job.job_id: job for job in (*newest.jobs, *active.jobs)}
    found |= {job.job_id: job for job in _explained(engine, active.jobs)}
    ordered = sorted(found.values(), key=lambda job: job.created_at, reverse=True)
    return Snapshot(jobs=tuple(ordered), total_count=newest.total_count, workers=jobs.online(engine))


def _explained(engine: Engine, active: Sequence[Job]) -> list[Job]:
    """Return jobs that work or wait, with the reason why they stand still; those that work first."""
    waiting = [job for job in active if job.status in jobs.WAITING]
    waiting.sort(key=lambda job: (job.status not in WORKING, job.created_at))
    return [jobs.status(engine, job.job_id) for job in waiting[:EXPLAINED]]
