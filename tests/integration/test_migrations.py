"""The migrations, and the rows that the database itself refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, make_url, text, update
from sqlalchemy.exc import IntegrityError

from ops import cluster, database, postgres
from ops.settings import Settings
from pipeline.errors import DatabaseError
from pipeline.states import JobStatus
from pipeline.store.engine import connect
from pipeline.store.schema import Abilities
from pipeline.tables import indexing_jobs, metadata, repositories

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from pathlib import Path

    from sqlalchemy import Connection, Engine
    from sqlalchemy.sql.schema import SchemaItem

NOW: Final = "2026-01-01T00:00:00Z"
HOUSES: Final = {"penstock", "dramatiq"}
CATALOGUE: Final = text(
    """
    SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
    JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = 'penstock' AND contype <> 'n'
        AND conrelid <> coalesce(to_regclass('penstock.alembic_version'), 0)
    UNION ALL
    SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'penstock' AND tablename <> 'alembic_version'
    UNION ALL
    SELECT relname, relpersistence::text FROM pg_class
    JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'penstock' AND relkind = 'r'
        AND relname <> 'alembic_version'
    """
)


# --- up and down ------------------------------------------------------------------------------------------------------


def test_a_database_goes_up_down_and_up_again(empty_database_url: str) -> None:
    """Upgrade, downgrade, upgrade leaves a working schema at the newest revision (R74)."""
    assert database.status(empty_database_url).current is None

    database.upgrade(empty_database_url)
    assert database.status(empty_database_url).current == database.head()

    database.downgrade(empty_database_url)
    assert database.status(empty_database_url).current is None

    database.upgrade(empty_database_url)
    assert not database.status(empty_database_url).behind


def test_a_downgrade_leaves_only_the_schema_and_the_extension(database_url: str, engine: Engine) -> None:
    """After `base` nothing of ours is left but the empty version table in its schema, and pgvector (R74)."""
    database.downgrade(database_url)

    catalogue = inspect(engine)
    assert catalogue.get_table_names("penstock") == ["alembic_version"]
    assert catalogue.get_sequence_names("penstock") == []
    assert "dramatiq" not in catalogue.get_schema_names()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM penstock.alembic_version")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")).scalar_one() == 1


def test_an_upgrade_of_an_up_to_date_database_keeps_its_rows(database_url: str, engine: Engine) -> None:
    """`penstock db upgrade` may run at every release (R74)."""
    _new_job(engine)

    database.upgrade(database_url)

    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM penstock.indexing_jobs")).scalar_one() == 1


def test_upgrades_at_the_same_time_take_turns(empty_database_url: str) -> None:
    """Four processes that migrate an empty database at once all succeed."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(database.upgrade, [empty_database_url] * 4))

    assert database.status(empty_database_url).current == database.head()


def test_the_migrations_work_on_an_older_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL 16, the other release in the wheel, goes up, down and up as well (R74)."""
    monkeypatch.setattr(cluster, "RELEASE", "pginstall")
    url = postgres.ensure(tmp_path)
    try:
        database.upgrade(url)
        database.downgrade(url)
        database.upgrade(url)
        state = database.status(url)
    finally:
        postgres.stop(tmp_path, "immediate")

    assert state.server_version.startswith("16.")
    assert state.current == database.head()


def test_the_newest_file_is_the_newest_revision(empty_database_url: str) -> None:
    """The head read off the file names, which is quick, is Alembic's head; status reports it."""
    assert database.head() == ScriptDirectory(str(database.SCRIPTS)).get_current_head()
    assert database.status(empty_database_url).head == database.head()


# --- the two homes of the schema --------------------------------------------------------------------------------------


def test_the_migrations_make_what_the_tables_say(engine: Engine) -> None:
    """Alembic finds no difference between pipeline/tables/ and a migrated database."""
    options = {
        "include_schemas": True,
        "include_name": _in_our_house,
        "include_object": _not_an_index_of_the_queue,
        "compare_server_default": True,
        "version_table_schema": "penstock",
    }
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert differences == []


