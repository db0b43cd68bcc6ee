"""The site as a whole: which wings it has, who guards them, and one line in the log for each request."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Final

import structlog
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from ops.mcp_server import transports
from ops.web import answers, api, health, pages
from ops.web.guard import SAFE, Guard
from ops.web.hub import GRACE
from pipeline.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ops.web.guard import Door
    from ops.web.hub import Hub
    from ops.web.site import Site

MAX_BODY: Final = 1_000_000
FAULT: Final = 500

log = structlog.get_logger("penstock")


@dataclass(frozen=True, slots=True)
class Wing:
    """A part of the site: what it serves, and what lives as long as the site does."""

    routes: Sequence[BaseRoute]
    lifespan: Callable[[], AbstractAsyncContextManager[object]] = nullcontext


def wings(site: Site, door: Door, hub: Hub) -> tuple[Wing, ...]:
    """Return all that is served. A further mouth over HTTP is a further wing: the guard stands before it, too."""
    mouth = transports.http_mouth(site.settings)
    return (
        Wing(pages.routes(door)),
        Wing(api.routes(site), lambda: opened(site)),
        Wing(hub.routes(), hub.lifespan),
        Wing(health.routes(site)),
        Wing(mouth.routes, mouth.lifespan),
    )


def build(door: Door, served: Sequence[Wing]) -> ASGIApp:
    """Return the application that serves these wings behind this door."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for wing in served:
                await stack.enter_async_context(wing.lifespan())
            yield

    site = Starlette(
        routes=[route for wing in served for route in wing.routes],
        exception_handlers={
            PenstockError: answers.refused,
            HTTPException: answers.not_served,
            Exception: answers.failed,
        },
        lifespan=lifespan,
        max_body_size=MAX_BODY,
    )
    return Diary(Guard(site, door))  # outside of all that Starlette answers by itself


@asynccontextmanager
async def opened(site: Site) -> AsyncIterator[None]:
    """Open the database without making anybody wait for it, and close it at the end."""
    opening = Thread(target=site.open, name="opening", daemon=True)
    opening.start()
    yield
    await to_thread.run_sync(opening.join, GRACE)
    site.close()


class Diary:
    """Logs what was asked: never the query string, which holds what people search for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and say so."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status, seconds = message["status"], round(time.monotonic() - began, 3)
                say = log.info if scope["method"] not in SAFE or status >= FAULT else log.debug
                say("web.request", method=scope["method"], path=scope["path"], status=status, seconds=seconds)
            await send(message)

        await self._app(scope, receive, send_noting)
