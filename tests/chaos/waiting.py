"""Waiting for something to become true, for so long, or until the program is asked to end."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

T = TypeVar("T")
POLL: Final = 0.02
LOOK: Final = 0.25
"""Between two looks at what costs the server something."""

ENDING: Final = threading.Event()
"""Set once the program is asked to end."""


def end_by_signals() -> None:
    """End the program at SIGINT, SIGTERM or SIGHUP."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    """Interrupt what is done; a second signal does not interrupt the clearing up."""
    if not ENDING.is_set():
        ENDING.set()
        raise KeyboardInterrupt


def heed() -> None:
    """End the program if it was asked to: what is raised in a signal's handler, a library or a callback may swallow."""
    if ENDING.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def soon(question: Callable[[], T], patience: float) -> T:
    """Return the first true answer within `patience` seconds, else the last one. Raises what the question raises."""
    deadline = time.monotonic() + patience
    while not (answer := question()) and time.monotonic() < deadline:
        heed()
        time.sleep(POLL)
    return answer


def lasting(question: Callable[[], list[str]], patience: float) -> list[str]:
    """Return what a question finds again and again for `patience` seconds; nothing when it once finds nothing."""
    deadline = time.monotonic() + patience
    while (found := question()) and time.monotonic() < deadline:
        heed()
        time.sleep(LOOK)
    return found
