"""How the shim is reached: over stdio, where stdout is the wire and nothing else, or over HTTP, behind a guard."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.routing import BaseRoute

    from ops.settings import Settings

PATH: Final = "/mcp"
ABOVE_STANDARD: Final = 3
GRACE_SECONDS: Final = 1
"""How long calls that wait may keep the HTTP server from ending."""

log = structlog.get_logger("penstock")


@dataclass(frozen=True, slots=True)
class Wire:
    """The streams of the protocol."""

    incoming: anyio.AsyncFile[str]
    outgoing: anyio.AsyncFile[str]


def claim_stdio() -> Wire:
    """Take stdin and stdout for the protocol alone: from now on prints, ours and our children's, go to stderr."""
    sys.stdout.flush()
    incoming, outgoing = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, ABOVE_STANDARD) for number in (0, 1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    reader = io.open(incoming, encoding="utf-8", errors="replace")  # noqa: UP020, SIM115 - open for good
    writer = io.open(outgoing, "w", encoding="utf-8", newline="\n")  # noqa: UP020, SIM115
    return Wire(anyio.wrap_file(reader), anyio.wrap_file(writer))


def serve_stdio(settings: Settings, wire: Wire) -> None:
    """Serve one client until it closes the wire; Ctrl-C ends it at once, for nothing is lost."""
    from ops.mcp_server.server import make_shim  # noqa: PLC0415 - after the wire was claimed

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own way would wait for the client's next line
    anyio.run(make_shim(settings).speak, wire)


@dataclass(frozen=True, slots=True)
class HttpMouth:
    """The shim as a part of an HTTP server: its routes, and what must surround the requests to them."""

    routes: Sequence[BaseRoute]
    lifespan: Callable[[], AbstractAsyncContextManager[None]]


def http_mouth(settings: Settings) -> HttpMouth:
    """Return what answers at /mcp, for a server that checks names, origins and tokens before it."""
    from mcp.server.transport_security import TransportSecuritySettings  # noqa: PLC0415 - half a second

    from ops.mcp_server.server import make_shim  # noqa: PLC0415 - as above

    shim = make_shim(settings)
    guarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = shim.streamable_http_app(streamable_http_path=PATH, transport_security=guarded)
    return HttpMouth(app.routes, shim.session_manager.run)


def serve_http(settings: Settings, host: str, port: int) -> None:
    """Serve any number of clients at http://host:port/mcp until SIGTERM or Ctrl-C; port 0 takes a free one.

    Raises ValidationError when others can reach the address and there is no token, PenstockError when it is taken.
    """
    import uvicorn  # noqa: PLC0415 - as above

    from ops.web.app import Wing, build  # noqa: PLC0415 - as above
    from ops.web.guard import Door  # noqa: PLC0415 - as above
    from ops.web.serving import bind, url_of  # noqa: PLC0415 - as above

    door, mouth = Door.of(settings, host), http_mouth(settings)
    app = build(door, [Wing(mouth.routes, mouth.lifespan)])
    listener = bind(host, port)
    log.info("mcp.listening", url=f"{url_of(host, listener.getsockname()[1])}mcp")
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=GRACE_SECONDS
    )
    uvicorn.Server(config).run(sockets=[listener])
