"""A git server on loopback for tests: real repositories over real HTTP, smart or dumb, and able to misbehave."""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class GitServer(ThreadingHTTPServer):
    """Serves the repositories of a folder to whoever asks.

    `smart` speaks git's own protocol, else files are handed out; another `status` than 200 refuses everything; nothing
    is answered while `flowing` is cleared; `requests` are the request lines so far; `password` is asked for, if any;
    what begins with `moved`, if anything, is elsewhere.
    """

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), partial(_Handler, directory=str(folder)))
        self.folder = folder
        self.smart = True
        self.status = int(HTTPStatus.OK)
        self.password = ""
        self.moved = ""
        self.flowing = Event()
        self.flowing.set()
        self.requests: list[str] = []

    def url(self, name: str) -> str:
        """Return the URL of a repository."""
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(SimpleHTTPRequestHandler):
    server: GitServer

    def do_GET(self) -> None:
        """Answer a request as the server is set to."""
        self.server.requests.append(self.requestline)
        self.server.flowing.wait()
        if self.server.status != HTTPStatus.OK:
            self.send_error(self.server.status)
        elif self.server.moved and self.path.startswith(self.server.moved):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", self.path.removeprefix(self.server.moved))
            self.end_headers()
        elif self.server.password and not self._is_known():
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
        elif self.server.smart:
            self._run_backend()
        else:
            super().do_GET()

    do_POST = do_GET  # noqa: N815 - as its base class looks it up

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as its base class has it
        """Keep quiet."""

    def _is_known(self) -> bool:
        word = self.headers.get("Authorization", "").removeprefix("Basic ")
        return b64decode(word).decode().endswith(f":{self.server.password}")

    def _run_backend(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        variables = {
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "REMOTE_ADDR": "127.0.0.1",
        }
        answer = subprocess.run(
            ["git", "http-backend"], env=os.environ | variables, input=body, capture_output=True, check=True
        ).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(folder: Path) -> Iterator[GitServer]:
    """Serve the repositories of a folder until the end of the block."""
    with GitServer(folder) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.flowing.set()
            server.shutdown()
            thread.join()
