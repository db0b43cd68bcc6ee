"""What is worth a notification, when, and in which words: throttled by job, so that nobody turns it off."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pipeline import describing
from pipeline.describing import duration
from pipeline.states import NOTIFIABLE, JobStatus
from pipeline.store import notifications

if TYPE_CHECKING:
    from collections.abc import Mapping
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
    for older in (*EARLY, *FAMILIES)
    for newer in NOTIFIABLE
    if newer in ENDS or (older in FAMILIES and FAMILIES[older] == FAMILIES.get(newer))
)
"""Which waiting event is made stale by which later one."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An event of a job that is due to be told; `attempts` and `served` count what was tried before."""

    event_id: int
    kind: str
    at: datetime
    detail: Mapping[str, object]
    repeated: bool
    attempts: int
    served: frozenset[str]
    job: Job

    @classmethod
    def of(cls, row: Row[Any]) -> Notice:
        """Return the notice in a row of `notifications.due`."""
        known = (row.event_id, row.type, row.at, row.detail, row.repeated, row.attempts, frozenset(row.served))
        return cls(*known, describing.job(row))

    def brief(self, seconds: float) -> bool:
        """Return whether the job has run for less than so many seconds, up to now or to its end."""
        return self._age() < seconds

    def left(self, seconds: float) -> float:
        """Return how many seconds are left until the job has run for so long."""
        return seconds - self._age()

    def _age(self) -> float:
        began = self.job.started_at or self.job.created_at
        return ((self.job.finished_at or datetime.now(UTC)) - began).total_seconds()


@dataclass(slots=True)
class Taken:
    """What a round took out of the outbox: what is to be sent now, and what nobody could be told for a day."""

    due: list[Notice] = field(default_factory=list)
    given_up: list[Notice] = field(default_factory=list)


class Throttle:
    """Decides over each notice; remembers, in this process only, what was told of which job and when."""

    def __init__(self, rules: NotifyRules) -> None:
        self.rules = rules
        self._told: dict[tuple[UUID, str], float] = {}

    def take(self, connection: Connection) -> Taken:
        """Claim what is due, in the order in which it happened; to be committed before anything is sent."""
        if self.rules.interval:
            notifications.supersede(connection, STALE)
        taken, unwanted, later = Taken(), [], {}
        rows = notifications.due(connection, MOST, max(LONGEST_RETRY, self.rules.interval, self.rules.least_seconds))
        for notice in sorted(map(Notice.of, rows), key=lambda each: each.event_id):
            wait = self.wait(notice)
            if wait is None:
                unwanted.append(notice.event_id)
            elif wait > 0:
                later[notice.event_id] = wait
            elif (datetime.now(UTC) - notice.at).total_seconds() > DAY:
                taken.given_up.append(notice)
            else:
                taken.due.append(notice)
        notifications.drop(connection, [*unwanted, *(notice.event_id for notice in taken.given_up)])
        notifications.put_off(connection, later)
        notifications.claim(connection, [notice.event_id for notice in taken.due], FIRST_RETRY, LONGEST_RETRY)
        return taken

    def wait(self, notice: Notice) -> float | None:
        """Return for how many seconds a notice must wait (0: it goes now), None when nobody wants it."""
        if notice.kind not in self.rules.events or (notice.kind == "started" and notice.repeated):
            return None
        if notice.kind in EARLY and notice.brief(self.rules.least_seconds):
            return None if notice.job.finished_at else notice.left(self.rules.least_seconds)
        if notice.kind not in FAMILIES or notice.attempts:
            return 0.0
        return self._turn(notice.job.job_id, FAMILIES[notice.kind])

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


def title(notice: Notice) -> str:
    """Return the headline of a notice: which repository, and what happened."""
    return f"{notice.job.name}: {HEADLINES[notice.kind].format_map({'percent': '?', **notice.detail})}"


def body(notice: Notice) -> str:
    """Return what there is to say, what to do, and which job it was."""
    job = notice.job
    about = (
        f"{job.repo_path} (project {job.project_id}), job {job.job_id}, {notice.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    )
    return "\n".join(filter(None, (_news(notice), about)))


def _news(notice: Notice) -> str:
    """Return what is new, in a sentence or two; nothing where the headline says it all."""
    job, detail = notice.job, notice.detail
    texts = {
        "milestone": _standing(job),
        "blocked": f"Waiting: {detail.get('blocked_reason')}. It goes on by itself when that is mended.",
        "paused": f"Go on: penstock resume {job.job_id}",
        "completed": f"{job.progress_message}, in {duration(job.duration_seconds or 0)}",
        "failed": f"{detail.get('error_message')}\nGo on where it ended: penstock resume {job.job_id}",
        "cancelled": f"What was indexed stays searchable. Go on where it ended: penstock resume {job.job_id}",
    }
    return texts.get(notice.kind, "")


def _standing(job: Job) -> str:
    """Return where a job is by now, while it runs."""
    if job.status != JobStatus.RUNNING:
        return ""
    left = job.estimated_remaining_seconds
    return job.progress_message if left is None else f"{job.progress_message}, about {duration(left)} left"
