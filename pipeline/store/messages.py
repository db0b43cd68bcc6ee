"""The queue's SQL: messages with leases in dramatiq-pg's table, and the worker processes that hold them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID, uuid5

from sqlalchemy import text

from pipeline.records import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection as DriverConnection
    from sqlalchemy import Connection

    from pipeline.states import Stage

NAMESPACE: Final = UUID("70656e73-746f-636b-8000-717565756573")
MAX_DELIVERIES: Final = 20
"""The back-stop: a message that was handed out so often is rejected. Stages know about poison long before."""
STALE_SECONDS: Final = 6
"""A worker process without a heartbeat for so long, and without its lock, is dead."""
HUNG_SECONDS: Final = 60
"""A worker process without a heartbeat for so long is given up, whatever it still holds."""
STRAY_SECONDS: Final = 5
"""A claim that its own process does not know after so long was lost on the way to it."""

# --- sending ----------------------------------------------------------------------------------------------------------

ENQUEUE: Final = text("""
INSERT INTO dramatiq.queue AS q (message_id, queue_name, state, mtime, message, eta)
VALUES (:message_id, :queue, 'queued', clock_timestamp(), CAST(:body AS jsonb),
        clock_timestamp() + make_interval(secs => :delay))
ON CONFLICT (message_id) DO UPDATE SET
    state = 'queued', mtime = EXCLUDED.mtime, message = EXCLUDED.message, eta = EXCLUDED.eta, deliveries = 0,
    error = NULL
    WHERE q.state = 'rejected'
RETURNING CASE WHEN :delay <= 0 THEN pg_notify('dramatiq', q.queue_name) END
""")


def message_id(stage: Stage, subject: str) -> UUID:
    """Return the id of the only message that can tell `stage` to work on `subject`."""
    return uuid5(NAMESPACE, f"{stage}:{subject}")


def enqueue(connection: Connection, message_id: UUID | str, queue: str, body: str, *, delay: float = 0.0) -> None:
    """Queue a message, due in `delay` seconds; `body` is Dramatiq's JSON. Changes nothing when it is queued or held.

    A rejected message is revived. Raises sqlalchemy's DataError for what JSONB cannot hold (NUL, lone surrogates).
    """
    connection.execute(ENQUEUE, {"message_id": message_id, "queue": queue, "body": body, "delay": delay})


def send(connection: Connection, stage: Stage, subject: str, *, delay: float = 0.0) -> None:
    """Queue the stage's message for `subject`, due in `delay` seconds; part of the caller's transaction."""
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
    enqueue(connection, identity, stage.value, json.dumps(body), delay=delay)


class MessageOutbox:
    """The outbox of a process that only submits: it needs no broker and no worker."""

    def send(self, connection: Connection, stage: Stage, subject: str, *, delay: float = 0.0) -> None:
        """Queue the stage's message for `subject`, due in `delay` seconds; part of the caller's transaction."""
        send(connection, stage, subject, delay=delay)


# --- holding a message ------------------------------------------------------------------------------------------------

# The claim commits lazily: when a crash of the server forgets it, the message is handed out again, and whoever deletes
# it first wins. The queues are visited in the order given, so that a later stage goes first.
CLAIM: Final = text("""
WITH due AS MATERIALIZED (
    SELECT served.rank, ready.message_id
    FROM (SELECT * FROM unnest(CAST(:queues AS text[])) WITH ORDINALITY AS u (name, rank) ORDER BY rank) AS served
    CROSS JOIN LATERAL (
        SELECT message_id FROM dramatiq.queue
        WHERE state = 'queued' AND queue_name = served.name AND eta <= clock_timestamp()
        ORDER BY seq LIMIT :count FOR UPDATE SKIP LOCKED
    ) AS ready
    LIMIT :count
)
UPDATE dramatiq.queue AS q SET
    state = 'consumed', worker = :worker, claim = nextval('dramatiq.claims'), deliveries = q.deliveries + 1,
    mtime = clock_timestamp()
