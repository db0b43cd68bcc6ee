"""The embedded mode's supervisor: one detached process a home, which keeps workers alive while they are needed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Final

from ops import logs, notifying, worker
from ops.keeper import kept_server
from ops.processes import Group
from pipeline.errors import DatabaseError, PenstockError
from pipeline.states import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ops.settings import Settings

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 60.0
"""More than a group gives its children, what it then waits for them, and what the keeper waits for the server."""
LOCK_ATTEMPTS: Final = 10
LOOK_SECONDS: Final = 5.0
"""How often the supervisor asks whether anything is active."""


def ensure(settings: Settings) -> None:
    """Make sure that a supervisor runs for this home; called after a submission, it cannot leave in between."""
    if settings.database_url is not None or running(settings):
        return
    notifying.services(settings.penstock_notify_urls)  # or the supervisor would refuse them where nobody reads it
    log_file = settings.penstock_home / "workers.log"
    with log_file.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.cli", "up", "--foreground"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=settings.penstock_home,
            env=os.environ | {"PENSTOCK_HOME": str(settings.penstock_home), "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while not running(settings):
        # Another command may have started one at the same moment: then ours leaves, and that is fine.
        if process.poll() not in {None, 0} or time.monotonic() > deadline:
            raise PenstockError(f"the worker processes did not start; {log_file} says why")
        time.sleep(0.02)


def running(settings: Settings) -> bool:
    """Return whether a supervisor holds this home's lock."""
    try:
        with lock_path(settings).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def lock_path(settings: Settings) -> Path:
    """Return the file that a supervisor holds locked while it runs; it holds its pid."""
    return settings.penstock_home / "supervisor.lock"


def stop(settings: Settings) -> bool:
    """Ask the supervisor to end and wait until it has; False when none runs."""
    if not running(settings):
        return False
    pid = _pid(settings)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while running(settings):
        if time.monotonic() > deadline:
            raise PenstockError(f"the supervisor (pid {pid}) did not end within {STOP_SECONDS:.0f} s; see workers.log")
        time.sleep(0.05)
    return True


def _pid(settings: Settings) -> int:
    """Return the supervisor's pid, which it writes just after it took the lock."""
    deadline = time.monotonic() + STOP_SECONDS
    while not (text := lock_path(settings).read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return int(text)


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[IO[str] | None]:
    """Hold the supervisor's lock, with our pid in it; None when another process holds it."""
    with lock_path(settings).open("a+") as lock:
        # Whoever only asks whether one runs holds it for an instant, too.
        if not any(_taken(lock) for _ in range(LOCK_ATTEMPTS)):
            yield None
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        # The workers must not hold the lock when their supervisor is gone.
        os.register_at_fork(after_in_child=lock.close)
        yield lock


def _taken(lock: IO[str]) -> bool:
    """Try to lock, and rest a moment when another process holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.05)
        return False
    return True


def run(settings: Settings) -> int:
    """Supervise in the foreground until told to end, or until nothing was active for PENSTOCK_IDLE_SECONDS."""
    from ops.database import open_database

    logs.configure(settings)
    notifying.services(settings.penstock_notify_urls)
    settings.penstock_home.mkdir(parents=True, exist_ok=True)
    while True:
        with locked(settings) as lock:
            if lock is None:
                return 0
            url = open_database(settings)
            worker.preload()
            idle = _supervise(settings, url, lock)
        # The lock is free: a submission from now on starts a supervisor; one from just before is ours to serve.
        if not idle.over or not idle.active():
            break
    if idle.over:
        _stop_server(settings, url)
    return 0


def _supervise(settings: Settings, url: str, lock: IO[str]) -> Idle:
    """Keep the workers alive, and the server where it is ours, until told to end or idle; returns which it was.

    A home that was deleted has no work, and what is made in its place is another supervisor's.
    """
    idle = Idle(url, settings.penstock_idle_seconds)
    with kept_server(settings) as tend_server:

        def over() -> bool:
            if not _stands(lock, settings):
                return True
            tend_server()
            return idle.expired()

        Group(worker.plan(settings, url, places(settings))).run(until=over)
    return idle


def _stands(lock: IO[str], settings: Settings) -> bool:
    """Return whether the home still has the lock that we hold."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), lock_path(settings).stat())
    except FileNotFoundError:
        return False


def places(settings: Settings) -> list[tuple[tuple[Stage, ...], int]]:
    """Return the worker processes of an embedded installation, by the machine's cores: (stages, threads) each.

    Each job that runs may be scanned, so that a small repository does not wait until a huge one is listed (R16).
    """
    cores = os.cpu_count() or 1
    waits = settings.penstock_embedder != "local"
    embedders = [((Stage.EMBED,), settings.ollama_concurrency)] if waits else [((Stage.EMBED,), 1)] * cores
    scans = settings.max_concurrent_indexing_jobs
    return [((Stage.SCAN,), scans), *[((Stage.CHUNK,), 1)] * cores, *embedders, ((Stage.WRITE,), 1)]


class Idle:
    """Knows since when nothing is active; asks the database every few seconds, on a connection of its own each time."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._asked_at = self._active_at = time.monotonic()
        self.over = False

    def expired(self) -> bool:
        """Return whether nothing was active for long enough."""
        now = time.monotonic()
        if now - self._asked_at >= min(LOOK_SECONDS, self._seconds):
            self._asked_at = now
            if self.active():
                self._active_at = time.monotonic()
        self.over = now - self._active_at > self._seconds
        return self.over

    def active(self) -> bool:
        """Return whether a job may need a worker, or an index is built; a server that is away is no reason to leave."""
        from sqlalchemy.exc import SQLAlchemyError

        from pipeline.store import jobs, vectors
        from pipeline.store.engine import connect, reading

        engine = connect(self._url, pool_size=1, application_name="penstock supervisor")
        try:
            with reading(engine) as connection:
                return jobs.anything_active(connection) or vectors.under_way(connection)
        except (DatabaseError, SQLAlchemyError):
            return True
        finally:
            engine.dispose()


def _stop_server(settings: Settings, url: str) -> None:
    """Stop the embedded server after the workers left because nothing was active, unless somebody else is connected."""
    from ops import postgres
    from pipeline.store import schema
    from pipeline.store.engine import connect, reading

    engine = connect(url, pool_size=1, application_name="penstock supervisor")
    with reading(engine) as connection:
        others = schema.other_sessions(connection)
    engine.dispose()
    if not others:
        postgres.stop(settings.penstock_home)
