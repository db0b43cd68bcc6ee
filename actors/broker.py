"""The broker: dramatiq-pg's table, with leases, fenced acknowledgements and sending inside the caller's transaction."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, TypeVar

from dramatiq import Message, Middleware
from dramatiq.broker import Consumer
from dramatiq.errors import ConnectionError as BrokerConnectionError
from dramatiq.errors import QueueJoinTimeout
from dramatiq_pg import PostgresBroker
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from actors.lease import Hands, LeasedMessage, Lifeline, cleaned
from actors.metering import Meter
from pipeline.errors import ValidationError
from pipeline.store import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

    from dramatiq import Broker, Worker
    from dramatiq.broker import MessageProxy
    from sqlalchemy import Connection, Engine

    from pipeline.states import Stage

T = TypeVar("T")

READY_SECONDS: Final = 10.0
"""How long a consumer waits for the service thread to have a worker id."""
PATIENCE_SECONDS: Final = 10.0
"""How long a worker thread waits for the server to come back before Dramatiq's own, slower way takes over."""
RETRY_SECONDS: Final = 0.25
REMEMBERED_TURNS: Final = 64


@contextmanager
def _reaching() -> Iterator[None]:
    """Translate the loss of the server into the error at which Dramatiq tries again."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        reason = str(error).partition("\n")[0]
        message = f"the queue's database does not answer: {reason}; it is tried again"
        raise BrokerConnectionError(message) from error


class _Shutter(Middleware):
    """Takes no message any more while the worker's threads end."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def before_worker_boot(self, _broker: Broker, _worker: Worker) -> None:
        """Open the hands of a new worker."""
        self._hands.open()

    def before_worker_shutdown(self, _broker: Broker, _worker: Worker) -> None:
        """Close them when it ends."""
        self._hands.shut()


class LeaseBroker(PostgresBroker):  # type: ignore[misc]  # dramatiq-pg is not typed
    """Sends messages, and hands them to the consumers of this process under a lease.

    Build it in the process that uses it, after any fork. `stages` are the queues that go first, in this order; at most
    `threads` messages are held at a time. `replaces` is the pid of a dead worker process whose place this one takes.
    What `meter` counts is told with the process's heartbeats.
    Nothing is read or written before the first use.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        stages: Sequence[str] = (),
        threads: int = 1,
        replaces: int | None = None,
        middleware: list[Middleware] | None = None,
    ) -> None:
        super().__init__(pool=engine, results=False, middleware=middleware)
        self.hands = Hands(stages, threads)
        self.meter = Meter()
        self._stages = tuple(stages)
        self._threads = threads
        self._replaces = replaces
        self._recent: dict[str, None] = {}
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._claims: Connection | None = None
        self._lifeline: Lifeline | None = None
        self._starting = Lock()
        self.add_middleware(_Shutter(self.hands))

    # --- what the house asks ---

    def send(self, connection: Connection, stage: Stage, subject: str, job_id: UUID, *, delay: float = 0.0) -> None:
        """Queue the stage's message for `subject`, due in `delay` seconds; part of the caller's transaction."""
        messages.send(connection, stage, subject, job_id, delay=delay)

    @property
    def leader(self) -> bool:
        """Whether this process is the caretaker: true for one live process of all, once its consumers run."""
        return self._lifeline is not None and self._lifeline.leading.is_set()

    @property
    def worker_id(self) -> int:
        """The id of this process in the list of workers; 0 before its consumers run."""
        return self._lifeline.worker_id if self._lifeline else 0

    # --- what Dramatiq asks ---

    def declare_queue(self, queue_name: str) -> None:
        """Note the queue; there is nothing to create, and no queue for delayed messages."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = True
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[object] | LeasedMessage, *, delay: int | None = None) -> object:
        """Queue a message, due in `delay` milliseconds. Raises ValidationError for arguments that cannot be stored.

        A message in our hands (a retry) is given back under its lease, so that one which was completed after all, or
        taken over, is not made again.
        """
        self.emit_before("enqueue", message, delay)
        body, seconds = _encoded(message), (delay or 0) / 1000
        try:
            if isinstance(message, LeasedMessage):
                self.patiently(partial(messages.postpone, lease=message.lease, delay=seconds, body=body))
            else:
                new = partial(messages.enqueue, message_id=message.message_id, queue=message.queue_name)
                self.execute(partial(new, body=body, delay=seconds))
        except DataError as error:
            text = f"message {message.message_id} for {message.actor_name} holds a NUL or a lone surrogate: send an id"
            raise ValidationError(text) from error
        self.emit_after("enqueue", message, delay)
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> LeaseConsumer:  # noqa: ARG002
        """Return a consumer; `prefetch` is ignored, since no more is claimed than this process has threads for."""
        lifeline = self._lifeline_of_process()
        if not lifeline.ready.wait(READY_SECONDS):
            message = f"this worker could not enter the list of workers within {READY_SECONDS:g} s; it is tried again"
            raise BrokerConnectionError(message)
        return LeaseConsumer(self, queue_name, timeout / 1000)

    def close(self) -> None:
        """End the service thread, which strikes this process from the list of workers."""
        self._drop_claims()
        if self._lifeline:
            self._lifeline.end(timeout=5)
            self._lifeline = None

    def flush(self, queue_name: str) -> None:
        """Drop every message of the queue."""
        self.execute(partial(messages.clear, queue=queue_name))

    def flush_all(self) -> None:
        """Drop every message of all declared queues."""
        for queue in self.queues:
            self.flush(queue)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until the queue has neither waiting nor held messages; QueueJoinTimeout after `timeout` milliseconds."""
        deadline = None if timeout is None else monotonic() + timeout / 1000
        while self.execute(partial(messages.unsettled, queue=queue_name)):
            if deadline is not None and monotonic() > deadline:
                raise QueueJoinTimeout(queue_name)
            sleep(0.02)

    # --- what the consumers ask ---

    def claim(self, queues: Sequence[str], count: int) -> list[LeasedMessage]:
        """Take up to `count` messages for this process, one caller at a time. Raises Dramatiq's ConnectionError."""
        try:
            with _reaching():
                if self._claims is None:
                    self._claims = self._autocommit.connect()  # kept: an idle process asks every second
                leases = messages.claim(self._claims, queues, count, self.worker_id, tuple(self._recent))
        except BrokerConnectionError:
            self._drop_claims()
            raise
        for lease in leases:
            self._remember(lease.turn)
        return [LeasedMessage(lease) for lease in leases]

    def _remember(self, turn: str) -> None:
        """Note whose turn it was last; of more than a few lanes, the one of longest ago is forgotten."""
        self._recent.pop(turn, None)
        self._recent[turn] = None
        if len(self._recent) > REMEMBERED_TURNS:
            del self._recent[next(iter(self._recent))]

    def execute(self, statement: Callable[[Connection], T]) -> T:
        """Run one statement in a transaction of its own. Raises Dramatiq's ConnectionError."""
        with _reaching(), self._autocommit.connect() as connection:
            return statement(connection)

    def patiently(self, statement: Callable[[Connection], T]) -> T:
        """Run one statement; when the server is away, again and again for some seconds."""
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.execute(statement)
            except BrokerConnectionError:
                if monotonic() > deadline:
                    raise
            sleep(RETRY_SECONDS)

    def _drop_claims(self) -> None:
        if self._claims is not None:
            self._claims.close()
            self._claims = None

    def _lifeline_of_process(self) -> Lifeline:
        with self._starting:
            if self._lifeline is None:
                self._lifeline = Lifeline(
                    self._engine, self.hands, self.meter, self._stages, self._threads, replaces=self._replaces
                )
                self._lifeline.start()
            return self._lifeline


