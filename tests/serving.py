"""Serves the site for a test over real HTTP: in a thread on a test's database, or as the process that users start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import uvicorn

from ops.settings import Settings
from ops.web.app import build, wings
from ops.web.guard import Door
from ops.web.hub import Hub
from ops.web.serving import Server, bind
from ops.web.site import Site
from tests.acceptance.working import PENSTOCK, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.client import HTTPResponse
    from pathlib import Path

PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - each test knows its shape
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """The status, and the code and the message of the error in the body."""
        error = self.json["error"]
        return self.status, error["code"], error["message"]


@dataclass(slots=True)
class Client:
    """Asks a site; `headers` go with every request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str, /, **query: object) -> Answer:
        """GET a path."""
        return self.ask("GET", f"{path}?{urlencode(query, doseq=True)}" if query else path)

    def post(self, path: str, /, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """POST a record as JSON."""
        given = {"Content-Type": "application/json", **(headers or {})}
        return self.ask("POST", path, json.dumps({} if body is None else body), given)

    def ask(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request and read its answer."""
        with self.sent(method, path, body, headers) as response:
            return Answer(response.status, dict(response.getheaders()), response.read().decode())

    @contextmanager
    def sent(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """Send a request and yield the response, whose body is not read yet."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            yield connection.getresponse()
        finally:
            connection.close()

    @contextmanager
    def events(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """Yield the events of the stream: name and data."""
        with self.sent("GET", "/api/events") as response:
            assert response.status == 200, response.read()
            yield _events(response)


def _events(response: HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in map(bytes.decode, response):
        key, _, value = line.rstrip("\r\n").partition(": ")
        if key == "event":
            name = value
        elif key == "data" and value:
            yield name, json.loads(value)


def settings_for(database_url: str, folder: Path, **further: object) -> Settings:
    """Return settings for a site on a database."""
    values = {"database_url": database_url, "penstock_home": folder / "home", "penstock_min_free_disk_gb": 0}
    return Settings.model_validate({**values, **further})


@contextmanager
def serving(settings: Settings, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Client]:
    """Serve in a thread of this process until the block ends."""
    door = Door.of(settings, host)
    site = Site(settings)
    hub = Hub(site)
    config = uvicorn.Config(
        build(door, wings(site, door, hub)),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = Server(config, hub)
    listener = bind("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        eventually(lambda: server.started, PATIENCE)
        yield Client(listener.getsockname()[1])
    finally:
        hub.end()
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@dataclass(slots=True)
class Process:
    """A real `penstock serve`."""

    process: subprocess.Popen[bytes]
    client: Client
    log: Path

    def told(self, event: str) -> list[dict[str, object]]:
        """Return the lines about an event that it logged."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@contextmanager
def started(folder: Path, **environment: str) -> Iterator[Process]:
    """Start `penstock serve` on a free port, and end it with the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK")}
    port, log = free_port(), folder / "serve.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*PENSTOCK, "serve", "--port", str(port)],
            env=kept | {"PENSTOCK_LOG_FORMAT": "json", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    server = Process(process, Client(port), log)
    try:
        eventually(lambda: process.poll() is not None or server.told("web.started"), PATIENCE)
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE)


def free_port() -> int:
    """Return a port of the loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
