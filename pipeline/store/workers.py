"""The worker processes: who lives, who leads, and what becomes of the messages of the dead."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from pipeline.records import Worker
from pipeline.states import Stage
from pipeline.store.counts import striking
from pipeline.store.messages import MAX_DELIVERIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection

    from pipeline.store.counts import Counts

STALE_SECONDS: Final = 6
"""A worker process without a heartbeat for so long, and without its lock, is dead."""
HUNG_SECONDS: Final = 15
"""A worker process without a heartbeat for so long is given up, whatever it still holds."""
STRAY_SECONDS: Final = 5
"""A claim that its own process does not know after so long was lost on the way to it."""
LATEST_SECONDS: Final = 60
"""Nothing is ever due later than this; what is was stamped before the server's clock was set back."""

# Advisory locks of class 'pnst': number 0 is the caretaker's, the others prove that the worker of this id lives.
ENROL: Final = text("""
INSERT INTO penstock.workers (id, host, pid, stages, threads, version, session)
VALUES (nextval('penstock.worker_ids'), :host, :pid, :stages, :threads, :version, current_setting('application_name'))
RETURNING id
""")
REPLACE: Final = striking("""
gone AS (DELETE FROM penstock.workers WHERE host = :host AND pid = :pid AND id <> :id RETURNING counts)
""")
LEAVE: Final = striking(
    """
gone AS (DELETE FROM penstock.workers WHERE id = :id RETURNING coalesce(CAST(:counts AS jsonb), counts) AS counts)
""",
    dead=False,
)
LOCK: Final = text("SELECT pg_try_advisory_lock(x'706e7374'::integer, :number)")
# Counts wait for the disk: taken back by a crash of the server, they would look as if all had been counted anew.
BEAT: Final = text("""
UPDATE penstock.workers SET seen_at = clock_timestamp(), counts = coalesce(CAST(:counts AS jsonb), counts)
WHERE id = :id
RETURNING CASE WHEN CAST(:counts AS jsonb) IS NULL THEN set_config('synchronous_commit', 'off', true) END
""")

