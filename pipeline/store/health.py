"""What the database says of its own health, for those who look for a fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

# --- the server -------------------------------------------------------------------------------------------------------

CLOCK: Final = text("SELECT clock_timestamp()")
CONNECTIONS: Final = text("""
SELECT owner, used, most FROM (
    SELECT 'the server', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
        CAST(current_setting('max_connections') AS integer)
            - CAST(current_setting('superuser_reserved_connections') AS integer)
    UNION ALL
    SELECT 'database ' || datname, (SELECT count(*) FROM pg_stat_activity AS a WHERE a.datid = d.oid), datconnlimit
    FROM pg_database AS d WHERE datname = current_database()
    UNION ALL
    SELECT 'account ' || rolname, (SELECT count(*) FROM pg_stat_activity AS a WHERE a.usesysid = r.oid), rolconnlimit
    FROM pg_roles AS r WHERE rolname = current_user
) AS limits (owner, used, most)
WHERE most > 0 ORDER BY used / CAST(most AS double precision) DESC LIMIT 1
""")
BLOCKED: Final = text("""
SELECT waits.application_name, holds.pid, holds.application_name,
       extract(epoch FROM clock_timestamp() - waits.query_start) AS seconds
FROM pg_stat_activity AS waits
CROSS JOIN LATERAL unnest(pg_blocking_pids(waits.pid)) AS blocker
JOIN pg_stat_activity AS holds ON holds.pid = blocker
WHERE waits.datname = current_database() AND waits.application_name LIKE 'penstock%'
  AND waits.wait_event_type = 'Lock' AND waits.query_start < clock_timestamp() - make_interval(secs => :seconds)
ORDER BY seconds DESC LIMIT 1
""")
IDLE: Final = text("""
SELECT '', pid, application_name, extract(epoch FROM clock_timestamp() - state_change) AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND state LIKE 'idle in transaction%'
  AND state_change < clock_timestamp() - make_interval(secs => :seconds)
ORDER BY seconds DESC LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections there are of those that a limit allows, and whose limit it is."""

    owner: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session that holds something up: whom (nobody in particular: empty), its pid and name, and for how long."""

    name: str
    pid: int
    by: str
    seconds: float


def clock(connection: Connection) -> datetime:
    """Return the server's time."""
    now: datetime = connection.execute(CLOCK).scalar_one()
    return now


def connections(connection: Connection) -> Connections:
    """Return the limit on connections that is nearest to being used up."""
    return Connections(*connection.execute(CONNECTIONS).one())


def blocked(connection: Connection, seconds: float) -> Session | None:
    """Return who has held up a session of ours for the longest time, if longer than so many seconds."""
    return _session(connection.execute(BLOCKED, {"seconds": seconds}).first())


def idle_in_transaction(connection: Connection, seconds: float) -> Session | None:
    """Return the session whose transaction has been idle for the longest time, if longer than so many seconds."""
    return _session(connection.execute(IDLE, {"seconds": seconds}).first())


def _session(row: Row[Any] | None) -> Session | None:
    if row is None:
        return None
    name, pid, by, seconds = tuple(row)
    return Session(name, pid, by or "another program", float(seconds))


# --- the work ---------------------------------------------------------------------------------------------------------

SILENT: Final = text("""
SELECT id FROM penstock.workers WHERE seen_at < clock_timestamp() - make_interval(secs => :seconds)
""")
REJECTED: Final = text("""
SELECT queue_name, count(*) OVER (), error FROM dramatiq.queue WHERE state = 'rejected' ORDER BY mtime DESC LIMIT 1
""")
SPACES: Final = text("""
SELECT m.embedder, m.model, m.dimension, count(*) FROM penstock.repositories AS r
JOIN penstock.models AS m ON m.id = r.model_id GROUP BY 1, 2, 3 ORDER BY 4 DESC
""")
UNDELIVERED: Final = text("SELECT count(*), max(attempts) FROM penstock.notification_outbox WHERE attempts > 1")


@dataclass(frozen=True, slots=True)
class Rejected:
    """Messages that were set aside: the stage and the error of the last one, and how many there are."""

    stage: str
    count: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Space:
    """A vector space, and how many repositories are in it."""

    embedder: str
    model: str
    dimension: int
    repositories: int


def silent_workers(connection: Connection, seconds: float) -> frozenset[int]:
    """Return the ids of the worker processes without a heartbeat for so long."""
    return frozenset(connection.execute(SILENT, {"seconds": seconds}).scalars())


def rejected(connection: Connection) -> Rejected | None:
    """Return what was set aside."""
    row = connection.execute(REJECTED).first()
    return Rejected(*row) if row else None


def spaces(connection: Connection) -> list[Space]:
    """Return the vector spaces that repositories are in."""
    return [Space(*row) for row in connection.execute(SPACES)]


def undelivered(connection: Connection) -> tuple[int, int]:
    """Return how many notifications were tried more than once, and how often one was."""
    count, attempts = connection.execute(UNDELIVERED).one()
    return count, attempts or 0
