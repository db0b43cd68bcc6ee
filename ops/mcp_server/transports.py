"""How the shim is reached: over stdio, where stdout is the wire and nothing else, or over HTTP, behind a guard."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.routing import BaseRoute

    from ops.mcp_server.wire import Wire
    from ops.settings import Settings

PATH: Final = "/mcp"


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
