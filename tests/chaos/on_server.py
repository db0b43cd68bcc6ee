"""Faults of the database's server, its disk, its connections and its clock."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
from psycopg import sql

from tests.chaos.server import DATABASE, NAME, ROLE
from tests.chaos.waiting import soon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.chaos.world import World

HOGS: Final = 200
SHARE: Final = (1.0, 0.5, 0.2)
"""How many of the sessions get lost."""
SESSIONS: Final = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name <> %s AND datname = current_database() ORDER BY backend_start
"""
BREAK: Final = "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS u (pid)"
TIMES: Final = """
SELECT table_schema, table_name, array_agg(column_name::text) FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema IN ('penstock', 'dramatiq') AND table_type = 'BASE TABLE' AND data_type LIKE 'timestamp%'
GROUP BY 1, 2 ORDER BY 1, 2
"""
LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '100ms'"
"""Less than the server waits before it looks for a deadlock, and ends somebody's transaction."""


@contextmanager
def restart(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Restart the server as a power cut would: nothing is flushed, sessions are broken."""
    with world.server.down("immediate"):
        yield {}


@contextmanager
def stop(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Stop the server for a while, in one of the two ways that break sessions."""
    how = "immediate" if random.random() < 0.5 else "fast"
    with world.server.down(how):  # type: ignore[arg-type]  # one of its two words
        yield {"how": how}


@contextmanager
def kill_postmaster(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Kill the server's first process with SIGKILL."""
    postmaster = world.server.postmaster()
    postmaster.kill()
    yield {"pid": postmaster.pid}


@contextmanager
def kill_session(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Kill the process of one session, at which the server ends all others and recovers."""
    with world.server.session() as session:
        pid = random.choice(_sessions(session))
    os.kill(pid, signal.SIGKILL)
    yield {"pid": pid}


@contextmanager
def lose_connections(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Break some of the sessions, or all."""
    share = random.choice(SHARE)
    with world.server.session() as session:
        pids = _sessions(session)
        chosen = random.sample(pids, max(1, round(share * len(pids))))
        session.execute(BREAK, (chosen,))
    yield {"sessions": len(chosen), "of": len(pids)}


def _sessions(session: psycopg.Connection) -> list[int]:
    found = [pid for (pid,) in session.execute(SESSIONS, (NAME,))]
    if not found:
        raise LookupError("nobody is connected")
    return found


@contextmanager
def out_of_connections(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Open sessions under the workers' account until the server refuses more, break theirs, and take those as well."""
    with ExitStack() as held:
        taken = _take_all(world, held)
        with world.server.session() as session:
            lost = _sessions(session)
            session.execute(BREAK, (lost,))
        yield {"sessions": taken + _take_all(world, held), "lost": len(lost)}


def _take_all(world: World, held: ExitStack) -> int:
    """Open sessions until the server refuses more, and return how many there were."""
    for count in range(HOGS):
        try:
            held.enter_context(world.server.session(role=ROLE, name=DATABASE))
        except psycopg.OperationalError:
            return count
    return HOGS


@contextmanager
def full_disk(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Fill the disk of the database to the last byte."""
    with world.server.full_disk() as taken:
        yield {"bytes": taken}


@contextmanager
def clock_back(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Set the server's clock back by an hour."""
    _shift(world, "1 hour")
    yield {}


@contextmanager
def clock_forward(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Set the server's clock forward by an hour."""
    _shift(world, "-1 hour")
    yield {}


def _shift(world: World, interval: LiteralString) -> None:
    """Move every stored time: to those who compare it with now, the clock jumped the other way."""
    with world.server.session() as session:
        tables = session.execute(TIMES).fetchall()
        if not soon(lambda: _shifted(session, tables, interval), patience=10):
            raise LookupError("the tables were never free at once")


def _shifted(session: psycopg.Connection, tables: list[tuple[str, str, list[str]]], interval: LiteralString) -> bool:
    """Shift all tables at one instant; False when somebody holds one of them."""
    names = [sql.Identifier(schema, table) for schema, table, _ in tables]
    try:
        with session.transaction():
            session.execute("SET LOCAL session_replication_role = replica")  # no trigger is meant for this
            session.execute(LOCK_TIMEOUT)
            session.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(names)))
            for name, (_, _, columns) in zip(names, tables, strict=True):
                later = sql.SQL("{0} = {0} + {1}::interval")
                values = sql.SQL(", ").join(
                    later.format(sql.Identifier(each), sql.Literal(interval)) for each in columns
                )
                session.execute(sql.SQL("UPDATE {} SET {}").format(name, values))
    except psycopg.errors.LockNotAvailable:
        return False
    return True
