"""Penstock's broker beside stock dramatiq-pg, in one run: messages per second, and the CPU time that they cost."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Final

import dramatiq
import psycopg
from dramatiq_pg import PostgresBroker, generate_init_sql
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from actors.broker import LeaseBroker
from ops import database, postgres
from pipeline.store.engine import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq.broker import Broker

PROCESSES: Final = 2
THREADS: Final = 4
TASK_SECONDS: Final = 0.02
TIMEOUT_SECONDS: Final = 120
LEFT: Final = "SELECT count(*) FROM dramatiq.queue WHERE state IN ('queued', 'consumed')"


@dataclass(frozen=True, slots=True)
class Result:
    """What a broker did: messages per second sent and drained, and the CPU seconds of its client processes."""

    noops_per_second: float
    tasks_per_second: float
    cpu_seconds: float


def ours(url: str) -> Broker:
    """Return Penstock's broker."""
    return LeaseBroker(connect(url, pool_size=THREADS + 1), threads=THREADS)


def stock(url: str) -> Broker:
    """Return dramatiq-pg's broker as it comes."""
    broker: Broker = PostgresBroker(url=url, results=False)
    return broker


BROKERS: Final[dict[str, Callable[[str], Broker]]] = {"penstock": ours, "dramatiq-pg": stock}


def declare(broker: Broker) -> tuple[dramatiq.Actor[[int], None], dramatiq.Actor[[int], None]]:
    """Declare an actor that does nothing and one that takes its time, on one queue."""
    pause = Event()

    @dramatiq.actor(broker=broker)
    def noop(_number: int) -> None:
        """Do nothing."""

    @dramatiq.actor(broker=broker)
    def task(_number: int) -> None:
        """Take 20 ms."""
        pause.wait(TASK_SECONDS)

    return noop, task


def work(name: str, url: str) -> None:
    """Be a worker process until SIGTERM."""
    ending = Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    broker = BROKERS[name](url)
    declare(broker)
    dramatiq.Worker(broker, worker_threads=THREADS).start()
    ending.wait()
    os._exit(0)  # what is measured is over, and stock dramatiq-pg would wait for its locks


def measure(name: str, url: str, noops: int, tasks: int) -> Result:
    """Send to worker processes of their own, and wait until they have done it."""
    began = cpu_seconds()
    command = [sys.executable, "-m", "ops.bench.broker", "--work", name, url]
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(PROCESSES)]  # noqa: S603
    noop, task = declare(BROKERS[name](url))
    try:
        drain(url, noop, PROCESSES)  # they have started
        rates = drain(url, noop, noops), drain(url, task, tasks)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    return Result(*rates, cpu_seconds() - began)


def drain(url: str, actor: dramatiq.Actor[[int], None], count: int) -> float:
    """Send `count` messages, wait for the last, and return how many were done a second."""
    began = monotonic()
    for number in range(count):
        actor.send(number)
    with psycopg.connect(url, autocommit=True) as connection:
        while (left := _number(connection)) and monotonic() - began < TIMEOUT_SECONDS:
            Event().wait(0.05)
    return (count - left) / (monotonic() - began)


def _number(connection: psycopg.Connection) -> int:
    row = connection.execute(LEFT).fetchone()
    return int(row[0]) if row else 0


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(noops: int, tasks: int) -> str:
    """Measure both brokers, each in a database of its own, and return a table of them with the ratios."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        try:
            url = postgres.ensure(home)
            mine, theirs = (measure(name, _new_database(url, name), noops, tasks) for name in BROKERS)
        finally:
            postgres.stop(home, "immediate")
    return _table(mine, theirs)


def _new_database(url: str, broker: str) -> str:
    name = f"bench_{broker}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    new = make_url(url).set(database=name).render_as_string(hide_password=False)
    if broker == "penstock":
        database.upgrade(new)
    else:
        with psycopg.connect(new) as connection:
            connection.execute(generate_init_sql())
    return new


def _table(mine: Result, theirs: Result) -> str:
    rows = [(field, getattr(mine, field), getattr(theirs, field)) for field in Result.__slots__]
    head = f"{'':20}{'penstock':>12}{'dramatiq-pg':>14}{'ratio':>9}"
    return "\n".join([head, *(f"{field:20}{a:12.1f}{b:14.1f}{a / b:9.2f}" for field, a, b in rows)])


def main() -> None:
    """Print the comparison; `--work` is how it starts its worker processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noops", type=int, default=3_000)
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--work", nargs=2, metavar=("BROKER", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
    else:
        sys.stdout.write(f"{compare(options.noops, options.tasks)}\n")


if __name__ == "__main__":
    main()
