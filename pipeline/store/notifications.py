"""The notification_outbox table: events that services outside were not notified of yet, and who was served already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, delete, text

from pipeline.tables import indexing_jobs, notification_outbox

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

# By name: a statement that is prepared outlives an upgrade that adds a column.
JOB: Final = ", ".join(f"j.{column.name}" for column in indexing_jobs.columns)
# What is due, with its job. A moment further ahead than anything is ever put off was written before the server's clock
# was set back.
_DUE = """
SELECT o.event_id, o.attempts, o.served, e.type, e.at, e.detail, clock_timestamp() AS now, {job},
       EXISTS (SELECT FROM penstock.job_events f WHERE f.job_id = j.id AND f.type = e.type AND f.id < e.id) AS repeated
FROM penstock.notification_outbox o
JOIN penstock.job_events e ON e.id = o.event_id
JOIN penstock.indexing_jobs j ON j.id = e.job_id
WHERE o.due_at <= clock_timestamp() OR o.due_at > clock_timestamp() + make_interval(secs => :longest)
ORDER BY o.due_at, o.event_id LIMIT :most FOR UPDATE OF o SKIP LOCKED
"""
DUE: Final = text(_DUE.format(job=JOB))

SUPERSEDE: Final = text("""
DELETE FROM penstock.notification_outbox o USING penstock.job_events e
WHERE e.id = o.event_id AND EXISTS (
    SELECT FROM penstock.notification_outbox p
    JOIN penstock.job_events f ON f.id = p.event_id
    JOIN unnest(CAST(:older AS text[]), CAST(:newer AS text[])) AS rule (older, newer)
        ON rule.older = e.type AND rule.newer = f.type
    WHERE f.job_id = e.job_id AND f.id > e.id)
""")

# What is claimed is due again when the claim has passed: later after each attempt, and not for all at the same moment.
CLAIM: Final = text("""
UPDATE penstock.notification_outbox SET
    attempts = attempts + 1,
    due_at = clock_timestamp()
        + make_interval(secs => least(:longest, :first * 2.0 ^ least(attempts, 20)) * (0.75 + 0.25 * random()))
WHERE event_id = ANY(:events)
""")

PUT_OFF: Final = text("""
UPDATE penstock.notification_outbox SET due_at = clock_timestamp() + make_interval(secs => :seconds)
WHERE event_id = :event
""")

SERVED: Final = text("""
UPDATE penstock.notification_outbox SET served = array_append(served, :service)
WHERE event_id = :event AND NOT :service = ANY(served)
""")

FINISHED: Final = text("""
DELETE FROM penstock.notification_outbox WHERE event_id = ANY(:events) AND served @> CAST(:services AS text[])
""")


def due(connection: Connection, most: int, longest: float) -> Sequence[Row[Any]]:
    """Lock up to `most` events that are due, with the rows of their jobs; nothing is put off for over `longest` s."""
    return connection.execute(DUE, {"most": most, "longest": longest}).all()


def supersede(connection: Connection, rules: Collection[tuple[str, str]]) -> int:
    """Drop the events that wait while a later one of their job makes them stale: (older, newer) types."""
    older, newer = ([pair[side] for pair in rules] for side in (0, 1))
    return connection.execute(SUPERSEDE, {"older": older, "newer": newer}).rowcount


def claim(connection: Connection, event_ids: Collection[int], first: float, longest: float) -> None:
    """Count an attempt at each event and have it due again in `first` seconds, doubled by each attempt before."""
    connection.execute(CLAIM, {"events": list(event_ids), "first": first, "longest": longest})


def put_off(connection: Connection, seconds: Mapping[int, float]) -> None:
    """Have each event due in so many seconds; that is no attempt."""
    if seconds:
        connection.execute(PUT_OFF, [{"event": event_id, "seconds": wait} for event_id, wait in seconds.items()])


def mark_served(connection: Connection, served: Collection[tuple[int, str]], services: Collection[str]) -> None:
    """Note which service was notified of which event, and drop the events of which all `services` were."""
    connection.execute(SERVED, [{"event": event_id, "service": service} for event_id, service in served])
    connection.execute(FINISHED, {"events": [event_id for event_id, _ in served], "services": list(services)})


def drop(connection: Connection, event_ids: Collection[int]) -> None:
    """Drop events that nobody is to be notified of any more."""
    connection.execute(delete(notification_outbox).where(notification_outbox.c.event_id.in_(event_ids)))


def drop_all(connection: Connection) -> int:
    """Drop every event: there is no service to be notified."""
    return connection.execute(delete(notification_outbox)).rowcount