# After a restart of the server every worker looks dead until it has come back, so the server's own age counts too.
# A process that hangs, or a host that left the network, loses its sessions with its place: it may hold locks, and stay
# the caretaker for ever.
BURY: Final = striking("""
locks AS MATERIALIZED (
    SELECT objid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = CAST(x'706e7374'::integer AS oid) AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), gone AS (
    DELETE FROM penstock.workers AS dead
    WHERE greatest(seen_at, pg_postmaster_start_time()) < clock_timestamp() - make_interval(secs => :stale)
      AND (seen_at < clock_timestamp() - make_interval(secs => :hung)
           OR NOT EXISTS (SELECT FROM locks WHERE objid = CAST(dead.id AS oid)))
    RETURNING counts, (
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = dead.session AND datname = current_database() AND usename = current_user)
)
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
    worker = NULL, claim = 0, deaths = deaths + 1, mtime = clock_timestamp(), error = 'its worker process died'
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

# A job's messages stand in its lane. One that a living worker could take is not waited for long.
WAITS: Final = text("""
SELECT
    array(SELECT DISTINCT q.queue_name FROM dramatiq.queue AS q
        WHERE q.lane = :lane AND q.state = 'queued' AND NOT EXISTS (
            SELECT FROM penstock.workers AS w
            WHERE q.queue_name = ANY(w.stages)
              AND w.seen_at > clock_timestamp() - make_interval(secs => :hung))) AS unserved,
    (SELECT max(q.error) FROM dramatiq.queue AS q WHERE q.lane = :lane AND q.state = 'queued') AS reason,
    EXISTS (SELECT FROM dramatiq.queue AS q WHERE q.lane = :lane AND q.state = 'consumed') AS busy
""")

SET_BACK: Final = text("""
WITH living AS (
    UPDATE penstock.workers SET seen_at = clock_timestamp()
    WHERE seen_at > clock_timestamp() + make_interval(secs => :latest)
)
UPDATE dramatiq.queue SET eta = least(eta, clock_timestamp()), mtime = least(mtime, clock_timestamp())
WHERE greatest(eta, mtime) > clock_timestamp() + make_interval(secs => :latest)
""")

WORKERS: Final = text("""
SELECT w.id, w.host, w.pid, w.stages, w.threads, w.started_at, w.seen_at, w.version,
       (SELECT count(*) FROM dramatiq.queue AS q WHERE q.worker = w.id AND q.state = 'consumed') AS busy
FROM penstock.workers AS w ORDER BY w.id
""")


def enrol(connection: Connection, host: str, pid: int, stages: Sequence[str], threads: int, version: str = "") -> int:
    """Enter a worker process into the list of the living and return its id."""
    values = {"host": host, "pid": pid, "stages": list(stages), "threads": threads, "version": version}
    return int(connection.execute(ENROL, values).scalar_one())


def replace(connection: Connection, worker_id: int, host: str, pid: int) -> None:
    """Strike the process from the list that a worker was started in the place of: its parent saw it die."""
    connection.execute(REPLACE, {"id": worker_id, "host": host, "pid": pid})


def leave(connection: Connection, worker_id: int, counts: Counts | None = None) -> None:
    """Strike a worker process from the list; what it still holds is given back by the next one that looks."""
    connection.execute(LEAVE, {"id": worker_id, "counts": _json(counts)})


def prove_life(connection: Connection, worker_id: int) -> None:
    """Tie the worker's life to this session."""
    connection.execute(LOCK, {"number": worker_id})


def take_lead(connection: Connection) -> bool:
    """Become the caretaker for as long as this session lives, unless another process is."""
    return bool(connection.scalar(LOCK, {"number": 0}))


def beat(connection: Connection, worker_id: int, counts: Counts | None = None) -> bool:
    """Refresh the heartbeat, and what the process counted, if that is new; False when it was given up for dead."""
    return len(connection.execute(BEAT, {"id": worker_id, "counts": _json(counts)}).all()) == 1


def _json(counts: Counts | None) -> str | None:
    return None if counts is None else json.dumps(dict(counts))


def reap(connection: Connection) -> int:
    """Strike dead worker processes from the list, give back what they held, and return how many messages that were."""
    connection.execute(BURY, {"stale": STALE_SECONDS, "hung": HUNG_SECONDS})
    return len(connection.execute(ORPHANS, {"limit": MAX_DELIVERIES}).all())


def give_back_strays(connection: Connection, worker_id: int, held: Sequence[int]) -> int:
    """Give back what the server counts as this worker's though it never arrived there, and return how many."""
    return len(connection.execute(STRAYS, {"worker": worker_id, "held": list(held), "stray": STRAY_SECONDS}).all())


def forget_future(connection: Connection) -> int:
    """Bring moments that lie too far ahead back to now, and return how many messages that were.

    When the server's clock is set back, what was due at once would be due in hours, and the dead would look alive.
    """
    return connection.execute(SET_BACK, {"latest": LATEST_SECONDS}).rowcount


@dataclass(frozen=True, slots=True)
class Waits:
    """What a job's messages wait for: stages without a living worker, and the reason that one was given back for."""

    unserved: tuple[str, ...]
    reason: str | None
    busy: bool


def waits_of(connection: Connection, job_id: UUID) -> Waits:
    """Return what the messages of a job wait for."""
    row = connection.execute(WAITS, {"lane": str(job_id), "hung": HUNG_SECONDS}).one()
    order = [stage for stage in Stage if stage in row.unserved]
    return Waits(tuple(order), row.reason, row.busy)


def listed(connection: Connection) -> tuple[Worker, ...]:
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
            version=version,
            busy=busy,
        )
        for identity, host, pid, stages, threads, started, seen, version, busy in rows
    )
