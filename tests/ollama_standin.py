"""A stand-in for an Ollama server: its embedding API over a real socket, with faults on demand and a record of calls.

As a program, `python -m tests.ollama_standin --port 0` prints its URL and serves until it is killed. Processes that do
not hold the object steer it by `POST /control` (the fields of `Settings`, and `faults` as a list of `Fault` fields) and
read its record by `GET /control`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from select import select
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from tests.ollama_record import Ledger
from tests.ollama_vectors import spoiled, tokenized, vector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

TOO_LONG: Final = "the input length exceeds the context length"
DURATION: Final = re.compile(r"-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server is set up; delays in seconds, `context` in tokens (0 = no limit)."""

    models: tuple[str, ...] = ("nomic-embed-text",)
    dimension: int = 768
    context: int = 0
    ignores_truncate: bool = False
    """Refuse what is too long although `truncate` is true, as some releases of Ollama do."""
    parallel: int = 4
    request_delay: float = 0.0
    passage_delay: float = 0.0


@dataclass(slots=True)
class Fault:
    """One kind of misbehaviour, for the next `times` requests (-1: for all) that hold a passage with `marker`.

    Kinds: `status` answers with `status` and `error`; `hang` never answers; `trickle` answers a byte at a time; `drop`
    cuts the connection in the middle of the answer; `garbage` is no JSON; `fewer` leaves the last vector out; `nan`,
    `infinite`, `zero` and `dimension` spoil the vectors of the marked passages.
    """

    kind: str
    times: int = -1
    marker: str = ""
    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    error: str = "llama runner process has terminated: exit status 2"
    share: float = 1.0
    """How many of the requests that it is due for it strikes, at random, the same ones in every run."""


