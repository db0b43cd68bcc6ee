"""What a worker process holds: its messages, and the proof that it lives."""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from importlib.metadata import version
from threading import Condition, Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final

import psycopg
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.logging import get_logger
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import LeaseLost
from pipeline.store import messages, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Engine

    from actors.metering import Meter
    from pipeline.states import Stage
    from pipeline.store.messages import Lease

POLL_SECONDS: Final = 1.0
"""How long a message that fell due without news may wait; an idle process looks this often."""
BEAT_SECONDS: Final = 2.0
LISTEN_SECONDS: Final = 0.5
"""How long the service thread takes to see that it should end."""
BREATH_SECONDS: Final = 0.005
"""The least time between two wake-ups: a burst of news costs a few, not one a message."""
RECONNECT_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
AGAIN_SECONDS: Final = 1.0
"""When a failed attempt is made again that no middleware took care of."""
ERROR_LENGTH: Final = 2_000
UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def _nothing() -> None:
    """Do nothing."""


def cleaned(text: str) -> str:
    """Return a text that PostgreSQL can hold: NUL bytes and lone surrogates are replaced."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


class LeasedMessage(MessageProxy):
    """A message in this process's hands: what a stage knows as its Delivery."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(Message.decode(lease.body.encode()))  # type: ignore[no-untyped-call]  # Dramatiq's
        self.lease = lease
        self.deliveries = lease.deliveries
        self.deaths = lease.deaths
        self.job_id = lease.lane
        self.on_progress: Callable[[], None] = _nothing
        self.settled = False
        self.error: str | None = None

    def send(self, connection: Connection, stage: Stage, subject: str, job_id: UUID, *, delay: float = 0.0) -> None:
        """Queue the stage's message for `subject`, due in `delay` seconds; part of the caller's transaction."""
        messages.send(connection, stage, subject, job_id, delay=delay)

    def complete(self, connection: Connection) -> None:
        """Delete the message inside the caller's transaction. Raises LeaseLost when another worker took it over."""
        self._settle(held=self.finish(connection))

    def postpone(self, connection: Connection, delay: float, reason: str) -> None:
        """Give the message back, due in `delay` seconds, with fresh counts and what it waits for. Raises LeaseLost."""
        self._settle(held=messages.postpone(connection, self.lease, delay, reason=reason))

    def progressed(self, connection: Connection) -> bool:
        """Note that the work advances, inside the transaction that proves it: neither poison nor hung.

        False when another worker took the message over.
        """
        self.on_progress()
        return messages.spare(connection, self.lease)

    def finish(self, connection: Connection) -> bool:
        """Delete the message; False when another worker took it over."""
        return messages.finish(connection, self.lease)

    def try_again(self, connection: Connection) -> None:
        """Give the message back after a failed attempt that nobody took care of; the delivery counts."""
        messages.give_back(connection, self.lease, delay=AGAIN_SECONDS, error=self.error)

    def put_back(self, connection: Connection) -> None:
        """Give the message back untouched."""
        messages.give_back_unused(connection, self.lease)

    def reject(self, connection: Connection) -> None:
        """Set the message aside for good."""
        messages.reject(connection, self.lease, self.error)

    def stuff_exception(self, exception: BaseException) -> None:
        """Remember why the attempt failed, for the acknowledgement that follows."""
        super().stuff_exception(exception)  # type: ignore[no-untyped-call]  # Dramatiq's
        self.error = cleaned(repr(exception))[:ERROR_LENGTH]

    def _settle(self, *, held: bool) -> None:
        if not held:
            text = (
                f"message {self} was given to another worker meanwhile: this attempt is rolled back, nothing is to do"
            )
            raise LeaseLost(text)
        self.settled = True


