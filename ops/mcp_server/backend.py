"""Opens the desk behind the protocol's back, so that a client is answered at once, and lends it to the tools."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import structlog

from ops.mcp_server.waiting import Ear
from pipeline.errors import DatabaseError, PenstockError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ops.mcp_server.desk import Desk
    from ops.settings import Settings

OPENING_SECONDS: Final = 40.0
CALL_SECONDS: Final = 40.0
"""How long a tool waits for the database: clients give a call up after a minute or so."""

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger("penstock")


class Backend:
    """The desk of this process, opened when the first message came, and again after that failed."""

    ear: Ear

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening: Future[Desk] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Backend]:
        """Yield itself for as long as the protocol is spoken, and close the desk at the end."""
        try:
            async with anyio.create_task_group() as tasks:
                self.ear = Ear(tasks)
                yield self
                tasks.cancel_scope.cancel()
        finally:
            if self._opening and self._opening.done() and not self._opening.exception():
                self._opening.result().engine.dispose()

    def begin(self) -> Future[Desk]:
        """Open the desk in a thread, unless it is open or being opened; only the event loop's thread calls this."""
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = Future()
            threading.Thread(target=self._open, args=(self._opening,), name="opening", daemon=True).start()
        return self._opening

    def _open(self, opening: Future[Desk]) -> None:
        try:
            from ops.mcp_server.desk import Desk  # noqa: PLC0415 - half a second, for which no client should wait

            desk = Desk.open(self._settings)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the desk gets it
            opening.set_exception(error)
            return
        opening.set_result(desk)
        try:
            desk.revive()
        except PenstockError as error:
            log.warning("workers.refused", reason=str(error))

    async def desk(self) -> Desk:
        """Return the open desk. Raises DatabaseError when it cannot be opened, or takes too long."""
        opening = asyncio.wrap_future(self.begin())
        try:
            desk = await asyncio.wait_for(asyncio.shield(opening), OPENING_SECONDS)
        except TimeoutError:
            raise DatabaseError("the database is still being started; call again in half a minute") from None
        await work(desk.refresh)
        return desk


async def work(task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread; a call that is cancelled does not wait for it, and none waits for ever."""
    try:
        with anyio.fail_after(CALL_SECONDS):
            return await anyio.to_thread.run_sync(partial(task, *args, **kwargs), abandon_on_cancel=True)
    except TimeoutError:
        message = f"the database did not answer within {CALL_SECONDS:.0f} s; `penstock doctor` looks for the cause"
        raise DatabaseError(message) from None
