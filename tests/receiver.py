"""A webhook receiver on loopback: keeps what it is sent, and can refuse, hang, or do worse before it answers."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET: Final = "s3cr3t-path"  # noqa: S105 - of no account


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Receiver:
    """Somebody who is notified by HTTP; `before` is called with every request, `status` is the answer."""

    port: int = field(default_factory=free_port)
    status: int = 200
    before: Callable[[], object] = lambda: None
    titles: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    attempts: int = 0

    @property
    def url(self) -> str:
        """Its apprise URL, with secrets in it."""
        return f"json://user:{SECRET}-too@127.0.0.1:{self.port}/{SECRET}"

    def take(self, body: bytes) -> int:
        """Note a request, keep what is accepted, and return the answer."""
        self.attempts += 1
        sent = json.loads(body)
        if self.status == 200:
            self.titles.append(sent["title"])
            self.bodies.append(sent["message"])
        self.before()
        return self.status


@contextmanager
def receiving(receiver: Receiver) -> Iterator[None]:
    """Have a receiver listen at its port."""

    class Handler(BaseHTTPRequestHandler):
        """Answers one request."""

        def do_POST(self) -> None:
            """Take a notification."""
            self.send_response(receiver.take(self.rfile.read(int(self.headers["Content-Length"]))))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
