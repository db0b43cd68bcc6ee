"""The notifier: one elected worker tells services outside what happens to jobs; no job ever waits for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from actors.metering import NOTIFICATIONS
from pipeline.notifying import Throttle, body, title
from pipeline.stages import mend
from pipeline.store import notifications

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Engine

    from actors.broker import LeaseBroker
    from pipeline.notifying import Notification
    from pipeline.records import NotifyRules

ROUND_SECONDS: Final = 1.0
SEND_SECONDS: Final = 10.0
"""How long a service may take for one notification."""
MOST_CARRIED: Final = 100
"""How many notifications may wait for one service; more stay in the outbox."""
MOST_HUNG: Final = 3
"""How many calls of one service may hang at once before nothing more is sent to it."""

log = structlog.get_logger("penstock")


class Service(Protocol):
    """Somebody outside who is notified."""

    @property
    def kind(self) -> str:
        """What it is: `json`, `slack`, `desktop`, …; never its address, which may hold a secret."""

    @property
    def position(self) -> int:
        """Which of the settings' URLs it is, from 1 on."""

    @property
    def digest(self) -> str:
        """What stands for it in the outbox."""

    @property
    def personal(self) -> bool:
        """Whether it interrupts the person who sits at this machine."""

    def send(self, title: str, body: str, kind: str) -> str | None:
        """Send a notification of an event of some kind; the reason when that failed, without secrets."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of sending a notification to a service; `reason` says why it failed."""

    service: Service
    notification: Notification
    reason: str | None
    seconds: float


class Call(Thread):
    """One sending, in a thread of its own: a library that waits in a socket cannot be interrupted, only left behind."""

    def __init__(self, service: Service, title: str, body: str, kind: str) -> None:
        super().__init__(daemon=True, name=f"notification to {service.position}")
        self._send = partial(service.send, title, body, kind)
        self._reason: str | None = f"no answer within {SEND_SECONDS:g} s"

    def run(self) -> None:
        """Send."""
        try:
            self._reason = self._send()
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the worker must live on
            self._reason = type(error).__name__  # its text may hold the URL

    def outcome(self) -> str | None:
        """Send, for so long as a service may take; return the reason when it failed."""
        try:
            self.start()
        except RuntimeError as error:
            return str(error)
        self.join(SEND_SECONDS)
        return self._reason


class Courier:
    """Carries notifications to one service, one after another; what hangs ends with the process at the latest."""

    def __init__(self, service: Service, answers: Queue[Answer | None]) -> None:
        self.service = service
        self.carried: set[int] = set()
        self._answers = answers
        self._waiting: Queue[Notification] = Queue()
        self._hung: list[Call] = []
        self._thread: Thread | None = None

    def offer(self, notification: Notification) -> None:
        """Carry a notification, unless it is carried already, or too many are."""
        if notification.event_id in self.carried or len(self.carried) >= MOST_CARRIED:
            return
        if self._thread is None:
            thread = Thread(target=self._run, daemon=True, name=f"courier to {self.service.position}")
            thread.start()
            self._thread = thread
        self.carried.add(notification.event_id)
        self._waiting.put(notification)

    def _run(self) -> None:
        while True:
            notification = self._waiting.get()
            began = monotonic()
            reason = self._deliver(notification)
            self._answers.put(Answer(self.service, notification, reason, round(monotonic() - began, 3)))

    def _deliver(self, notification: Notification) -> str | None:
        self._hung = [call for call in self._hung if call.is_alive()]
        if len(self._hung) >= MOST_HUNG:
            return f"{MOST_HUNG} earlier notifications hang still"
        call = Call(self.service, title(notification), body(notification), notification.kind)
        reason = call.outcome()
        if call.is_alive():
            self._hung.append(call)
        return reason


