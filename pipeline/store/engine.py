"""The connection pool of a process, and the transactions of those who ask."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pgvector.psycopg import register_vector
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError

from pipeline.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection as DriverConnection
    from sqlalchemy import Connection

BOUNDS: Final = {
    "idle_in_transaction_session_timeout": "15s",
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "6s",
}
"""What the server lets a session hold on to: one of a process that hangs, or whose host left the network."""
SET_BOUNDS: Final = "SELECT " + ", ".join(f"set_config('{name}', '{bound}', false)" for name, bound in BOUNDS.items())
KNOWS_VECTORS: Final = "SELECT 1 FROM pg_type WHERE typname = 'halfvec'"
VANISHED_PEER: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A server that left the network is noticed within some 11 seconds: idle and interval in seconds, the last in ms."""


def connect(url: str, *, pool_size: int = 4, application_name: str = "penstock") -> Engine:
    """Return an engine for a libpq URL (`postgresql://…`); no connection is made before the first use.

    Connections are checked before use, so that a restart of the server costs a retry and not an error.
    """
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_use_lifo=True,  # the session that was used last has its statements prepared
        hide_parameters=True,
        connect_args={"application_name": application_name, "connect_timeout": 10, **VANISHED_PEER},
    )
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(driver: DriverConnection[Any], _record: object) -> None:
    """Bound what a hung process may hold on a new connection, and teach it pgvector's types, where they are known."""
    with driver.cursor() as cursor:
        cursor.execute(SET_BOUNDS)
        cursor.execute(KNOWS_VECTORS)
        known = cursor.fetchone() is not None
    if known:
        register_vector(driver)
    driver.commit()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction for what a user asked: it must end in a user's error when the database is away."""
    try:
        with engine.begin() as connection:
            yield connection
    except OperationalError as error:
        raise unreachable(error) from error


def unreachable(error: Exception) -> DatabaseError:
    """Return the user's error for a connection that failed."""
    reason = str(error.__cause__ or error).strip().splitlines()[0]
    return DatabaseError(f"the database does not answer: {reason}; `penstock doctor` looks for the cause")


@contextmanager
def reading(engine: Engine, *, snapshot: bool = False) -> Iterator[Connection]:
    """Open a connection for reads; what a user asked must end in a user's error when the database is away.

    On a `snapshot` all statements see the same rows, else each is a transaction of its own. Nothing is rolled back: the
    driver would forget the statements that it has prepared, and each would be planned every time.
    """
    try:
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level="REPEATABLE READ" if snapshot else "AUTOCOMMIT")
            connection.commit()
    except OperationalError as error:
        raise unreachable(error) from error
