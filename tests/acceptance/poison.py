"""The command line with a chunker that some texts poison: a stand-in for a parser with faults, in test_poison.

A text that holds a poison's marker does to its worker process what the poison's name says.
"""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from typing import TYPE_CHECKING, Final

import numpy as np
from dramatiq.threading import raise_thread_exception

from actors import watching
from ops import cli, processes
from pipeline.chunking import chunk
from pipeline.stages import chunk as stage
from pipeline.store import workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.records import Chunk

MEGABYTE: Final = 1_000_000


def marker(poison: str) -> str:
    """Return the text that poisons a file."""
    return f"poison: {poison}."


def hang_and_hold_the_gil() -> None:
    """Never return, as a parser in a loop that does not let go of the interpreter."""
    while True:
        ctypes.PyDLL(None).sleep(1_000)


def hang() -> None:
    """Never return, with the rest of the process going on."""
    while True:
        ctypes.CDLL(None).sleep(1_000)


def read_nowhere() -> None:
    """Follow a pointer that leads nowhere."""
    ctypes.string_at(0)


def hoard() -> None:
    """Pile up objects until there is no memory."""
    pile = []
    while True:
        pile.append(np.empty(MEGABYTE, np.uint8))


def hoard_natively() -> None:
    """Pile up memory beneath the interpreter, and use what was refused."""
    system = ctypes.CDLL(None)
    system.malloc.restype, system.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    while True:
        ctypes.memset(system.malloc(MEGABYTE) or 0, 1, 1)


def loop() -> None:
    """Never return, in Python."""
    while True:
        pass


def fall_over() -> None:
    """Raise an error of one's own."""
    message = "unexpected token"
    raise ValueError(message)


def lose_a_thread() -> None:
    """Raise, in the thread that proves that the process lives, what it does not expect."""
    for thread in threading.enumerate():
        if thread.name == "lifeline":
            raise_thread_exception(thread.ident, ValueError)
    threading.Event().wait()


POISONS: Final[dict[str, Callable[[], None]]] = {
    "hang and hold the GIL": hang_and_hold_the_gil,
    "hang": hang,
    "abort": os.abort,
    "read nowhere": read_nowhere,
    "hoard": hoard,
    "hoard natively": hoard_natively,
    "lose a thread": lose_a_thread,
    "loop": loop,
    "fall over": fall_over,
}


def chunks_of(source: str, language: str, *, limit: int = 1_500) -> list[Chunk]:
    """Chunk a text, if it is no poison."""
    for name, effect in POISONS.items():
        if marker(name) in source:
            effect()
    return chunk(source, language, limit=limit)


def main() -> None:
    """Run the command line; a worker leaves no core file, and is given up and replaced sooner than usual.

    Nobody but its replacement ever takes it for dead.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    vars(stage)["chunks_of"] = chunks_of
    watching.GRACE_SECONDS = 1.0  # type: ignore[misc]
    watching.PULSE_SECONDS = 6.0  # type: ignore[misc]
    processes.RESTART = (0.0, 0.05)  # type: ignore[assignment, misc]
    workers.STALE_SECONDS = 600  # type: ignore[misc]
    cli.main()


if __name__ == "__main__":
    main()