class Notifier(Thread):
    """Takes what is due out of the outbox and hands it to couriers, while this process leads.

    An event is claimed for some seconds before it is sent, and dropped when every service has it: whoever is killed
    in between leaves it to be sent again. Without any service, it empties the outbox.
    """

    def __init__(self, broker: LeaseBroker, engine: Engine, rules: NotifyRules, services: Sequence[Service]) -> None:
        super().__init__(daemon=True, name="notifier")
        self._broker = broker
        self._engine = engine
        self._throttle = Throttle(rules)
        self._answers: Queue[Answer | None] = Queue()
        self._couriers = {service.position: Courier(service, self._answers) for service in services}
        self._digests = [service.digest for service in services]
        self._received: list[Answer] = []
        self._ended = Event()

    def run(self) -> None:
        """Settle what was answered and hand out what is due, at least once a second, until ended."""
        while not self._ended.is_set():
            self._collect()
            try:
                self._settle()
                if self._broker.leader:
                    self._round()
            except Exception as error:  # noqa: BLE001 - a database that is away comes back
                log.warning("notifier.failed", reason=mend.clean(error))
                self._ended.wait(ROUND_SECONDS)

    def end(self) -> None:
        """Take nothing more out of the outbox, and wait for nobody."""
        self._ended.set()
        self._answers.put(None)

    def _collect(self) -> None:
        """Wait up to a second for an answer, and take all that there are."""
        with suppress(Empty):
            answer = self._answers.get(timeout=ROUND_SECONDS)
            while answer is not None:
                self._received.append(answer)
                answer = self._answers.get_nowait()

    def _settle(self) -> None:
        """Note in the outbox who has what, and say it; until that is committed, nothing of it is sent again."""
        if not self._received:
            return
        served = [(each.notification.event_id, each.service.digest) for each in self._received if each.reason is None]
        if served:
            with self._engine.begin() as connection:
                notifications.mark_served(connection, served, self._digests)
        for answer in self._received:
            self._couriers[answer.service.position].carried.discard(answer.notification.event_id)
            self._broker.meter.add(NOTIFICATIONS, label="failed" if answer.reason else "sent")
            say(answer)
        self._received.clear()

    def _round(self) -> None:
        with self._engine.begin() as connection:
            if not self._couriers:
                notifications.drop_all(connection)
                return
            taken = self._throttle.take(connection)
            spared = [(each.event_id, courier.service.digest) for each, courier in self._pairs(taken.due, spared=True)]
            if spared:
                notifications.mark_served(connection, spared, self._digests)
        for each, courier in self._pairs(taken.given_up):
            log.warning("notification.given_up", **_context(courier.service, each))
        for each, courier in self._pairs(taken.due):
            courier.offer(each)

    def _pairs(self, told: Iterable[Notification], *, spared: bool = False) -> Iterator[tuple[Notification, Courier]]:
        """Yield each with every courier whose service lacks it: is to have it, or is to be spared it."""
        for each in told:
            for courier in self._couriers.values():
                lacks = courier.service.digest not in each.served
                if lacks and self._spares(courier.service, each) is spared:
                    yield each, courier

    def _spares(self, service: Service, told: Notification) -> bool:
        """Return whether a service would tell a person what that person has just waited for."""
        brief = told.lasted < self._throttle.rules.least_seconds
        return service.personal and told.kind == "completed" and brief


def say(answer: Answer) -> None:
    """Log what became of a notification: that it was sent, or why not, the first time that it was not."""
    context = _context(answer.service, answer.notification)
    if answer.reason is None:
        log.info("notification.sent", seconds=answer.seconds, **context)
    elif answer.notification.attempts == 0:
        log.warning("notification.failed", seconds=answer.seconds, reason=answer.reason, **context)
    else:
        log.debug("notification.failed_again", seconds=answer.seconds, reason=answer.reason, **context)


def _context(service: Service, notification: Notification) -> dict[str, object]:
    return {
        "service": service.kind,
        "entry": service.position,
        "about": notification.kind,
        "job_id": str(notification.job.job_id),
        "attempts": notification.attempts + 1,
    }
