"""The queue's SQL: messages with leases in dramatiq-pg's table; who holds them is in `store.workers`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID, uuid5

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection as DriverConnection
    from sqlalchemy import Connection

    from pipeline.states import Stage

NAMESPACE: Final = UUID("70656e73-746f-636b-8000-717565756573")
MAX_DELIVERIES: Final = 20
"""The back-stop: a message that was handed out so often is rejected. Stages know about poison long before."""

# --- sending ----------------------------------------------------------------------------------------------------------

ENQUEUE: Final = text("""
INSERT INTO dramatiq.queue AS q (message_id, queue_name, lane, state, mtime, message, eta)
VALUES (:message_id, :queue, :lane, 'queued', clock_timestamp(), CAST(:body AS jsonb),
        clock_timestamp() + make_interval(secs => :delay))
ON CONFLICT (message_id) DO UPDATE SET
    state = 'queued', mtime = EXCLUDED.mtime, message = EXCLUDED.message, eta = EXCLUDED.eta, deliveries = 0,
    deaths = 0, error = NULL
    WHERE q.state = 'rejected'
RETURNING CASE WHEN :delay <= 0 THEN pg_notify('dramatiq', q.queue_name) END
""")


def message_id(stage: Stage, subject: str) -> UUID:
    """Return the id of the only message that can tell `stage` to work on `subject`."""
    return uuid5(NAMESPACE, f"{stage}:{subject}")


def enqueue(
    connection: Connection, message_id: UUID | str, queue: str, body: str, *, lane: str = "", delay: float = 0.0
) -> None:
    """Queue a message, due in `delay` seconds; `body` is Dramatiq's JSON. Changes nothing when it is queued or held.

    The lanes of a queue take turns. A rejected message is revived. Raises sqlalchemy's DataError for what JSONB cannot
    hold (NUL, lone surrogates).
    """
    values = {"message_id": message_id, "queue": queue, "lane": lane, "body": body, "delay": delay}
    connection.execute(ENQUEUE, values)


def send(connection: Connection, stage: Stage, subject: str, job_id: UUID, *, delay: float = 0.0) -> None:
    """Queue the stage's message for `subject` of a job, due in `delay` seconds; part of the caller's transaction."""
    identity = message_id(stage, subject)
    body: dict[str, object] = {
        "queue_name": stage.value,
        "actor_name": stage.value,
        "args": [subject],
        "kwargs": {},
        "options": {},
        "message_id": str(identity),
        "message_timestamp": int(time.time() * 1000),
    }
    enqueue(connection, identity, stage.value, json.dumps(body), lane=str(job_id), delay=delay)


class MessageOutbox:
    """The outbox of a process that only submits: it needs no broker and no worker."""

    def send(self, connection: Connection, stage: Stage, subject: str, job_id: UUID, *, delay: float = 0.0) -> None:
        """Queue the stage's message for `subject`, due in `delay` seconds; part of the caller's transaction."""
        send(connection, stage, subject, job_id, delay=delay)


# --- holding a message ------------------------------------------------------------------------------------------------

# The claim commits lazily: when a crash of the server forgets it, the message is handed out again, and whoever deletes
# it first wins. The queues are visited in the order given, so that a later stage goes first; in a queue, the lane that
# this process served longest ago, so that a small job does not wait for all that a huge one has sent (R16). Lanes are
# found by skipping through the index, and rows are locked only as far as they are taken.
CLAIM: Final = text("""
WITH RECURSIVE lanes AS (
    SELECT rank, name, (
        SELECT min(lane) FROM dramatiq.queue WHERE state = 'queued' AND queue_name = name) AS lane
    FROM unnest(CAST(:queues AS text[])) WITH ORDINALITY AS served (name, rank)
    UNION ALL
    SELECT rank, name, (
        SELECT min(q.lane) FROM dramatiq.queue AS q
        WHERE q.state = 'queued' AND q.queue_name = name AND q.lane > lanes.lane)
    FROM lanes WHERE lanes.lane IS NOT NULL
), due AS MATERIALIZED (
    SELECT turn.rank, turn.place, ready.message_id
    FROM (
        SELECT rank, name, lane, coalesce(array_position(CAST(:recent AS text[]), name || ' ' || lane), 0) AS place
        FROM lanes WHERE lane IS NOT NULL ORDER BY rank, place, lane
    ) AS turn
    CROSS JOIN LATERAL (
        SELECT message_id FROM dramatiq.queue AS q
        WHERE q.state = 'queued' AND q.queue_name = turn.name AND q.lane = turn.lane AND q.eta <= clock_timestamp()
        ORDER BY q.seq LIMIT :count FOR UPDATE SKIP LOCKED
    ) AS ready
    LIMIT :count
)
UPDATE dramatiq.queue AS q SET
    state = 'consumed', worker = :worker, claim = nextval('dramatiq.claims'), deliveries = q.deliveries + 1,
    mtime = clock_timestamp()
