"""MiniLM behind the part of Ollama's API that the product asks, so that the product can index and search with it."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from hashlib import blake2b
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import numpy as np

from ops.bench.quality import minilm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MODEL: Final = "all-minilm"


class Vectors:
    """MiniLM's vectors of texts; each is computed once and kept in a file."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._kept = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._kept.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB NOT NULL)")

    def of(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a unit vector for each text."""
        names = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
        with self._lock:
            known = {name: found for name in names if (found := self._look_up(name)) is not None}
            missing = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
            if missing:
                for name, vector in zip(missing, minilm.embed(list(missing.values())), strict=True):
                    known[name] = vector.tobytes()
                    self._kept.execute("INSERT INTO vectors VALUES (?, ?)", (name, known[name]))
        return [np.frombuffer(known[name], np.float32).tolist() for name in names]

    def _look_up(self, name: bytes) -> bytes | None:
        found = self._kept.execute("SELECT vector FROM vectors WHERE text = ?", (name,)).fetchone()
        return None if found is None else found[0]

    def close(self) -> None:
        """Close the file."""
        self._kept.close()


class Handler(BaseHTTPRequestHandler):
    """Speaks Ollama's API; what is longer than the model's context is cut."""

    protocol_version = "HTTP/1.1"
    vectors: Vectors

    def do_POST(self) -> None:
        """Answer `/api/embed` and `/api/show`."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if str(body.get("model")).removesuffix(":latest") != MODEL:
            self._reply(HTTPStatus.NOT_FOUND, {"error": f"model {body.get('model')!r} not found"})
        elif self.path == "/api/show":
            facts = {"bert.context_length": minilm.LONGEST, "bert.embedding_length": minilm.DIMENSION}
            self._reply(HTTPStatus.OK, {"model_info": facts, "capabilities": ["embedding"]})
        else:
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            self._reply(HTTPStatus.OK, {"model": MODEL, "embeddings": self.vectors.of(texts)})

    def do_GET(self) -> None:
        """Answer `/api/tags` and `/api/version`."""
        tags = {"models": [{"name": f"{MODEL}:latest", "model": f"{MODEL}:latest"}]}
        self._reply(HTTPStatus.OK, tags if self.path == "/api/tags" else {"version": "0.12.0"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay silent."""

    def _reply(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(file: Path) -> Iterator[str]:
    """Serve while the block runs, and give its address; `file` keeps the vectors."""
    vectors = Vectors(file)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"vectors": vectors}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        vectors.close()
