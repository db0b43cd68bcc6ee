"""The connections to one Ollama server: each serves one request at a time, and ends with a request that is given up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import ollama

from pipeline.embedders.transport import transport_to
from pipeline.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT_TIMEOUT: Final = 5.0


class Clients:
    """Clients of one server; `timeout` is in seconds. Only the loop's thread uses it, once it is made.

    A client is closed with the request that was cancelled in it: a pool that several requests share loses connections
    at that (httpcore 1.0), until none is left.
    """

    def __init__(self, host: str, timeout: float) -> None:
        self._host = host
        self._timeout = timeout
        self._connect_timeout = min(timeout, CONNECT_TIMEOUT)
        self._context = httpx.create_ssl_context()
        self._idle = [self._new()]

    @asynccontextmanager
    async def one(self) -> AsyncIterator[ollama.AsyncClient]:
        """Lend a client for one request; raises TimeoutError when its answer takes too long altogether."""
        client = self._idle.pop() if self._idle else self._new()
        try:
            async with asyncio.timeout(self._timeout + self._connect_timeout):  # httpx bounds each piece of an answer
                yield client
        except ollama.ResponseError:
            self._idle.append(client)
            raise
        except BaseException:
            await client.close()  # type: ignore[no-untyped-call]
            raise
        self._idle.append(client)

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            await self._idle.pop().close()  # type: ignore[no-untyped-call]

    def _new(self) -> ollama.AsyncClient:
        """Return a client; raises ValidationError when the address of the server, or of a proxy to it, is none."""
        address = self._host if "://" in self._host else f"http://{self._host}"
        try:
            return ollama.AsyncClient(
                self._host,
                timeout=httpx.Timeout(self._timeout, connect=self._connect_timeout),
                transport=transport_to(address, self._context),
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            message = (
                f"OLLAMA_HOST={self._host}, or the environment's proxy to it, is not an address ({error}); write it as"
                " http://host:11434"
            )
            raise ValidationError(message) from error
