"""Waiting for something to become true, for so long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
POLL: Final = 0.02
LOOK: Final = 0.25
"""Between two looks at what costs the server something."""


def soon(question: Callable[[], T], patience: float) -> T:
    """Return the first true answer within `patience` seconds, else the last one. Raises what the question raises."""
    deadline = time.monotonic() + patience
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(POLL)
    return answer


def lasting(question: Callable[[], list[str]], patience: float) -> list[str]:
    """Return what a question finds again and again for `patience` seconds; nothing when it once finds nothing."""
    deadline = time.monotonic() + patience
    while (found := question()) and time.monotonic() < deadline:
        time.sleep(LOOK)
    return found