def test_the_migrations_make_the_same_constraints_and_indexes(engine: Engine, empty_database_url: str) -> None:
    """Checks, keys, indexes and UNLOGGED, which Alembic does not compare, are those of pipeline/tables/."""
    other = connect(empty_database_url)
    with other.begin() as created, engine.connect() as migrated:
        created.execute(text("CREATE EXTENSION vector"))
        created.execute(text("CREATE SCHEMA penstock"))
        created.execute(text("CREATE SCHEMA dramatiq"))
        created.execute(text("CREATE TYPE dramatiq.state AS ENUM ('queued', 'consumed', 'rejected', 'done')"))
        metadata.create_all(created)

        assert _catalogue(migrated) == _catalogue(created)
    other.dispose()


def _catalogue(connection: Connection) -> list[tuple[str, str]]:
    return sorted((name, definition) for name, definition in connection.execute(CATALOGUE))


def _in_our_house(name: str | None, kind: str, _parents: MutableMapping[str, str | None]) -> bool:
    return kind != "schema" or name in HOUSES


def _not_an_index_of_the_queue(
    item: SchemaItem, _name: str | None, kind: str, _reflected: object, _other: SchemaItem | None
) -> bool:
    """Leave out the queue's indexes: dramatiq-pg's own, and those that its consumer wants (FACTS: leases)."""
    return kind != "index" or getattr(getattr(item, "table", None), "name", "") != "queue"


# --- what is refused, and what is said --------------------------------------------------------------------------------


def test_a_database_that_is_not_migrated_is_not_opened(empty_database_url: str) -> None:
    """A database of the user's own is never changed unasked: the error names the command to run."""
    settings = Settings(database_url=empty_database_url)
    with pytest.raises(DatabaseError, match="run `penstock db upgrade`"):
        database.open_database(settings)

    database.upgrade(empty_database_url)

    assert database.open_database(settings) == empty_database_url


def test_the_embedded_database_is_migrated_when_it_is_opened(tmp_path: Path) -> None:
    """Without DATABASE_URL the server is started and migrated by whoever comes first."""
    settings = Settings(penstock_home=tmp_path, database_url=None)
    try:
        url = database.open_database(settings)
        assert not database.status(url).behind
        assert database.open_database(settings) == url
    finally:
        postgres.stop(tmp_path, "immediate")