FROM due WHERE q.message_id = due.message_id
RETURNING due.rank, q.seq, q.message_id, q.claim, q.deliveries, CAST(q.message AS text) AS body,
          set_config('synchronous_commit', 'off', true)
""")

FINISH: Final = text("""
DELETE FROM dramatiq.queue WHERE message_id = :message_id AND claim = :claim AND state = 'consumed'
""")

POSTPONE: Final = text("""
UPDATE dramatiq.queue SET
    state = 'queued', worker = NULL, claim = 0, deliveries = 0, mtime = clock_timestamp(),
    eta = clock_timestamp() + make_interval(secs => :delay), message = coalesce(CAST(:body AS jsonb), message)
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


@dataclass(frozen=True, slots=True)
class Lease:
    """A message as it was claimed: `claim` fences all that is done with it, `body` is Dramatiq's JSON."""

    message_id: UUID
    claim: int
    deliveries: int
    body: str


def claim(connection: Connection, queues: Sequence[str], count: int, worker_id: int) -> list[Lease]:
    """Take up to `count` due messages for a worker process, from the first queues first, each in order of sending."""
    rows = connection.execute(CLAIM, {"queues": list(queues), "count": count, "worker": worker_id}).all()
    ordered = sorted(rows, key=lambda row: (row.rank, row.seq))
    return [Lease(row.message_id, row.claim, row.deliveries, row.body) for row in ordered]


def finish(connection: Connection, lease: Lease) -> bool:
    """Delete a message that is done; False when another worker took it over."""
    return connection.execute(FINISH, _fence(lease)).rowcount == 1


def postpone(connection: Connection, lease: Lease, delay: float, *, body: str | None = None) -> bool:
    """Give a message back, due in `delay` seconds and as good as new; False when another worker took it over."""
    return len(connection.execute(POSTPONE, {**_fence(lease), "delay": delay, "body": body}).all()) == 1


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


# --- worker processes -------------------------------------------------------------------------------------------------

# Advisory locks of class 'pnst': number 0 is the caretaker's, the others prove that the worker of this id lives.
ENROL: Final = text("""
INSERT INTO penstock.workers (id, host, pid, stages, threads)
VALUES (nextval('penstock.worker_ids'), :host, :pid, :stages, :threads) RETURNING id
""")
LEAVE: Final = text("DELETE FROM penstock.workers WHERE id = :id")
LOCK: Final = text("SELECT pg_try_advisory_lock(x'706e7374'::integer, :number)")
LISTEN: Final = text("LISTEN dramatiq")
BEAT: Final = text("""
UPDATE penstock.workers SET seen_at = clock_timestamp() WHERE id = :id
RETURNING set_config('synchronous_commit', 'off', true)
""")

# After a restart of the server every worker looks dead until it has come back, so the server's own age counts too.
# A hung process loses its connection with its place, or it would stay the caretaker for ever.
BURY: Final = text("""
WITH locks AS MATERIALIZED (
    SELECT pid, objid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = CAST(x'706e7374'::integer AS oid) AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
DELETE FROM penstock.workers AS dead
WHERE greatest(seen_at, pg_postmaster_start_time()) < clock_timestamp() - make_interval(secs => :stale)
  AND (seen_at < clock_timestamp() - make_interval(secs => :hung)
       OR NOT EXISTS (SELECT FROM locks WHERE objid = CAST(dead.id AS oid)))
RETURNING (SELECT count(pg_terminate_backend(pid)) FROM locks WHERE objid = CAST(dead.id AS oid))
""")

