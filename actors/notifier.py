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
    from pipeline.notifying import Notice
    from pipeline.records import NotifyRules

ROUND_SECONDS: Final = 1.0
SEND_SECONDS: Final = 10.0
"""How long a service may take for one notification."""
MOST_CARRIED: Final = 100
"""How many notices may wait for one service; more stay in the outbox."""
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
class Delivery:
    """What became of sending a notice to a service; `reason` says why it failed."""

    service: Service
    notice: Notice
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
    """Carries notices to one service, one after another; what hangs ends with the process at the latest."""

    def __init__(self, service: Service, deliveries: Queue[Delivery | None]) -> None:
        self.service = service
        self.carried: set[int] = set()
        self._deliveries = deliveries
        self._notices: Queue[Notice] = Queue()
        self._hung: list[Call] = []
        self._thread: Thread | None = None

    def offer(self, notice: Notice) -> None:
        """Carry a notice, unless it is carried already, or too many are."""
        if notice.event_id in self.carried or len(self.carried) >= MOST_CARRIED:
            return
        if self._thread is None:
            thread = Thread(target=self._run, daemon=True, name=f"courier to {self.service.position}")
            thread.start()
            self._thread = thread
        self.carried.add(notice.event_id)
        self._notices.put(notice)

    def _run(self) -> None:
        while True:
            notice = self._notices.get()
            began = monotonic()
            reason = self._deliver(notice)
            self._deliveries.put(Delivery(self.service, notice, reason, round(monotonic() - began, 3)))

    def _deliver(self, notice: Notice) -> str | None:
        self._hung = [call for call in self._hung if call.is_alive()]
        if len(self._hung) >= MOST_HUNG:
            return f"{MOST_HUNG} earlier notifications hang still"
        call = Call(self.service, title(notice), body(notice), notice.kind)
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
        self._deliveries: Queue[Delivery | None] = Queue()
        self._couriers = {service.position: Courier(service, self._deliveries) for service in services}
        self._digests = [service.digest for service in services]
        self._delivered: list[Delivery] = []
        self._ended = Event()

    def run(self) -> None:
        """Settle what was delivered and hand out what is due, at least once a second, until ended."""
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
        self._deliveries.put(None)

    def _collect(self) -> None:
        """Wait up to a second for a delivery, and take all that there are."""
        with suppress(Empty):
            delivery = self._deliveries.get(timeout=ROUND_SECONDS)
            while delivery is not None:
                self._delivered.append(delivery)
                delivery = self._deliveries.get_nowait()

    def _settle(self) -> None:
        """Note in the outbox who has what, and say it; until that is committed, nothing of it is sent again."""
        if not self._delivered:
            return
        served = [(each.notice.event_id, each.service.digest) for each in self._delivered if each.reason is None]
        if served:
            with self._engine.begin() as connection:
                notifications.mark_served(connection, served, self._digests)
        for delivery in self._delivered:
            self._couriers[delivery.service.position].carried.discard(delivery.notice.event_id)
            self._broker.meter.add(NOTIFICATIONS, label="failed" if delivery.reason else "sent")
            say(delivery)
        self._delivered.clear()

    def _round(self) -> None:
        with self._engine.begin() as connection:
            if not self._couriers:
                notifications.drop_all(connection)
                return
            taken = self._throttle.take(connection)
            spared = [(notice.event_id, each.service.digest) for notice, each in self._pairs(taken.due, spared=True)]
            if spared:
                notifications.mark_served(connection, spared, self._digests)
        for notice, courier in self._pairs(taken.given_up):
            log.warning("notification.given_up", **_context(courier.service, notice))
        for notice, courier in self._pairs(taken.due):
            courier.offer(notice)

    def _pairs(self, notices: Iterable[Notice], *, spared: bool = False) -> Iterator[tuple[Notice, Courier]]:
        """Yield each notice with every courier whose service lacks it: is to have it, or is to be spared it."""
        for notice in notices:
            for courier in self._couriers.values():
                if courier.service.digest not in notice.served and self._spares(courier.service, notice) is spared:
                    yield notice, courier

    def _spares(self, service: Service, notice: Notice) -> bool:
        """Return whether a service would tell a person what that person has just waited for."""
        return service.personal and notice.kind == "completed" and notice.brief(self._throttle.rules.least_seconds)


def say(delivery: Delivery) -> None:
    """Log what became of a notification: that it was sent, or why not, the first time that it was not."""
    context = _context(delivery.service, delivery.notice)
    if delivery.reason is None:
        log.info("notification.sent", seconds=delivery.seconds, **context)
    elif delivery.notice.attempts == 0:
        log.warning("notification.failed", seconds=delivery.seconds, reason=delivery.reason, **context)
    else:
        log.debug("notification.failed_again", seconds=delivery.seconds, reason=delivery.reason, **context)


def _context(service: Service, notice: Notice) -> dict[str, object]:
    return {
        "service": service.kind,
        "entry": service.position,
        "about": notice.kind,
        "job_id": str(notice.job.job_id),
        "attempts": notice.attempts + 1,
    }
