"""The test database: one server for the whole run, one template migrated once, one fresh copy a test."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from ops import database, postgres
from pipeline.store.engine import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

CHECKOUT: Final = Path(__file__).parent.parent
HOME: Final = Path(tempfile.gettempdir()) / (
    f"penstock-tests-{os.geteuid()}-{hashlib.sha256(bytes(CHECKOUT)).hexdigest()[:8]}"
)
USERS: Final = HOME.with_suffix(".users")
"""Locked in shared mode by every process that uses the server, so that the last one to leave can tell."""
UNSAFE_BUT_QUICK: Final = ("fsync", "full_page_writes", "synchronous_commit")
SERIAL: Final = count(1)
KNOWS_STRATEGIES: Final = 150_000

# The tests start hundreds of processes of their own; each would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Yield an administrator's URL of a server: PENSTOCK_TEST_DATABASE_URL, else our own, stopped by its last user."""
    foreign = os.environ.get("PENSTOCK_TEST_DATABASE_URL")
    if foreign:
        yield foreign
        return
    with USERS.open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield _own_server()
        fcntl.flock(users, fcntl.LOCK_UN)
        _remove_when_last(users.fileno())


def _own_server() -> str:
    url = postgres.ensure(HOME)
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in UNSAFE_BUT_QUICK:
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")
    return url


def _remove_when_last(users: int) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    postgres.stop(HOME, "immediate")
    shutil.rmtree(HOME)


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """Return the name of a migrated database to copy; it is made by the first process that needs it."""
    name = f"penstock_template_{_fingerprint()}"
    with _administrator(server_url) as administrator:
        administrator.execute("SELECT pg_advisory_lock(hashtext('penstock test template'))")
        known = administrator.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if known is None:
            _make_template(administrator, server_url, name)
    return name


def _make_template(administrator: psycopg.Connection, server_url: str, name: str) -> None:
    new = f"{name}_new"
    _execute(administrator, "DROP DATABASE IF EXISTS {}", new)
    _execute(administrator, "CREATE DATABASE {}", new)
    database.upgrade(_named(server_url, new))
    _execute(administrator, "ALTER DATABASE {} RENAME TO {}", new, name)


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """Yield the URL of a fresh, migrated database of this test's own."""
    with _fresh_database(server_url, template) as url:
        yield url


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """Yield the URL of a fresh database that was never migrated."""
    with _fresh_database(server_url, "template1") as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Yield an engine on this test's database."""
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def shared_engine(server_url: str, template: str) -> Iterator[Engine]:
    """Yield an engine on a database for those tests of a module that only look: whoever fills it seals it."""
    with _fresh_database(server_url, template) as url:
        engine = connect(url)
        yield engine
        engine.dispose()


@contextmanager
def _fresh_database(server_url: str, template: str) -> Iterator[str]:
    name = f"penstock_test_{os.getpid()}_{next(SERIAL)}"
    with _administrator(server_url) as administrator:
        quick = " STRATEGY wal_log" if administrator.info.server_version >= KNOWS_STRATEGIES else ""
        _execute(administrator, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        _execute(administrator, "CREATE DATABASE {} TEMPLATE {}" + quick, name, template)
    yield _named(server_url, name)
    with _administrator(server_url) as administrator:
        _execute(administrator, "DROP DATABASE {} WITH (FORCE)", name)


def _administrator(server_url: str) -> psycopg.Connection:
    return psycopg.connect(server_url, autocommit=True)


def _execute(administrator: psycopg.Connection, statement: LiteralString, *names: str) -> None:
    administrator.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _named(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def _fingerprint() -> str:
    """Return a name for the state of the migrations, so that a changed one makes a new template."""
    revisions = sorted((CHECKOUT / "migrations" / "versions").glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in revisions)).hexdigest()[:12]