class OllamaStandin:
    """The server; a context manager that stops it. `stop` and `start` come back on the same port."""

    def __init__(self, settings: Settings | None = None, *, port: int = 0) -> None:
        self.settings = settings or Settings()
        self.ledger = Ledger()
        self.faults: list[Fault] = []
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._random = random.Random(0)  # noqa: S311 - which requests fail is no secret
        self.slots = threading.Semaphore(self.settings.parallel)
        self._port = port
        self.start()

    @property
    def url(self) -> str:
        """The address, as OLLAMA_HOST takes it."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        """How many connections clients hold."""
        return len(self._server.connections)

    def start(self) -> None:
        """Listen; after a `stop`, on the port of before."""
        self.stopped.clear()
        self._server = Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def configure(self, settings: Settings) -> None:
        """Set the server up anew."""
        self.settings = settings
        self.slots = threading.Semaphore(settings.parallel)

    def misbehave(self, *faults: Fault) -> None:
        """Replace the faults; without any the server behaves."""
        with self._lock:
            self.faults = list(faults)

    def fault_for(self, texts: list[str]) -> Fault | None:
        """Return the first fault that is due for this request, and use one of its times up."""
        with self._lock:
            for fault in self.faults:
                due = fault.times and any(fault.marker in text for text in texts)
                if due and self._random.random() < fault.share:
                    fault.times -= fault.times > 0
                    return fault
        return None


class Server(ThreadingHTTPServer):
    """An HTTP server that knows its open connections, so that stopping it is felt at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], standin: OllamaStandin) -> None:
        super().__init__(address, Handler)
        self.standin = standin
        self.connections: set[socket.socket] = set()

    def cut(self) -> None:
        """End every open connection."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that went away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """Speaks Ollama's API over one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def setup(self) -> None:
        """Remember the connection."""
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        """Forget the connection."""
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay silent."""

    def do_GET(self) -> None:
        """Answer `/api/tags`, `/api/version`, `/control` and `/`."""
        standin = self.server.standin
        answers: Mapping[str, Callable[[], object]] = {
            "/api/tags": lambda: {"models": [{"name": name, "model": name} for name in tags(standin.settings)]},
            "/api/version": lambda: {"version": "0.12.0"},
            "/control": standin.ledger.record,
            "/": lambda: "Ollama is running",
        }
        answer = answers.get(self.path)
        self._reply(HTTPStatus.OK if answer else HTTPStatus.NOT_FOUND, answer() if answer else {"error": "not found"})

    def do_POST(self) -> None:
        """Answer `/api/embed`, `/api/show` and `/control`."""
        answers: Mapping[str, Callable[[dict[str, object]], None]] = {
            "/api/embed": self._embed,
            "/api/show": self._show,
            "/control": self._control,
        }
        address = urlsplit(self.path)
        self.server.standin.ledger.proxied += bool(address.netloc)
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            body = json.loads(raw)
            answer = answers[address.path]
        except ValueError as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        except KeyError:
            self._error(HTTPStatus.NOT_FOUND, "not found")
        else:
            answer(body)

    def _embed(self, body: dict[str, object]) -> None:
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self._error(HTTPStatus.BAD_REQUEST, "invalid input type")
        elif isinstance(keep_alive := body.get("keep_alive"), str) and not DURATION.fullmatch(keep_alive):
            self._error(HTTPStatus.BAD_REQUEST, f'time: missing unit in duration "{keep_alive}"')
        elif f"{body.get('model')}".removesuffix(":latest") not in self.server.standin.settings.models:
            self._error(HTTPStatus.NOT_FOUND, f'model "{body.get("model")}" not found, try pulling it first')
        else:
            with self.server.standin.ledger.request(texts):
                self._serve(body, texts)

    def _serve(self, body: dict[str, object], texts: list[str]) -> None:
        standin = self.server.standin
        settings, fault, started = standin.settings, standin.fault_for(texts), time.monotonic_ns()
        if fault and fault.kind == "hang":
            self._wanted_for(600)
            self.close_connection = True
            return
        if fault and fault.kind == "status":
            self._error(fault.status, fault.error)
            return
        if not self._worked(settings.request_delay + settings.passage_delay * len(texts)):
            self.close_connection = True
            return
        tokens = [tokenized(text) for text in texts]
        whole = body.get("truncate") is False or settings.ignores_truncate
        if whole and settings.context and max(map(len, tokens), default=0) > settings.context:
            self._error(HTTPStatus.BAD_REQUEST, TOO_LONG)
            return
        tokens = [each[: settings.context or None] for each in tokens]
        dimension = body.get("dimensions")
        width = dimension if isinstance(dimension, int) else settings.dimension
        rows = [vector(each, settings.dimension, width).tolist() for each in tokens]
        answer = {
            "model": body["model"],
            "embeddings": spoiled(rows, texts, fault),
            "total_duration": time.monotonic_ns() - started,
            "load_duration": 1_000_000,
            "prompt_eval_count": sum(map(len, tokens)),
        }
        self._reply(HTTPStatus.OK, answer, fault.kind if fault else "")

    def _worked(self, seconds: float) -> bool:
        """Be busy in a slot of the server; False when the client gives up before, as Ollama notices it."""
        slots = self.server.standin.slots
        while not slots.acquire(timeout=0.1):
            if not self._wanted_for(0):
                return False
        try:
            return self._wanted_for(seconds)
        finally:
            slots.release()

    def _wanted_for(self, seconds: float) -> bool:
        """Wait so long; False at once when the client closes the connection, or the server is stopped."""
        standin = self.server.standin
        heard, _, _ = select([self.connection], [], [], seconds)
        if heard and not standin.stopped.is_set():
            standin.ledger.note_given_up()
        return not heard and not standin.stopped.is_set()

    def _show(self, body: dict[str, object]) -> None:
        settings = self.server.standin.settings
        if f"{body.get('model')}".removesuffix(":latest") not in settings.models:
            self._error(HTTPStatus.NOT_FOUND, f"model '{body.get('model')}' not found")
            return
        facts = {
            "general.architecture": "nomic-bert",
            "nomic-bert.context_length": settings.context or 2048,
            "nomic-bert.embedding_length": settings.dimension,
        }
        self._reply(HTTPStatus.OK, {"model_info": facts, "capabilities": ["embedding"]})

    def _control(self, body: dict[str, object]) -> None:
        standin = self.server.standin
        faults = body.pop("faults", None)
        if isinstance(faults, list):
            standin.misbehave(*(Fault(**fault) for fault in faults))
        known = {each.name for each in fields(Settings)}
        standin.configure(replace(standin.settings, **{k: v for k, v in body.items() if k in known}))  # type: ignore[arg-type]
        self._reply(HTTPStatus.OK, standin.ledger.record())

    def _error(self, status: int, text: str) -> None:
        self._reply(status, {"error": text})

    def _reply(self, status: int, answer: object, kind: str = "") -> None:
        body = b"<html>bad gateway" if kind == "garbage" else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "trickle":
            self._trickle(body)
        else:
            self.wfile.write(body[: len(body) // 2] if kind == "drop" else body)
        self.wfile.flush()
        self.close_connection = self.close_connection or kind == "drop"

    def _trickle(self, body: bytes) -> None:
        for byte in body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if not self._wanted_for(0.1):
                self.close_connection = True
                return


def tags(settings: Settings) -> list[str]:
    """Return the models' full names."""
    return [name if ":" in name else f"{name}:latest" for name in settings.models]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="a stand-in for an Ollama server")
    parser.add_argument("--port", type=int, default=0)
    with OllamaStandin(port=parser.parse_args().port) as standin:
        sys.stdout.write(standin.url + "\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
