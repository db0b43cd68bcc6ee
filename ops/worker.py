"""A worker process: the actors of its stages on a broker, until it is asked to end or its parent is gone."""

from __future__ import annotations

import os
import resource
import signal
import threading
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog

from ops import logs, notifying
from ops.processes import Child, Group, flush
from ops.settings import MEGABYTE
from pipeline.states import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from actors.broker import LeaseBroker
    from ops.settings import Settings
    from pipeline.stages.workbench import Workbench

ORPHAN_CHECK: Final = 1.0
HEED_MILLISECONDS: Final = 200
"""How long an idle thread of Dramatiq may take to hear that it should end; the end of a process awaits it twice."""
ENROL_CHECK: Final = 0.05
ALIVE_SECONDS: Final = 60.0
"""How long the process may stand still beyond what a file's native code may hold it up."""
DRAIN_ORDER: Final = (Stage.WRITE, Stage.EMBED, Stage.CHUNK, Stage.SCAN)
"""Later stages first, so that what is in flight drains."""

log = structlog.get_logger("penstock")


def run(settings: Settings, stages: Sequence[Stage], processes: int, threads: int) -> int:
    """Run worker processes for some stages in the foreground; returns the exit code."""
    from ops.database import open_database

    logs.configure(settings)
    notifying.services(settings.penstock_notify_urls)
    url = open_database(settings)
    preload()
    return Group(plan(settings, url, [(tuple(stages), threads)] * processes)).run()


def plan(settings: Settings, url: str, places: Sequence[tuple[tuple[Stage, ...], int]]) -> list[Child]:
    """Return a child for every (stages, threads)."""
    parent = os.getpid()
    return [
        Child("+".join(stages), partial(serve, settings, url, stages, threads, parent), threads)
        for stages, threads in places
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
    import actors.notifier
    import actors.scanner
    import actors.tuner
    import actors.writer  # noqa: F401 - imported for the children


def serve(settings: Settings, url: str, stages: tuple[Stage, ...], threads: int, parent: int, place: Child) -> int:
    """Be a worker process until SIGTERM, or until the parent is gone; a batch under way is finished first."""
    from dramatiq import Worker

    from actors.caretaker import Caretaker
    from actors.notifier import Notifier
    from actors.tuner import Tuner

    ended = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    bound_memory(settings.penstock_worker_memory_mb)
    threading.excepthook = partial(leave_with_thread, ended)
    bench, broker = equip(settings, url, stages, threads, place, ended)
    broker.emit_after("process_boot")  # as Dramatiq's own runner does: the time limits begin to be watched
    worker = Worker(broker, queues=set(map(str, stages)), worker_threads=threads, worker_timeout=HEED_MILLISECONDS)
    worker.start()
    caretaker = Caretaker(broker, bench, settings.job_status_retention_days)
    caretaker.start()
    notifier = Notifier(
        broker, bench.engine, settings.notify_rules(), notifying.services(settings.penstock_notify_urls)
    )
    notifier.start()
    tuner = Tuner(broker, bench.engine)
    tuner.start()
    patience = ALIVE_SECONDS + settings.penstock_batch_timeout_seconds
    while os.getppid() == parent:
        place.deadlines.live(patience)
        if broker.worker_id:
            place.deadlines.enrol()
        if ended.wait(ORPHAN_CHECK if place.deadlines.enrolled else ENROL_CHECK):
            break
    place.deadlines.rest()
    caretaker.end()
    notifier.end()
    tuner.end()
    if not _answers(bench.engine):
        log.warning("worker.left", reason="the database does not answer; what this worker held is handed out again")
        return 0
    worker.stop()
    broker.close()
    bench.engine.dispose()
    return 0


def _answers(engine: Engine) -> bool:
    """Return whether the server is there: without it no batch can be ended, and nothing is worth waiting for."""
    from sqlalchemy.exc import OperationalError

    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True


def bound_memory(megabytes: int) -> None:
    """Bound the memory of this process (0: not at all), so that a file that wants too much fails and nothing else.

    The bound is on what it allocates for itself, stacks of threads included. Only Linux keeps it.
    """
    if megabytes:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        bound = megabytes * MEGABYTE
        resource.setrlimit(resource.RLIMIT_DATA, (bound if most == resource.RLIM_INFINITY else min(bound, most), most))


def leave_with_thread(ended: Event, crash: threading.ExceptHookArgs) -> None:
    """End the process with a thread that crashed: without it, it would look alive and do nothing."""
    if ended.is_set():
        return
    name = crash.thread.name if crash.thread else ""
    error = crash.exc_value
    log.critical("worker.crashed", thread=name, exc_info=(crash.exc_type, error, crash.exc_traceback))
    flush()
    os._exit(1)


def equip(
    settings: Settings, url: str, stages: tuple[Stage, ...], threads: int, place: Child, ended: Event
) -> tuple[Workbench, LeaseBroker]:
    """Return the workbench and the broker of this process, its actors declared."""
    from dramatiq.middleware import CurrentMessage, TimeLimit

    from actors import chunker, embedder, scanner, writer
    from actors.broker import LeaseBroker
    from actors.metering import MeteredEmbedder
    from actors.runtime import Runtime, Watch
    from actors.watching import time_limits
    from ops.office import embedder_for, mirrors
    from pipeline.stages.workbench import Workbench
    from pipeline.store.engine import connect

    session = f"penstock {'+'.join(stages)} {uuid4().hex[:12]}"  # of this process alone: the caretaker ends it by name
    engine = connect(url, pool_size=threads + 2, application_name=session)
    order = [stage for stage in DRAIN_ORDER if stage in stages]
    interrupter = TimeLimit(interval=min(1_000, round(250 * settings.penstock_batch_timeout_seconds)))
    broker = LeaseBroker(
        engine,
        stages=order,
        threads=threads,
        replaces=place.replaces,
        middleware=[interrupter, CurrentMessage()],
    )
    choose = embedder_for(settings)
    metered = lambda name, model: MeteredEmbedder(choose(name, model), broker.meter)  # noqa: E731 - it says no more
    bench = Workbench(engine, settings.limits(), metered, mirrors(settings))
    watch = Watch(time_limits(settings.penstock_batch_timeout_seconds), place.deadlines, interrupter)

    def retire() -> None:
        broker.hands.shut()  # the next batch would suffer for this one
        ended.set()

    runtime = Runtime(bench, watch, broker.meter, retire)
    for doorman in (scanner, chunker, embedder, writer):
        doorman.declare(broker, runtime)
    return bench, broker
