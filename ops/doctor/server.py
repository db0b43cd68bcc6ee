"""The checks of the database server: its versions, its clock, its sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ops import database
from ops.doctor.findings import Finding, failed, ok, warning
from pipeline.store import health
from pipeline.store.engine import reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.doctor.findings import Database

CLOCK_SECONDS: Final = 5.0
NEARLY_ALL: Final = 0.8
BLOCKED_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 60.0


def check_server(found: Database) -> Finding:
    """Compare the version of PostgreSQL."""
    version = found.state.server_version
    if int(version.partition(".")[0]) * 10_000 >= database.OLDEST_SERVER:
        return ok("server", f"PostgreSQL {version}")
    return failed("server", f"PostgreSQL {version} is too old", "Penstock needs 14 or newer")


def check_vector(found: Database) -> Finding:
    """Look for pgvector, and compare its version."""
    version, oldest = found.state.vector_version, ".".join(map(str, database.OLDEST_VECTOR))
    if version is None:
        return failed("pgvector", "it is missing", f"install pgvector {oldest} or newer on the server")
    if tuple(map(int, version.split(".")[:2])) >= database.OLDEST_VECTOR:
        return ok("pgvector", version)
    return failed("pgvector", f"{version} is too old", f"install {oldest}, then `ALTER EXTENSION vector UPDATE`")


def check_migrations(found: Database) -> Finding:
    """Compare the revision of the database with ours."""
    state = found.state
    if state.behind and found.embedded:
        return ok("migrations", f"at {state.current or 'nothing'}; the next command brings it to {state.head}")
    if state.behind:
        return failed("migrations", f"at {state.current or 'nothing'}, not {state.head}", "run `penstock db upgrade`")
    if state.ahead:
        return failed("migrations", f"at {state.current}, ours is {state.head}", "upgrade this Penstock")
    return ok("migrations", f"at {state.head}")


def check_clock(found: Database) -> Finding:
    """Compare the clocks of this host and of the database."""
    with reading(found.engine) as connection:
        before = datetime.now(UTC)
        there = health.clock(connection)
        here = before + (datetime.now(UTC) - before) / 2
    seconds = (there - here).total_seconds()
    if abs(seconds) <= CLOCK_SECONDS:
        return ok("clock", "as the database's")
    word = "ahead of" if seconds > 0 else "behind"
    text = f"the database's clock is {abs(seconds):.0f} s {word} this host's"
    return warning("clock", text, "synchronise both (NTP): ages and times in status, logs and lists mislead")


def check_connections(found: Database) -> Finding:
    """Look how much of the tightest limit on connections is used."""
    with reading(found.engine) as connection:
        most = health.connections(connection)
    text = f"{most.used} of {most.limit} of {most.owner}"
    if most.used < NEARLY_ALL * most.limit:
        return ok("connections", text)
    advice = "raise the limit, or run fewer worker processes: each takes its threads and three"
    return warning("connections", f"nearly all are used: {text}", advice)


def check_sessions(found: Database) -> Finding:
    """Look for sessions that hold up ours, or hold their transaction open and do nothing."""
    with reading(found.engine) as connection:
        blocked = health.blocked(connection, BLOCKED_SECONDS)
        idle = health.idle_in_transaction(connection, IDLE_SECONDS)
    if blocked:
        text = f"{blocked.name} waits for a lock of {blocked.by} (pid {blocked.pid}) for {blocked.seconds:.0f} s"
        advice = f"end what that session does, or `SELECT pg_terminate_backend({blocked.pid})`"
        return failed("sessions", text, advice)
    if idle:
        text = f"{idle.by} (pid {idle.pid}) keeps a transaction open and has done nothing for {idle.seconds:.0f} s"
        advice = f"commit there, or `SELECT pg_terminate_backend({idle.pid})`: until then dead rows pile up"
        return warning("sessions", text, advice)
    return ok("sessions", "none waits for another")


CHECKS: Final[tuple[Callable[[Database], Finding], ...]] = (
    check_server,
    check_vector,
    check_migrations,
    check_clock,
    check_connections,
    check_sessions,
)
