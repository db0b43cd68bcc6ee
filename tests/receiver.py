"""A webhook receiver on loopback: keeps what it is sent, and can refuse, hang or answer drop by drop."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET: Final = "s3cr3t-path"  # noqa: S105 - of no account


@dataclass
class Receiver:
    """Somebody who is notified by HTTP; `status` is the answer, `stuck` has every answer wait for the end."""

    port: int = 0
    status: int = 200
    stuck: bool = False
    titles: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    attempts: int = 0
    over: Event = field(default_factory=Event)

    def url(self, secret: str = SECRET) -> str:
        """Return its apprise URL, with a secret in it."""
        return f"json://user:{secret}-pass@127.0.0.1:{self.port}/{secret}"

    def take(self, body: bytes) -> int:
        """Note a request, keep what is accepted, and return the answer."""
        self.attempts += 1
        if self.stuck:
            self.over.wait()
        if self.status == 200:
            sent = json.loads(body)
            self.titles.append(sent["title"])
            self.bodies.append(sent["message"])
        return self.status


@contextmanager
def receiving(receiver: Receiver | None = None) -> Iterator[Receiver]:
    """Yield a receiver that listens; one that was stopped listens again at its port."""
    receiver = receiver or Receiver()

    class Handler(BaseHTTPRequestHandler):
        """Answers one request."""

        def do_POST(self) -> None:
            """Take a notification."""
            answer = receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(answer)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    server.daemon_threads = True
    receiver.port = server.server_port
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