FROM due WHERE q.message_id = due.message_id
RETURNING due.rank, due.place, q.queue_name, q.lane, q.seq, q.message_id, q.claim, q.deliveries, q.deaths,
          CAST(q.message AS text) AS body, set_config('synchronous_commit', 'off', true)
""")

FINISH: Final = text("""
DELETE FROM dramatiq.queue WHERE message_id = :message_id AND claim = :claim AND state = 'consumed'
""")

POSTPONE: Final = text("""
UPDATE dramatiq.queue SET
    state = 'queued', worker = NULL, claim = 0, deliveries = 0, deaths = 0, mtime = clock_timestamp(),
    error = :reason, eta = clock_timestamp() + make_interval(secs => :delay),
    message = coalesce(CAST(:body AS jsonb), message)
WHERE message_id = :message_id AND claim = :claim AND state = 'consumed'
RETURNING CASE WHEN :delay <= 0 THEN pg_notify('dramatiq', queue_name) END
""")

RELEASE: Final = text("""
UPDATE dramatiq.queue SET
    state = CAST(CASE WHEN deliveries >= :limit THEN 'rejected' ELSE 'queued' END AS dramatiq.state),
    worker = NULL, claim = 0, deliveries = deliveries - :unused, error = :error, mtime = clock_timestamp(),
    eta = clock_timestamp() + make_interval(secs => :delay)
