"""Stdin and stdout, taken for the protocol alone."""

from __future__ import annotations

import fcntl
import io
import os
import sys
from dataclasses import dataclass
from typing import Final

import anyio

ABOVE_STANDARD: Final = 3


@dataclass(frozen=True, slots=True)
class Wire:
    """The streams of the protocol."""

    incoming: anyio.AsyncFile[str]
    outgoing: anyio.AsyncFile[str]


def claim_stdio() -> Wire:
    """Take stdin and stdout for the protocol alone: from now on prints, ours and our children's, go to stderr."""
    sys.stdout.flush()
    incoming, outgoing = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, ABOVE_STANDARD) for number in (0, 1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    reader = io.open(incoming, encoding="utf-8", errors="replace")  # noqa: UP020, SIM115 - open for good
    writer = io.open(outgoing, "w", encoding="utf-8", newline="\n")  # noqa: UP020, SIM115
    return Wire(anyio.wrap_file(reader), anyio.wrap_file(writer))
