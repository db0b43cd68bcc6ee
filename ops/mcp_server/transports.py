"""How the shim is reached: over stdio, where stdout is the wire and nothing else, or over HTTP, behind a guard."""

from __future__ import annotations

import fcntl
import hmac
import io
import ipaddress
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from pipeline.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from pydantic import SecretStr
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ops.settings import Settings

PATH: Final = "/mcp"
LOCAL_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
ABOVE_STANDARD: Final = 3
GRACE_SECONDS: Final = 3
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


def http_mouth(settings: Settings, *, checks_names: bool = False) -> HttpMouth:
    """Return what answers at /mcp, for a server that guards it.

    With `checks_names` only requests to a loopback name are answered, and of no other web site than of such names.
    """
    from mcp.server.transport_security import TransportSecuritySettings  # noqa: PLC0415 - half a second

    from ops.mcp_server.server import make_shim  # noqa: PLC0415 - as above

    shim = make_shim(settings)
    app = shim.streamable_http_app(
        streamable_http_path=PATH,
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=checks_names,
            allowed_hosts=[f"{name}:*" for name in LOCAL_NAMES],
            allowed_origins=[f"{scheme}://{name}:*" for scheme in ("http", "https") for name in LOCAL_NAMES],
        ),
    )
    return HttpMouth(app.routes, shim.session_manager.run)


class Guard:
    """Lets nobody in without the token, and nobody whom a web site sent."""

    def __init__(self, app: ASGIApp, token: SecretStr) -> None:
        self._app = app
        self._expected = f"Bearer {token.get_secret_value()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it in words."""
        from starlette.responses import PlainTextResponse  # noqa: PLC0415 - as above

        headers = dict(scope.get("headers", ()))
        answer: ASGIApp = self._app
        if b"origin" in headers:
            answer = PlainTextResponse("requests of web sites are refused here", 403)
        elif scope["type"] == "http" and not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            said = "say `Authorization: Bearer …` with the token of PENSTOCK_SERVE_TOKEN"
            answer = PlainTextResponse(said, 401, {"WWW-Authenticate": "Bearer"})
        await answer(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what is bound to `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve_http(settings: Settings, host: str, port: int) -> None:
    """Serve any number of clients at http://host:port/mcp until SIGTERM or Ctrl-C; port 0 takes a free one.

    Raises ValidationError when the address cannot be bound, or must not be without a token.
    """
    import uvicorn  # noqa: PLC0415 - as above
    from starlette.applications import Starlette  # noqa: PLC0415 - as above
    from starlette.middleware import Middleware  # noqa: PLC0415 - as above

    local, token = is_loopback(host), settings.penstock_serve_token
    if token is None and not local:
        message = f"{host} can be reached from elsewhere: set PENSTOCK_SERVE_TOKEN, or bind to 127.0.0.1"
        raise ValidationError(message)
    mouth = http_mouth(settings, checks_names=local)
    guard = [Middleware(Guard, token=token)] if token else []
    app = Starlette(routes=mouth.routes, middleware=guard, lifespan=lambda _: mouth.lifespan())
    listener = _bind(host, port)
    shown = f"[{host}]" if ":" in host else host
    log.info("mcp.listening", url=f"http://{shown}:{listener.getsockname()[1]}{PATH}")
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=GRACE_SECONDS)
    uvicorn.Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        message = f"{host}:{port} cannot be bound ({error.strerror}); choose another --port or --host"
        raise ValidationError(message) from error