def _encoded(message: Message[object] | MessageProxy) -> str:
    """Return Dramatiq's JSON of a message; its options (a traceback, for one) are cleaned, its arguments are not."""
    for name, value in message.options.items():
        if isinstance(value, str):
            message.options[name] = cleaned(value)
    return str(message.encode(), "utf-8")


class LeaseConsumer(Consumer):
    """Hands the messages of this process to Dramatiq and takes back what became of them."""

    def __init__(self, broker: LeaseBroker, queue: str, timeout: float) -> None:
        self._broker = broker
        self.queue = queue
        self._timeout = timeout

    def __next__(self) -> LeasedMessage | None:
        """Return a message of any queue of this process, or None after the time-out."""
        self._broker.hands.serve(self.queue)
        return self._broker.hands.take(self._broker.claim, self._timeout)

    def ack(self, message: LeasedMessage) -> None:
        """Delete a message that was done; one that failed is due again, unless a retry gave it back already."""
        if message.error is not None:
            self._settle(message, message.try_again)
        elif message.settled:
            self._broker.hands.let_go(message)
        else:
            self._settle(message, message.finish)

    def nack(self, message: LeasedMessage) -> None:
        """Set a message aside for good."""
        self._settle(message, message.reject)

    def requeue(self, messages: Iterable[LeasedMessage]) -> None:
        """Give back messages that nobody began to work on; what the server misses comes back as a stray."""
        unused = list(messages)
        for message in unused:
            self._broker.hands.let_go(message)
        for message in unused:
            self._broker.execute(message.put_back)

    def close(self) -> None:
        """Give back what was claimed and not taken."""
        self.requeue(self._broker.hands.drain())

    def _settle(self, message: LeasedMessage, statement: Callable[[Connection], object]) -> None:
        try:
            self._broker.patiently(statement)
        except BrokerConnectionError:
            raise  # Dramatiq will acknowledge again: until then the message stays in our hands
        except Exception:
            self._broker.hands.let_go(message)
            raise
        self._broker.hands.let_go(message)
