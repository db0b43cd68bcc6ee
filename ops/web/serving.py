"""Serves the site until it is asked to end: open streams are ended with it, and requests get a moment."""

from __future__ import annotations

import os
import signal
import socket
import webbrowser
from threading import Thread
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn

from ops import logs
from ops.mcp_server.transports import http_mouth
from ops.processes import flush
from ops.web.app import Wing, build, wings
from ops.web.guard import EVERYWHERE, Door
from ops.web.hub import Hub
from ops.web.site import Site
from pipeline.errors import PenstockError

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from ops.settings import Settings

PATIENCE: Final = 1
"""Seconds that requests under way have when the server is asked to end."""

log = structlog.get_logger("penstock")


class Server(uvicorn.Server):
    """A server that ends its streams when it is asked to end; it would wait for their clients to leave."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        self._hub.end()
        super().handle_exit(sig, frame)


def run(settings: Settings, host: str, port: int, *, opens_browser: bool = False) -> NoReturn:
    """Serve until SIGTERM or Ctrl-C, and leave the process. Raises ValidationError, PenstockError before it begins."""
    door = Door.of(settings, host)
    listener = bind(host, port)
    logs.configure(settings)
    address = url_of(host, listener.getsockname()[1])
    site = Site(settings)
    hub = Hub(site)
    config = uvicorn.Config(
        build(door, wings(site, door, hub)),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=PATIENCE,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # the server raises again at its end what ended it
        signal.signal(number, lambda *_: None)
    log.info("web.started", url=address, token=bool(door.token))
    if opens_browser:
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # one in a terminal stays until it is left
    Server(config, hub).run(sockets=[listener])
    log.info("web.ended")
    flush()
    os._exit(0)  # a thread that still waits for an embedding server must not hold this up


def run_mcp(settings: Settings, host: str, port: int) -> None:
    """Serve agents alone, any number of them, at http://host:port/mcp until SIGTERM or Ctrl-C; port 0 takes a free one.

    Raises ValidationError when others can reach the address and there is no token, PenstockError when it is taken.
    """
    door, mouth = Door.of(settings, host), http_mouth(settings)
    app = build(door, [Wing(mouth.routes, mouth.lifespan)])
    listener = bind(host, port)
    log.info("mcp.listening", url=f"{url_of(host, listener.getsockname()[1])}mcp")
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=PATIENCE
    )
    uvicorn.Server(config).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises PenstockError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        message = f"cannot listen on {host} port {port}: {error.strerror}; say another --port, or --host"
        raise PenstockError(message) from error


def url_of(host: str, port: int) -> str:
    """Return where a browser on this machine finds the page."""
    name = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/"