def test_a_database_of_a_newer_penstock_is_left_alone(database_url: str, engine: Engine) -> None:
    """An older program neither opens, upgrades nor downgrades what a newer one made."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE penstock.alembic_version SET version_num = '9999'"))

    for refused in (database.upgrade, database.downgrade, _open):
        with pytest.raises(DatabaseError, match="a newer Penstock made this database"):
            refused(database_url)


def _open(url: str) -> object:
    return database.open_database(Settings(database_url=url))


def test_a_server_that_is_away_is_said_to_be_away() -> None:
    """The error says that the database does not answer, and why."""
    with pytest.raises(DatabaseError, match="does not answer"):
        database.status("postgresql://postgres@127.0.0.1:1/penstock")


def test_an_account_without_the_right_is_told_what_an_administrator_must_do(
    empty_database_url: str, stranger: str
) -> None:
    """A role that may not create the extension gets the statement to be run for it."""
    url = make_url(empty_database_url).set(username=stranger, password=stranger).render_as_string(hide_password=False)

    with pytest.raises(DatabaseError, match="CREATE EXTENSION vector"):
        database.upgrade(url)


@pytest.fixture
def stranger(empty_database_url: str) -> Iterator[str]:
    """Yield a role without any right, whose password is its name."""
    role = f"stranger_{uuid4().hex}"
    engine = connect(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'"))
    yield role
    with engine.begin() as connection:
        connection.execute(text(f"DROP ROLE {role}"))
    engine.dispose()


@pytest.mark.parametrize(
    ("able", "said"),
    [
        (Abilities(130_014, None, "0.8.0"), "PostgreSQL 13 is too old"),
        (Abilities(150_004, None, None), "lacks pgvector"),
        (Abilities(150_004, None, "0.4.4"), "pgvector 0.4.4 is too old"),
        (Abilities(160_001, "0.7.4", "0.8.0"), "ALTER EXTENSION vector UPDATE"),
    ],
)
def test_a_server_that_cannot_serve_is_refused(able: Abilities, said: str) -> None:
    """PostgreSQL before 14 and pgvector before 0.8 (no halfvec) are named as the cause."""
    with pytest.raises(DatabaseError, match=said):
        database.demand(able)


@pytest.mark.parametrize("able", [Abilities(140_000, None, "0.8.0"), Abilities(190_000, "0.10.1", "0.10.1")])
def test_a_server_that_can_serve_is_accepted(able: Abilities) -> None:
    """The oldest supported pair passes, and so does a later pgvector of two digits."""
    database.demand(able)


# --- impossible rows --------------------------------------------------------------------------------------------------

FINISHED: Final[dict[str, object]] = {"finished_at": NOW}
POSSIBLE: Final[dict[JobStatus, dict[str, object]]] = {
    JobStatus.PENDING: {},
    JobStatus.RUNNING: {},
    JobStatus.PAUSED: {"paused_at": NOW},
    JobStatus.BLOCKED: {"blocked_since": NOW, "blocked_reason": "away"},
    JobStatus.COMPLETED: {"completed_at": NOW, "finished_at": NOW, "progress_percentage": 100},
    JobStatus.FAILED: {"error_message": "gone", "finished_at": NOW},
    JobStatus.CANCELLED: {"cancelled_at": NOW, "finished_at": NOW},
}
IMPOSSIBLE: Final[list[tuple[str, dict[str, object]]]] = [
    ("status", {"status": "queued"}),
    ("completed", {"status": "completed", "finished_at": NOW, "progress_percentage": 100}),
    ("failed", {"status": "failed", "finished_at": NOW}),
    ("cancelled", {"status": "cancelled", "finished_at": NOW}),
    ("paused", {"status": "paused"}),
    ("blocked", {"status": "blocked", "blocked_since": NOW}),
    ("blocked", {"status": "blocked", "blocked_reason": "away"}),
    ("finished", {"status": "completed", "completed_at": NOW, "progress_percentage": 100}),
    ("finished", {"status": "failed", "error_message": "gone"}),
    ("finished", {"status": "cancelled", "cancelled_at": NOW}),
    ("finished", {"status": "running", "finished_at": NOW}),
    ("files_indexed", {"files_scanned": 1, "files_indexed": 2}),
    ("progress", {"progress_percentage": -1}),
    ("progress", {"progress_percentage": 101}),
    ("progress_full", {"status": "running", "progress_percentage": 100}),
    ("progress_full", {**POSSIBLE[JobStatus.COMPLETED], "status": "completed", "progress_percentage": 99}),
]


@pytest.mark.parametrize("status", JobStatus)
def test_a_possible_job_is_stored(status: JobStatus, engine: Engine) -> None:
    """Every state has a row that the database accepts (R10)."""
    _new_job(engine)

    _change_job(engine, {"status": status, **POSSIBLE[status]})


@pytest.mark.parametrize(("check", "values"), IMPOSSIBLE)
def test_an_impossible_job_is_refused(check: str, values: dict[str, object], engine: Engine) -> None:
    """Each invariant of a job's row is kept by its own CHECK (R10, R11)."""
    _new_job(engine)

    with pytest.raises(IntegrityError, match=f'"ck_indexing_jobs_{check}"'):
        _change_job(engine, values)


def test_every_check_of_a_job_has_an_impossible_row() -> None:
    """The list of impossible rows covers all CHECKs of the table (R11)."""
    checks = {str(item.name) for item in indexing_jobs.constraints if str(item.name).startswith("ck_")}

    assert checks == {f"ck_indexing_jobs_{check}" for check, _ in IMPOSSIBLE}


def _new_job(engine: Engine) -> None:
    with engine.begin() as connection:
        repository = connection.execute(
            insert(repositories).values(project_id="default", root_path="/r", name="r").returning(repositories.c.id)
        ).scalar_one()
        connection.execute(
            insert(indexing_jobs).values(
                id=uuid4(),
                repository_id=repository,
                project_id="default",
                repo_path="/r",
                name="r",
                embedder="local",
                model="m",
            )
        )


def _change_job(engine: Engine, values: dict[str, object]) -> None:
    with engine.begin() as connection:
        connection.execute(update(indexing_jobs).values(values))
