"""A worker process for the broker's tests: four stages whose subjects say what is to happen to them.

`plain…` has its effect; `relay…` hands on to the next stage with it; `hang…` stands still within its transaction at its
first delivery; `kill…` kills its process at its first delivery.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from threading import Event
from typing import TYPE_CHECKING, Final, cast

import dramatiq
from dramatiq.middleware import CurrentMessage, Retries
from sqlalchemy import text

from actors.broker import LeaseBroker
from pipeline.states import Stage
from pipeline.store import workers
from pipeline.store.engine import connect
from tests.integration.broker_tools import JOB

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from actors.lease import LeasedMessage

EFFECTS: Final = "CREATE TABLE effects (stage text, subject text, deliveries integer)"
EFFECT: Final = text("INSERT INTO effects VALUES (:stage, :subject, :deliveries)")
NEXT: Final = dict(zip(Stage, list(Stage)[1:], strict=False))


def declare(broker: LeaseBroker, engine: Engine) -> None:
    """Declare an actor a stage."""
    for stage in Stage:

        @dramatiq.actor(broker=broker, actor_name=stage, queue_name=stage)
        def work(subject: str, stage: Stage = stage) -> None:
            act(engine, cast("LeasedMessage", CurrentMessage.get_current_message()), stage, subject)


def act(engine: Engine, message: LeasedMessage, stage: Stage, subject: str) -> None:
    """Do what the subject asks for, in one transaction with the completion of the message."""
    with engine.begin() as connection:
        connection.execute(EFFECT, {"stage": stage, "subject": subject, "deliveries": message.deliveries})
        message.complete(connection)
        if subject.startswith("relay") and stage in NEXT:
            message.send(connection, NEXT[stage], subject, JOB)
        if message.deliveries == 1 and subject.startswith("hang"):
            say("hanging")
            Event().wait()
        if message.deliveries == 1 and subject.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)


def say(word: str) -> None:
    """Tell the test what point was reached."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    """Work until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stale", type=int, default=workers.STALE_SECONDS)
    options = parser.parse_args()
    workers.STALE_SECONDS = options.stale  # type: ignore[misc]
    engine = connect(options.url, pool_size=options.threads + 1, application_name=f"worker {os.getpid()}")
    retries = Retries(min_backoff=100)
    stages = tuple(reversed(Stage))
    broker = LeaseBroker(engine, stages=stages, threads=options.threads, middleware=[CurrentMessage(), retries])
    declare(broker, engine)
    serve(broker, options.threads)
    broker.close()
    engine.dispose()


def serve(broker: LeaseBroker, threads: int) -> None:
    """Run Dramatiq's worker until SIGTERM."""
    ending = Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=200)
    worker.start()
    say("ready")
    ending.wait()
    worker.stop()


if __name__ == "__main__":
    main()
