"""The keeper of the embedded server, a part of the supervisor: it starts a server again that nobody asked to end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import psutil
import structlog

from ops import postgres
from ops.cluster import Cluster
from ops.processes import become, ended
from pipeline.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ops.settings import Settings

LOOK_SECONDS: Final = 0.5
"""How often the keeper looks whether the embedded server's process lives."""
RESTART: Final = (0.0, 1.0, 5.0, 15.0)
"""Seconds before the server is started again, by how often that failed."""
WAIT_SECONDS: Final = 5.0
"""How long the keeper waits, at its end, for a start that it has begun."""

log = structlog.get_logger("penstock")


@contextlib.contextmanager
def kept_server(settings: Settings) -> Iterator[Callable[[], None]]:
    """Yield what to call again and again so that the embedded server keeps running; a user's own is left alone."""
    if settings.database_url is not None:
        yield lambda: None
        return
    keeper = Keeper(settings.penstock_home)
    try:
        yield keeper.tend
    finally:
        keeper.end()


class Keeper:
    """Starts the embedded server again when its process has ended: in a process of its own, for recovery takes time.

    Whoever wants the server to stay down ends the supervisor first, as `penstock down` does.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._data = Cluster(home.expanduser().resolve()).data
        self._server: psutil.Process | None = None
        self._starter = 0
        self._failures = 0
        self._due_at = 0.0

    def tend(self) -> None:
        """Look after the server, when it is time; never waits."""
        if self._starter:
            self._follow_start()
        elif time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + LOOK_SECONDS
            if not self._lives():
                self._begin_start()

    def end(self) -> None:
        """Wait a moment for a start that has begun, so that whoever stops the server next finds it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self._starter and time.monotonic() < deadline:
            self._follow_start()
            time.sleep(0.02)
        if self._starter:
            os.kill(self._starter, signal.SIGKILL)
            os.waitpid(self._starter, 0)

    def _lives(self) -> bool:
        if self._server is None or not _runs(self._server):
            self._server = _server_in(self._data)  # somebody else may have started it
        return self._server is not None

    def _begin_start(self) -> None:
        retry_in = RESTART[min(self._failures + 1, len(RESTART) - 1)]
        if not self._failures:
            log.warning("server.died", home=str(self._home))
        try:
            self._starter = os.fork()
        except OSError as error:
            log.warning("server.refused", reason=str(error), retry_in=retry_in)
            self._note(failed=True)
            return
        if self._starter == 0:
            become(partial(_start_server, self._home, retry_in))

    def _follow_start(self) -> None:
        status = ended(self._starter)
        if status is not None:
            self._starter = 0
            self._note(failed=status != 0)

    def _note(self, *, failed: bool) -> None:
        self._failures = self._failures + 1 if failed else 0
        self._due_at = time.monotonic() + RESTART[min(self._failures, len(RESTART) - 1)]


def _start_server(home: Path, retry_in: float) -> int:
    """Start the server and say so, or why not; returns an exit code."""
    began = time.monotonic()
    try:
        postgres.ensure(home)
    except PenstockError as error:
        log.error("server.refused", reason=str(error), retry_in=retry_in)  # noqa: TRY400 - the reason says it all
        return 1
    log.info("server.started", seconds=round(time.monotonic() - began, 2))
    return 0


def _server_in(data: Path) -> psutil.Process | None:
    """Return the living server process of a data folder; a stranger with its number is not taken for it."""
    try:
        process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        ours = "postgres" in process.name() and process.cwd() == str(data)
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return process if ours and _runs(process) else None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
