"""A forwarder of connections, which can fall silent without a word, and then be cut."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from types import TracebackType

T = TypeVar("T")
BLOCK: Final = 65_536


class Network:
    """Forwards a port to a socket, or to a port of the loopback, in a thread of its own; a context manager ends it."""

    def __init__(self, target: Path | int, address: str = "127.0.0.1") -> None:
        self.port = 0
        self._target = target
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._moving = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def silence(self) -> None:
        """Move no byte any more: connections stay open, and new ones are accepted and not answered."""
        self._do(self._hush())

    def cut(self) -> None:
        """Break every connection, and serve new ones again."""
        self._do(self._cut())

    def _do(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> asyncio.Server:
        self._moving.set()
        return await asyncio.start_server(self._accept, self._address, 0)

    async def _hush(self) -> None:
        self._moving.clear()

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._moving.set()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        if call is None:
            return
        self._calls.add(call)
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._calls.discard(call)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._moving.wait()
        with suppress(OSError):  # the server may be down
            from_server, to_server = await self._dial()
            self._writers.add(to_server)
            try:
                ways = [asyncio.ensure_future(self._move(*way)) for way in ((reader, to_server), (from_server, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            finally:
                to_server.transport.abort()
                self._writers.discard(to_server)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(str(self._target))

    async def _move(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(BLOCK):
                await self._moving.wait()
                writer.write(block)
                await writer.drain()
