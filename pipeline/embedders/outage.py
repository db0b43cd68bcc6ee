"""What a process remembers of a server that is away, so that many waiting batches do not all ask it."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pipeline.errors import EmbedderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REST_SECONDS: Final = 1.0
"""How long what was found is taken to be still so; less than the time after which a batch asks again."""
TURN_SECONDS: Final = 30.0
"""How long one thread may look whether the server is back before another one looks, too."""


class Outage:
    """An outage of one server, shared by the threads of a process: one of them looks whether it is over (R13).

    `probe` returns when it is, and raises EmbedderUnavailable when it is not. There is no lock, so that a thread in
    which an exception strikes leaves none locked: a race costs a request, nothing else.
    """

    def __init__(self, probe: Callable[[Callable[[], None]], None]) -> None:
        self._probe = probe
        self._error: EmbedderUnavailable | None = None
        self._next_look = -math.inf

    @contextmanager
    def noted(self, heed: Callable[[], None]) -> Iterator[None]:
        """Note when the requests inside find the server away; during an outage, let them begin once it is over.

        Raises what was found last while the server rests, or another thread looks.
        """
        known = self._error
        if known is not None:
            if time.monotonic() < self._next_look:
                raise type(known)(*known.args)
            self._look(heed)
        try:
            yield
        except EmbedderUnavailable as error:
            self._begin(error)
            raise
        self._error = None

    def _look(self, heed: Callable[[], None]) -> None:
        self._next_look = time.monotonic() + TURN_SECONDS
        try:
            self._probe(heed)
        except EmbedderUnavailable as error:
            self._begin(error)
            raise
        except BaseException:  # the job was stopped: it is another one's turn
            self._next_look = -math.inf
            raise

    def _begin(self, error: EmbedderUnavailable) -> None:
        self._error, self._next_look = error, time.monotonic() + REST_SECONDS