class Hands:
    """The messages that a process holds: never more than it has threads, and the first stages first.

    Dramatiq runs one consumer thread a queue. They are interchangeable here: whichever is free claims for all queues,
    one at a time, so that a process asks the server once and not once a queue.
    """

    def __init__(self, stages: Sequence[str], threads: int) -> None:
        self._rank = {stage: rank for rank, stage in enumerate(stages)}
        self._threads = threads
        self._queues: list[str] = []
        self._held: set[int] = set()
        self._waiting: deque[LeasedMessage] = deque()
        self._changed = Condition()
        self._open = True
        self._claiming = False
        self._news = True
        self._next_look = 0.0

    @property
    def held(self) -> list[int]:
        """The claims of this process that are not settled, as a copy."""
        with self._changed:
            return list(self._held)

    def serve(self, queue: str) -> None:
        """Claim from this queue, too."""
        with self._changed:
            if queue not in self._queues:
                self._queues = sorted([*self._queues, queue], key=lambda name: self._rank.get(name, len(self._rank)))
                self._news = True

    def hear(self, news: set[str]) -> None:
        """Note that the queues have new messages."""
        with self._changed:
            if not news.isdisjoint(self._queues):
                self._news = True
                self._changed.notify()

    def open(self) -> None:
        """Take messages again."""
        with self._changed:
            self._open = self._news = True
            self._changed.notify()

    def shut(self) -> None:
        """Take no message any more: nobody would run it."""
        with self._changed:
            self._open = False

    def take(self, claim: Callable[[Sequence[str], int], list[LeasedMessage]], timeout: float) -> LeasedMessage | None:
        """Return a message to run, or None when there was none, or no free thread, for `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(self._something_to_do, self._patience(timeout))
            if self._waiting:
                return self._waiting.popleft()
            if not self._may_claim():
                return None
            queues, free = tuple(self._queues), self._free
            self._claiming, self._news, self._next_look = True, False, monotonic() + POLL_SECONDS
        taken: list[LeasedMessage] = []
        try:
            taken = claim(queues, free)
        finally:
            self._add(taken, more=len(taken) == free)
        return self._next()

    def let_go(self, message: LeasedMessage) -> None:
        """Forget a message that is settled, which makes room for another."""
        with self._changed:
            self._held.discard(message.lease.claim)
            self._changed.notify()

    def drain(self) -> list[LeasedMessage]:
        """Return the messages that were claimed but not taken yet, no longer to be taken."""
        with self._changed:
            drained = list(self._waiting)
            self._waiting.clear()
            return drained

    @property
    def _free(self) -> int:
        return self._threads - len(self._held) if self._open and not self._claiming else 0

    def _may_claim(self) -> bool:
        return self._free > 0 and (self._news or monotonic() >= self._next_look)

    def _something_to_do(self) -> bool:
        return bool(self._waiting) or self._may_claim()

    def _patience(self, timeout: float) -> float:
        return min(timeout, max(self._next_look - monotonic(), 0.0)) if self._free else timeout

    def _add(self, taken: list[LeasedMessage], *, more: bool) -> None:
        with self._changed:
            self._claiming = False
            self._news |= more
            self._held.update(message.lease.claim for message in taken)
            self._waiting.extend(taken)
            self._changed.notify_all()

    def _next(self) -> LeasedMessage | None:
        with self._changed:
            return self._waiting.popleft() if self._waiting else None


class Lifeline(Thread):
    """The service thread of a process, on a connection of its own.

    It hears of new messages, beats and tells what the process counted, proves by a lock of its session that the process
    lives, gives back what dead processes held (at once what the process held that it replaces), and runs for caretaker.
    It connects again after a restart of the server.
    """

    def __init__(
        self,
        engine: Engine,
        hands: Hands,
        meter: Meter,
        stages: Sequence[str],
        threads: int,
        *,
        replaces: int | None = None,
    ) -> None:
        super().__init__(name="lifeline", daemon=True)
        self.worker_id = 0
        self.ready = Event()
        self.leading = Event()
        self._engine = engine
        self._hands = hands
        self._meter = meter
        self._stages = tuple(stages)
        self._threads = threads
        self._replaces = replaces
        self._ending = Event()
        self._failures = 0
        self._logger = get_logger(__name__, type(self))

    def run(self) -> None:
        """Live until told to end."""
        while not self._ending.is_set():
            try:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.detach()
                    self._live(connection)
            except (SQLAlchemyError, psycopg.Error) as error:
                self._logger.warning("The service connection is lost, trying again: %s", str(error).partition("\n")[0])
            self.ready.clear()
            self.leading.clear()
            self._ending.wait(RECONNECT_SECONDS[min(self._failures, len(RECONNECT_SECONDS) - 1)])
            self._failures += 1

    def end(self, timeout: float) -> None:
        """Strike the process from the list of the living, and wait up to `timeout` seconds for that."""
        self._ending.set()
        self.join(timeout)

    def _live(self, connection: Connection) -> None:
        self._enrol(connection)
        due = 0.0
        while not self._ending.is_set():
            if monotonic() >= due:
                due = monotonic() + BEAT_SECONDS
                if not self._beat(connection):
                    return
            if news := messages.heard(connection, LISTEN_SECONDS):
                self._hands.hear(news)
                self._ending.wait(BREATH_SECONDS)
        counts = self._meter.news()
        workers.leave(connection, self.worker_id, counts)
        self._meter.told(counts)

    def _enrol(self, connection: Connection) -> None:
        """Go on under the old id, unless the process was given up for dead meanwhile."""
        host = socket.gethostname()
        if not workers.beat(connection, self.worker_id):
            self.worker_id = workers.enrol(
                connection, host, os.getpid(), self._stages, self._threads, version("penstock")
            )
            self._meter.start_over()
        workers.prove_life(connection, self.worker_id)
        messages.listen(connection)
        if self._replaces is not None:
            workers.replace(connection, self.worker_id, host, self._replaces)
            self._replaces = None
        self._failures = 0
        self.ready.set()

    def _beat(self, connection: Connection) -> bool:
        """Do what is due every few seconds; False when the process was given up for dead."""
        counts = self._meter.news()
        if not workers.beat(connection, self.worker_id, counts):
            return False
        self._meter.told(counts)
        workers.reap(connection)
        workers.give_back_strays(connection, self.worker_id, self._hands.held)
        if not self.leading.is_set() and workers.take_lead(connection):
            self.leading.set()
        return True