# Rows that a stage's transaction has locked are passed over: nobody who mends may wait for a process that hangs.
ORPHANS: Final = text("""
WITH orphans AS MATERIALIZED (
    SELECT message_id FROM dramatiq.queue AS q
    WHERE state = 'consumed' AND NOT EXISTS (SELECT FROM penstock.workers AS w WHERE w.id = q.worker)
    FOR UPDATE OF q SKIP LOCKED
)
UPDATE dramatiq.queue AS q SET
    state = CAST(CASE WHEN deliveries >= :limit THEN 'rejected' ELSE 'queued' END AS dramatiq.state),
    worker = NULL, claim = 0, mtime = clock_timestamp(), error = 'its worker process died'
FROM orphans WHERE q.message_id = orphans.message_id
RETURNING pg_notify('dramatiq', queue_name)
""")

STRAYS: Final = text("""
WITH strays AS MATERIALIZED (
    SELECT message_id FROM dramatiq.queue
    WHERE state = 'consumed' AND worker = :worker AND claim <> ALL (CAST(:held AS bigint[]))
      AND mtime < clock_timestamp() - make_interval(secs => :stray)
    FOR UPDATE SKIP LOCKED
)
UPDATE dramatiq.queue AS q SET
    state = 'queued', worker = NULL, claim = 0, deliveries = greatest(deliveries - 1, 0), mtime = clock_timestamp()
FROM strays WHERE q.message_id = strays.message_id
RETURNING pg_notify('dramatiq', queue_name)
""")

WORKERS: Final = text("""
SELECT w.id, w.host, w.pid, w.stages, w.threads, w.started_at, w.seen_at,
       (SELECT count(*) FROM dramatiq.queue AS q WHERE q.worker = w.id AND q.state = 'consumed') AS busy
FROM penstock.workers AS w ORDER BY w.id
""")


def enrol(connection: Connection, host: str, pid: int, stages: Sequence[str], threads: int) -> int:
    """Enter a worker process into the list of the living and return its id."""
    values = {"host": host, "pid": pid, "stages": list(stages), "threads": threads}
    return int(connection.execute(ENROL, values).scalar_one())


def leave(connection: Connection, worker_id: int) -> None:
    """Strike a worker process from the list; what it still holds is given back by the next one that looks."""
    connection.execute(LEAVE, {"id": worker_id})


def prove_life(connection: Connection, worker_id: int) -> None:
    """Tie the worker's life to this session, and hear of new messages on it."""
    connection.execute(LOCK, {"number": worker_id})
    connection.execute(LISTEN)


def take_lead(connection: Connection) -> bool:
    """Become the caretaker for as long as this session lives, unless another process is."""
    return bool(connection.scalar(LOCK, {"number": 0}))


def beat(connection: Connection, worker_id: int) -> bool:
    """Refresh the heartbeat; False when the process was given up for dead meanwhile."""
    return len(connection.execute(BEAT, {"id": worker_id}).all()) == 1


def reap(connection: Connection) -> int:
    """Strike dead worker processes from the list, give back what they held, and return how many messages that were."""
    connection.execute(BURY, {"stale": STALE_SECONDS, "hung": HUNG_SECONDS})
    return len(connection.execute(ORPHANS, {"limit": MAX_DELIVERIES}).all())


def give_back_strays(connection: Connection, worker_id: int, held: Sequence[int]) -> int:
    """Give back what the server counts as this worker's though it never arrived there, and return how many."""
    return len(connection.execute(STRAYS, {"worker": worker_id, "held": list(held), "stray": STRAY_SECONDS}).all())


def heard(connection: Connection, timeout: float) -> set[str]:
    """Wait up to `timeout` seconds for news, and return the names of the queues that have some."""
    driver = cast("DriverConnection", connection.connection.dbapi_connection)
    return {news.payload for news in driver.notifies(timeout=timeout, stop_after=1)}


def workers(connection: Connection) -> tuple[Worker, ...]:
    """Return the worker processes that are alive, or were a moment ago, oldest first."""
    rows = connection.execute(WORKERS).all()
    return tuple(
        Worker(
            worker_id=identity,
            host=host,
            pid=pid,
            stages=tuple(stages),
            threads=threads,
            started_at=started,
            seen_at=seen,
            busy=busy,
        )
        for identity, host, pid, stages, threads, started, seen, busy in rows
    )
