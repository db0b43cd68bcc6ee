"""What the database itself is: its revision, its server and its extension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.schema import CreateSchema

from pipeline.tables import SCHEMA

if TYPE_CHECKING:
    from sqlalchemy import Connection

ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtext('penstock migrations'))")
VERSION_TABLE: Final = text("SELECT to_regclass('penstock.alembic_version') IS NOT NULL")
REVISION: Final = text("SELECT version_num FROM penstock.alembic_version")
CREATE_VECTOR: Final = text("CREATE EXTENSION IF NOT EXISTS vector")
ABILITIES: Final = text(
    """
    SELECT current_setting('server_version_num')::integer,
           (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
           (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')
    """
)

OTHER_SESSIONS: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the server offers: its version as a number (180004 is 18.4), pgvector as created here and as installable."""

    server_version: int
    vector_created: str | None
    vector_installable: str | None


def abilities(connection: Connection) -> Abilities:
    """Return what the server offers."""
    return Abilities(*connection.execute(ABILITIES).one())


def revision(connection: Connection) -> str | None:
    """Return the revision of the schema, None when the database was never migrated."""
    if not connection.execute(VERSION_TABLE).scalar_one():
        return None
    return connection.execute(REVISION).scalar_one_or_none()


def wait_for_migration(connection: Connection) -> None:
    """Wait until no other process migrates this database, and keep others out until the transaction ends."""
    connection.execute(ONE_AT_A_TIME)


def create_home(connection: Connection) -> None:
    """Create the schema that holds the version table."""
    connection.execute(CreateSchema(SCHEMA, if_not_exists=True))


def create_vector(connection: Connection) -> bool:
    """Create the vector extension where it is missing; False when this account may not (the transaction is over)."""
    try:
        connection.execute(CREATE_VECTOR)
    except ProgrammingError:
        return False
    return True


def other_sessions(connection: Connection) -> int:
    """Return how many other sessions are connected to the server."""
    return int(connection.execute(OTHER_SESSIONS).scalar_one())
