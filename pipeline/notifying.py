"""What is worth a notification, when, and in which words: throttled by job, so that nobody turns it off."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pipeline import describing
from pipeline.describing import duration
from pipeline.states import NOTIFIABLE, JobStatus
from pipeline.store import notifications

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection, Row

    from pipeline.records import Job, NotifyRules

DAY: Final = 86_400.0
"""Seconds after which an event is no news any more."""
FIRST_RETRY: Final = 5.0
"""Seconds before an event is sent again to whom it did not reach; doubled by each attempt."""
LONGEST_RETRY: Final = 300.0
MOST: Final = 100
"""How many events are taken at a time."""

FAMILIES: Final = {
    "milestone": "progress",
    "blocked": "embedder",
    "unblocked": "embedder",
    "paused": "pause",
    "resumed": "pause",
}
"""The events that are throttled, each with those that it takes turns with."""
ENDS: Final = ("completed", "failed", "cancelled")
EARLY: Final = ("started", "milestone")
"""What is not worth telling of a job that is over in no time."""
STALE: Final = tuple(
    (older, newer)
    for older in ("started", *FAMILIES)
    for newer in NOTIFIABLE
    if newer in ENDS or (older in FAMILIES and FAMILIES[older] == FAMILIES.get(newer))
)
"""Which waiting event is made stale by which later one."""


@dataclass(frozen=True, slots=True)
class Notification:
    """An event of a job that is due to be told; `attempts` and `served` count what was tried before."""

    event_id: int
    kind: str
    at: datetime
    detail: Mapping[str, object]
    now: datetime
    repeated: bool
    attempts: int
    served: frozenset[str]
    job: Job

    @classmethod
    def of(cls, row: Row[Any]) -> Notification:
        """Return the notification in a row of `notifications.due`."""
        when = (row.event_id, row.type, row.at, row.detail, row.now)
        return cls(*when, row.repeated, row.attempts, frozenset(row.served), describing.job(row))

    @property
    def age(self) -> float:
        """Seconds since it happened."""
        return (self.now - self.at).total_seconds()

    @property
    def lasted(self) -> float:
        """Seconds from the job's start to now, or to its end."""
        return ((self.job.finished_at or self.now) - (self.job.started_at or self.job.created_at)).total_seconds()


@dataclass(slots=True)
class Taken:
    """What a round took out of the outbox: what is to be sent now, and what nobody could be told for a day."""

    due: list[Notification] = field(default_factory=list)
    given_up: list[Notification] = field(default_factory=list)


class Throttle:
    """Decides over each notification; remembers, in this process only, what was told of which job and when."""

    def __init__(self, rules: NotifyRules) -> None:
        self.rules = rules
        self._told: dict[tuple[UUID, str], float] = {}

    def take(self, connection: Connection) -> Taken:
        """Claim what is due, in the order in which it happened; to be committed before anything is sent."""
        if self.rules.interval:
            notifications.supersede(connection, STALE)
        rows = notifications.due(connection, MOST, max(LONGEST_RETRY, self.rules.interval, self.rules.least_seconds))
        taken, unwanted, later = Taken(), [], {}
        for each in sorted(map(Notification.of, rows), key=lambda row: row.event_id):
            wait = self.wait(each)
            if wait is None:
                unwanted.append(each.event_id)
            elif wait > 0:
                later[each.event_id] = wait
            else:
                (taken.due if each.age < DAY else taken.given_up).append(each)
        if rows:
            notifications.drop(connection, [*unwanted, *(each.event_id for each in taken.given_up)])
            notifications.put_off(connection, later)
            notifications.claim(connection, [each.event_id for each in taken.due], FIRST_RETRY, LONGEST_RETRY)
        return taken

    def wait(self, notification: Notification) -> float | None:
        """Return for how many seconds a notification must wait (0: it goes now), None when nobody wants it."""
        if notification.kind not in self.rules.events or (notification.kind == "started" and notification.repeated):
            return None
        if notification.kind in EARLY and (left := self.rules.least_seconds - notification.lasted) > 0:
            return None if notification.job.finished_at else left
        if notification.kind not in FAMILIES or notification.attempts:
            return 0.0
        return self._turn(notification.job.job_id, FAMILIES[notification.kind])

    def _turn(self, job_id: UUID, family: str) -> float:
        """Return how long it is until a family of a job may be told again; note it as told when that is now."""
        now = monotonic()
        self._told = {key: at for key, at in self._told.items() if now - at < self.rules.interval}
        told = self._told.setdefault((job_id, family), now)
        return 0.0 if told == now else told + self.rules.interval - now


# --- in words ---------------------------------------------------------------------------------------------------------

HEADLINES: Final = {
    "submitted": "indexing was submitted",
    "started": "indexing has started",
    "milestone": "indexing is at {percent} %",
    "blocked": "indexing is blocked",
    "unblocked": "indexing goes on",
    "paused": "indexing is paused",
    "resumed": "indexing was resumed",
    "completed": "indexing is complete",
    "failed": "indexing has failed",
    "cancelled": "indexing was cancelled",
}


def title(notification: Notification) -> str:
    """Return the headline of a notification, one line: which repository, and what happened."""
    headline = HEADLINES[notification.kind].format_map({"percent": "?", **notification.detail})
    name = " ".join(notification.job.name.split())  # a folder's name may hold anything, also what ends a mail's subject
    return f"{name}: {headline}"


def body(notification: Notification) -> str:
    """Return what there is to say, what to do, and which job it was, when."""
    job = notification.job
    moment = f"{notification.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    about = f"{job.repo_path} (project {job.project_id}), job {job.job_id}, {moment}"
    return "\n".join(filter(None, (_news(notification), about)))


def _news(notification: Notification) -> str:
    """Return what is new, in a sentence or two; nothing where the headline says it all."""
    job, detail = notification.job, notification.detail
    texts = {
        "milestone": _standing(job),
        "blocked": f"Waiting: {detail.get('blocked_reason')}. It goes on by itself when that is mended.",
        "paused": f"Go on: penstock resume {job.job_id}",
        "completed": f"{job.progress_message}, in {duration(job.duration_seconds or 0)}",
        "failed": f"{detail.get('error_message')}\nGo on where it ended: penstock resume {job.job_id}",
        "cancelled": f"What was indexed stays searchable. Go on where it ended: penstock resume {job.job_id}",
    }
    return texts.get(notification.kind, "")


def _standing(job: Job) -> str:
    """Return where a job is by now, while it runs."""
    if job.status != JobStatus.RUNNING:
        return ""
    left = job.estimated_remaining_seconds
    return job.progress_message if left is None else f"{job.progress_message}, about {duration(left)} left"
