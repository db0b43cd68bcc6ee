"""What the stand-in for Ollama remembers of its requests."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterator


class Record(TypedDict):
    """What the server has seen: `busy_seconds` is the time with a request in flight, `texts` counts by text hash."""

    requests: int
    passages: int
    repeated: int
    max_in_flight: int
    busy_seconds: float
    texts: dict[str, int]


@dataclass(slots=True)
class Ledger:
    """Counts requests and passages, and clocks how busy the server is."""

    texts: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    """The number of passages of each request, in order of arrival."""
    arrivals: list[float] = field(default_factory=list)
    """When each request came, in seconds of the monotonic clock."""
    given_up: int = 0
    """How many requests ended without an answer because the client closed its connection."""
    proxied: int = 0
    """How many requests came as they come to a proxy: with the whole address of the server that they are for."""
    arrived: threading.Event = field(default_factory=threading.Event)
    in_flight: int = 0
    max_in_flight: int = 0
    busy_seconds: float = 0.0
    _busy_since: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def request(self, texts: list[str]) -> Iterator[None]:
        """Count a request for as long as it is served."""
        with self._lock:
            self._enter(texts)
        try:
            yield
        finally:
            with self._lock:
                self._leave()

    def note_given_up(self) -> None:
        """Count a request that its client gave up."""
        with self._lock:
            self.given_up += 1

    def _enter(self, texts: list[str]) -> None:
        self.arrived.set()
        self.sizes.append(len(texts))
        self.arrivals.append(time.monotonic())
        self.texts.update(text_hash(text) for text in texts)
        if self.in_flight == 0:
            self._busy_since = time.monotonic()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def _leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self.busy_seconds += time.monotonic() - self._busy_since

    def record(self) -> Record:
        """Return the record as JSON has it."""
        with self._lock:
            return Record(
                requests=len(self.sizes),
                passages=self.texts.total(),
                repeated=self.texts.total() - len(self.texts),
                max_in_flight=self.max_in_flight,
                busy_seconds=self.busy_seconds,
                texts=dict(self.texts),
            )


def text_hash(text: str) -> str:
    """Return the name under which the record counts a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
