"""Requests that can be given up: they run on an event loop in a thread of its own, while the caller waits and heeds."""

from __future__ import annotations

import asyncio
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from concurrent.futures import Future

HEED_SECONDS: Final = 0.2
"""How often a waiting thread heeds; an exception that another thread raises in it gets in as often."""
CLOSE_SECONDS: Final = 5.0

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread that starts with the first request; safe to call from several threads.

    `closing` is awaited on the loop before it ends.
    """

    def __init__(self, closing: Callable[[], Awaitable[None]]) -> None:
        self._closing = closing
        self._starting = Lock()
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T], heed: Callable[[], None]) -> T:
        """Return what the coroutine returns, or raise what it raises; `heed` is called every 0.2 s until then.

        Whatever is raised in the waiting thread, by `heed`, a signal or a time limit, cancels the coroutine and goes on
        unchanged.
        """
        # The loop's thread must never wait for a lock of a thread in which an exception may strike at any instant.
        ended: SimpleQueue[Future[T]] = SimpleQueue()
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            future.add_done_callback(ended.put)
            while not _within(ended, HEED_SECONDS):
                heed()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what is under way, and end the loop and its thread; without a request there is none."""
        with self._starting:
            thread, loop, self._thread, self._loop = self._thread, self._loop, None, None
        if thread is not None and loop is not None:
            loop.call_soon_threadsafe(self._over.set)
            thread.join(CLOSE_SECONDS)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loops: SimpleQueue[asyncio.AbstractEventLoop] = SimpleQueue()
                self._thread = Thread(target=lambda: asyncio.run(self._serve(loops)), daemon=True, name="requests")
                self._thread.start()
                self._loop = loops.get()
            return self._loop

    async def _serve(self, loops: SimpleQueue[asyncio.AbstractEventLoop]) -> None:
        self._over = asyncio.Event()
        loops.put(asyncio.get_running_loop())
        await self._over.wait()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._closing()


def _within(ended: SimpleQueue[Any], seconds: float) -> bool:
    """Wait for the end; False after so many seconds without it."""
    try:
        ended.get(timeout=seconds)
    except Empty:
        return False
    return True
