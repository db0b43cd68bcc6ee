"""A worker process: the actors of its stages on a broker, until it is asked to end or its parent is gone."""

from __future__ import annotations

import os
import signal
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Final

from ops import logs
from ops.processes import Child, Group
from pipeline.states import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.broker import LeaseBroker
    from ops.settings import Settings
    from pipeline.stages.workbench import Workbench

ORPHAN_CHECK: Final = 1.0
DRAIN_ORDER: Final = (Stage.WRITE, Stage.EMBED, Stage.CHUNK, Stage.SCAN)
"""Later stages first, so that what is in flight drains."""


def run(settings: Settings, stages: Sequence[Stage], processes: int, threads: int) -> int:
    """Run worker processes for some stages in the foreground; returns the exit code."""
    from ops.database import open_database

    logs.configure(settings)
    url = open_database(settings)
    preload()
    return Group(plan(settings, url, [(tuple(stages), threads)] * processes)).run()


def plan(settings: Settings, url: str, places: Sequence[tuple[tuple[Stage, ...], int]]) -> list[Child]:
    """Return a child for every (stages, threads)."""
    parent = os.getpid()
    return [
        Child("+".join(stages), partial(serve, settings, url, stages, threads, parent)) for stages, threads in places
    ]


def preload() -> None:
    """Import before forking what every child needs, so that children start at once and share its memory."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Milliseconds that a consumer rests after the connection was lost; Dramatiq reads this when it is imported.
    os.environ.setdefault("dramatiq_restart_delay", "500")
    import actors.broker
    import actors.caretaker
    import actors.chunker
    import actors.embedder
    import actors.scanner
    import actors.writer  # noqa: F401 - imported for the children


def serve(settings: Settings, url: str, stages: tuple[Stage, ...], threads: int, parent: int) -> int:
    """Be a worker process until SIGTERM, or until the parent is gone; a batch under way is finished first."""
    from dramatiq import Worker

    from actors.caretaker import Caretaker

    ended = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    bench, broker = equip(settings, url, stages, threads)
    worker = Worker(broker, queues=set(map(str, stages)), worker_threads=threads)
    worker.start()
    caretaker = Caretaker(broker, bench, settings.job_status_retention_days)
    caretaker.start()
    while not ended.wait(ORPHAN_CHECK):
        if os.getppid() != parent:
            break
    caretaker.end()
    worker.stop()
    broker.close()
    bench.engine.dispose()
    return 0


def equip(settings: Settings, url: str, stages: tuple[Stage, ...], threads: int) -> tuple[Workbench, LeaseBroker]:
    """Return the workbench and the broker of this process, its actors declared."""
    from dramatiq.middleware import CurrentMessage, TimeLimit

    from actors import chunker, embedder, scanner, writer
    from actors.broker import LeaseBroker
    from actors.runtime import Runtime
    from ops.office import embedder_for
    from pipeline.stages.workbench import Workbench
    from pipeline.store.engine import connect

    engine = connect(url, pool_size=threads + 2, application_name="penstock " + "+".join(stages))
    bench = Workbench(engine, settings.limits(), embedder_for(settings))
    order = [stage for stage in DRAIN_ORDER if stage in stages]
    broker = LeaseBroker(engine, stages=order, threads=threads, middleware=[TimeLimit(), CurrentMessage()])
    runtime = Runtime(bench)
    for doorman in (scanner, chunker, embedder, writer):
        doorman.declare(broker, runtime)
    return bench, broker