WHERE message_id = :message_id AND claim = :claim AND state = 'consumed'
RETURNING CASE WHEN :delay <= 0 THEN pg_notify('dramatiq', queue_name) END
""")

REJECT: Final = text("""
UPDATE dramatiq.queue SET state = 'rejected', worker = NULL, claim = 0, error = :error, mtime = clock_timestamp()
WHERE message_id = :message_id AND claim = :claim AND state = 'consumed'
""")


SPARE: Final = text("""
UPDATE dramatiq.queue SET deaths = 0 WHERE message_id = :message_id AND claim = :claim AND state = 'consumed'
""")


HELD: Final = text("""
SELECT FROM dramatiq.queue WHERE message_id = :message_id AND claim = :claim AND state = 'consumed'
""")


@dataclass(frozen=True, slots=True)
class Lease:
    """A message as it was claimed: `claim` fences all that is done with it, `body` is Dramatiq's JSON.

    `deliveries` counts this one, too; `deaths` are those at which the worker process died.
    """

    message_id: UUID
    claim: int
    deliveries: int
    body: str
    deaths: int = 0
    queue: str = ""
    lane: str = ""

    @property
    def turn(self) -> str:
        """Whose turn this was: the queue and the lane."""
        return f"{self.queue} {self.lane}"


def claim(
    connection: Connection, queues: Sequence[str], count: int, worker_id: int, recent: Sequence[str] = ()
) -> list[Lease]:
    """Take up to `count` due messages for a worker process, from the first queues first, each lane in order of sending.

    `recent` are the turns of leases that this process had, the latest last: these lanes come last.
    """
    values = {"queues": list(queues), "count": count, "worker": worker_id, "recent": list(recent)}
    rows = connection.execute(CLAIM, values).all()
    ordered = sorted(rows, key=lambda row: (row.rank, row.place, row.lane, row.seq))
    return [
        Lease(row.message_id, row.claim, row.deliveries, row.body, row.deaths, row.queue_name, row.lane)
        for row in ordered
    ]


def spare(connection: Connection, lease: Lease) -> bool:
    """Forget the deaths at a message: the work on it makes progress; False when another worker took it over."""
    statement = SPARE if lease.deaths else HELD
    return connection.execute(statement, _fence(lease)).rowcount == 1


def finish(connection: Connection, lease: Lease) -> bool:
    """Delete a message that is done; False when another worker took it over."""
    return connection.execute(FINISH, _fence(lease)).rowcount == 1


def postpone(
    connection: Connection, lease: Lease, delay: float, *, body: str | None = None, reason: str | None = None
) -> bool:
    """Give a message back, due in `delay` seconds and as good as new; False when another worker took it over.

    `reason` is what it waits for, as a user reads it.
    """
    values = {**_fence(lease), "delay": delay, "body": body, "reason": reason}
    return len(connection.execute(POSTPONE, values).all()) == 1


def give_back(connection: Connection, lease: Lease, *, delay: float, error: str | None) -> None:
    """Give back a message whose attempt ended in `error`, due in `delay` seconds; the delivery counts."""
    values = {"delay": delay, "error": error, "unused": 0, "limit": MAX_DELIVERIES}
    connection.execute(RELEASE, {**_fence(lease), **values})


def give_back_unused(connection: Connection, lease: Lease) -> None:
    """Give back a message that nobody began to work on; the delivery does not count."""
    values = {"delay": 0.0, "error": None, "unused": 1, "limit": MAX_DELIVERIES + 1}
    connection.execute(RELEASE, {**_fence(lease), **values})


def reject(connection: Connection, lease: Lease, error: str | None) -> None:
    """Set a message aside for good; sending it again revives it."""
    connection.execute(REJECT, {**_fence(lease), "error": error})


def _fence(lease: Lease) -> dict[str, object]:
    return {"message_id": lease.message_id, "claim": lease.claim}


# --- a queue as a whole -----------------------------------------------------------------------------------------------

UNSETTLED: Final = text("""
SELECT EXISTS (SELECT FROM dramatiq.queue WHERE queue_name = :queue AND state IN ('queued', 'consumed'))
""")
CLEAR: Final = text("DELETE FROM dramatiq.queue WHERE queue_name = :queue")
DROP_REJECTED: Final = text("""
DELETE FROM dramatiq.queue WHERE state IN ('rejected', 'done') AND mtime < now() - interval '1 day' * :days
""")


def unsettled(connection: Connection, queue: str) -> bool:
    """Tell whether any message of the queue waits or is worked on."""
    return bool(connection.scalar(UNSETTLED, {"queue": queue}))


def clear(connection: Connection, queue: str) -> None:
    """Drop every message of the queue."""
    connection.execute(CLEAR, {"queue": queue})


def drop_rejected(connection: Connection, days: float) -> int:
    """Drop the messages that were set aside more than `days` ago, and return how many (R38)."""
    return connection.execute(DROP_REJECTED, {"days": days}).rowcount


# --- listening --------------------------------------------------------------------------------------------------------

LISTEN: Final = text("LISTEN dramatiq")


def listen(connection: Connection) -> None:
    """Hear of new messages on this connection."""
    connection.execute(LISTEN)


def heard(connection: Connection, timeout: float) -> set[str]:
    """Wait up to `timeout` seconds for news, and return the names of the queues that have some."""
    driver = cast("DriverConnection", connection.connection.dbapi_connection)
    return {news.payload for news in driver.notifies(timeout=timeout, stop_after=1)}
