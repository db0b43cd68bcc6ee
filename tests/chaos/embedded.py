"""What the embedding server was asked twice, and what of it a fault explains."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.embedders.ollama_server import WITNESS
from tests.ollama_record import Ledger, text_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT_SECONDS: Final = 1.5
"""What lies between an answer and the moment when its vectors are safe: a commit, and 0.6 s in which a crash of the
server may forget it (`synchronous_commit = off`)."""


@dataclass
class Embedded(Ledger):
    """Counts, beside all that a ledger counts, the passages that were asked for again.

    A repetition is *explained* when the passage's request before was in the server's or the worker's hands at a moment
    when somebody disturbed them: a kill, a lost connection, a crash, a fault of the embedding server, a pause or a
    cancel. What was in flight then cannot have been kept, and R33 allows it. All else is work that was done and is
    done again.
    """

    asked: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By passage: when its last request came, and when it was answered (0: not yet)."""
    disturbances: list[list[float]] = field(default_factory=list)
    """When each began and ended; infinity while it lasts."""
    repeated: int = 0
    unexplained: int = 0
    total: int = 0
    exempt: int = 0
    """Passages that came while the vector space was in doubt."""
    suspended: bool = False

    @contextmanager
    def request(self, texts: list[str]) -> Iterator[None]:
        """Count a request for as long as it is served, and what it repeats."""
        keys = [text_hash(text) for text in texts if text != WITNESS]
        came = time.monotonic()
        with self._lock:
            self._count(keys, came)
        try:
            with super().request(texts):
                yield
        finally:
            with self._lock:
                for key in keys:
                    self.asked[key] = (came, time.monotonic())

    def _count(self, keys: list[str], came: float) -> None:
        if self.suspended:
            self.exempt += len(keys)
            return
        again = [self.asked[key] for key in keys if key in self.asked]
        self.total += len(keys)
        self.repeated += len(again)
        self.unexplained += sum(not self._explained(*before) for before in again)
        self.asked |= dict.fromkeys(keys, (came, 0.0))

    def _explained(self, came: float, answered: float) -> bool:
        end = answered + COMMIT_SECONDS if answered else time.monotonic()
        return any(begun <= end and ended >= came for begun, ended in self.disturbances)

    @contextmanager
    def disturbed(self, *, throughout: bool = True, aftermath: float = 0.0) -> Iterator[None]:
        """Note that what is in flight now and at the end may be lost, and `throughout` all that comes in between.

        Some disturbances take effect only within an `aftermath` of so many seconds.
        """
        now = time.monotonic()
        first = [now, math.inf if throughout else now + aftermath]
        with self._lock:
            self.disturbances.append(first)
        try:
            yield
        finally:
            with self._lock:
                now = time.monotonic()
                if throughout:
                    first[1] = now + aftermath
                else:
                    self.disturbances.append([now, now + aftermath])

    def suspend(self) -> None:
        """Count no repetitions from now on: in another vector space everything is embedded anew."""
        self.suspended = True

    def count_again(self) -> None:
        """Count again, once all jobs have ended in one space."""
        with self._lock:
            if self.suspended:
                self.asked.clear()
                self.suspended = False
