"""The embedded PostgreSQL server: one a home folder, started by whoever needs it first and shared by all."""

from __future__ import annotations

import fcntl
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

import psutil
from psycopg.pq import PGconn, Ping

from ops.cluster import PORT, Cluster
from pipeline.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

START_SECONDS: Final = 300
"""Recovery after a crash may have to redo two gigabytes of WAL."""
STOP_SECONDS: Final = 120
POLL_SECONDS: Final = 0.05
LOG_BYTES: Final = 10_000_000
SIGNALS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def ensure(home: Path) -> str:
    """Return the libpq URL of the server under `home`, which is created and started where it is not up.

    Any number of processes may call this at once, at any time; it costs milliseconds when the server answers.
    Raises DatabaseError when the server cannot be made or started.
    """
    cluster = _cluster(home)
    if not _answers(cluster):
        with _locked(cluster) as lock:
            _bring_up(cluster, lock)
    return cluster.url


def running(home: Path) -> bool:
    """Say whether the server under `home` is up, be it still recovering."""
    return _ping(_cluster(home)) in {Ping.OK, Ping.REJECT}


def url_if_up(home: Path) -> str | None:
    """Return the libpq URL of the server under `home` if it answers; nothing is started, and nothing made."""
    cluster = _cluster(home)
    return cluster.url if _answers(cluster) else None


def stop(home: Path, mode: Literal["smart", "fast", "immediate"] = "fast") -> bool:
    """Stop the server under `home` and wait for its end; False when there is none.

    One that is just being made or started is waited for, and stopped. Raises DatabaseError when it is still there
    after two minutes.
    """
    cluster = _cluster(home)
    if not cluster.lock.exists():
        return False
    with _locked(cluster):
        postmaster = _postmaster(cluster)
        if postmaster is None:
            return False
        _end(postmaster, SIGNALS[mode])
        cluster.remove_socket_folder()
    return True


def _end(postmaster: psutil.Process, how: signal.Signals) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    with suppress(psutil.NoSuchProcess):
        postmaster.send_signal(how)
        while postmaster.status() != psutil.STATUS_ZOMBIE:  # nobody may be there to reap it
            if time.monotonic() > deadline:
                message = f"the embedded PostgreSQL (process {postmaster.pid}) does not stop; end its sessions first"
                raise DatabaseError(message)
            time.sleep(POLL_SECONDS)


def _cluster(home: Path) -> Cluster:
    return Cluster(home.expanduser().resolve())


@contextmanager
def _locked(cluster: Cluster) -> Iterator[int]:
    """Let one process at a time make, start or stop the server; yields the descriptor of the lock."""
    try:
        cluster.home.mkdir(parents=True, exist_ok=True)
        with cluster.lock.open("w") as lock:
            cluster.hand_over(cluster.lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock.fileno()
    except OSError as error:
        message = f"cannot set up PostgreSQL under {cluster.home}: {error}; set PENSTOCK_HOME to a folder of yours"
        raise DatabaseError(message) from error


def _bring_up(cluster: Cluster, lock: int) -> None:
    if not cluster.data.exists():
        cluster.make(descriptor=lock)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(cluster):
        if _postmaster(cluster) is None:
            _start(cluster)
        elif time.monotonic() > deadline:
            message = f"the embedded PostgreSQL under {cluster.home} does not answer:\n{cluster.log_tail()}"
            raise DatabaseError(message)
        else:  # starting, recovering or shutting down
            time.sleep(POLL_SECONDS)


def _start(cluster: Cluster) -> None:
    """Start the server with a lock in its hands, which all its processes keep until the last of them has ended."""
    _kill_orphans(cluster)
    with (cluster.home / "postgres.alive").open("w") as alive:
        _lock_or_refuse(alive, cluster)
        _remove_stale_files(cluster)
        cluster.start(timeout_seconds=START_SECONDS, descriptor=alive.fileno())


def _kill_orphans(cluster: Cluster) -> None:
    """End the sessions that outlive a killed server, as it would have done itself."""
    while orphans := _processes(cluster):
        for orphan in orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        time.sleep(POLL_SECONDS)


def _lock_or_refuse(alive: TextIO, cluster: Cluster) -> None:
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = (
            f"a PostgreSQL that this process cannot see, such as another container's, uses {cluster.home}; stop it,"
            " or set PENSTOCK_HOME to another folder"
        )
        raise DatabaseError(message) from error


def _remove_stale_files(cluster: Cluster) -> None:
    """Remove lock files, which may name a stranger's process by now, and a log that has grown."""
    for file in (cluster.data / "postmaster.pid", cluster.sockets / f".s.PGSQL.{PORT}.lock"):
        file.unlink(missing_ok=True)
    if cluster.log.exists() and cluster.log.stat().st_size > LOG_BYTES:
        cluster.log.replace(cluster.log.with_name("log.old"))


def _postmaster(cluster: Cluster) -> psutil.Process | None:
    """Return the living server process, or None; a stranger with its number is not taken for it."""
    try:
        pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return next((process for process in _processes(cluster) if process.pid == pid), None)


def _processes(cluster: Cluster) -> list[psutil.Process]:
    """Return the living processes of this cluster: every one of them works in the data folder."""
    return [process for process in psutil.process_iter(["name", "status"]) if _belongs(process, cluster)]


def _belongs(process: psutil.Process, cluster: Cluster) -> bool:
    if "postgres" not in (process.info["name"] or "") or process.info["status"] == psutil.STATUS_ZOMBIE:
        return False
    try:
        return process.cwd() == str(cluster.data)
    except (psutil.Error, OSError):
        return False


def _answers(cluster: Cluster) -> bool:
    return _ping(cluster) == Ping.OK


def _ping(cluster: Cluster) -> Ping:
    if not cluster.owns_sockets():
        return Ping.NO_RESPONSE
    return Ping(PGconn.ping(f"{cluster.url}&connect_timeout=5".encode()))
