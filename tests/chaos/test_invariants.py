"""Each rule of the chaos suite notices when it is broken: an index that is whole is spoiled, one way at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from pipeline import jobs
from pipeline.records import JobRequest
from pipeline.store.engine import connect
from tests.chaos import audit, invariants
from tests.driving import Driver
from tests.repositories import generate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    Rule = Callable[[Engine, psycopg.Connection], list[str]]

TURNED: Final = "UPDATE penstock.chunks SET embedding = (SELECT embedding FROM penstock.chunks ORDER BY id LIMIT 1)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small repository."""
    root = tmp_path_factory.mktemp("chaos") / "shop"
    generate(root, 12)
    return root


@pytest.fixture(scope="module")
def whole(server_url: str, template: str, root: Path) -> Iterator[str]:
    """Yield the name of a database in which the repository was indexed twice, watched, and a third job cancelled."""
    with copy_of(template, server_url) as url:
        engine = connect(url)
        with psycopg.connect(url, autocommit=True) as session:
            audit.install(session)
        driver = Driver(engine)
        driver.index(root)
        (root / "new.py").write_text("def new():\n    return 'new'\n")
        driver.index(root)
        cancelled = jobs.submit(driver.office, JobRequest(repo_path=str(root), force_reindex=True)).job_id
        driver.drain(until=lambda: jobs.status(engine, cancelled).batches_done > 0)
        jobs.cancel(driver.office, cancelled)
        driver.drain()
        engine.dispose()
        yield make_url(url).database or ""


@contextmanager
def copy_of(template: str, server_url: str) -> Iterator[str]:
    """Yield the URL of a copy of a database."""
    name = f"penstock_chaos_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as administrator:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        administrator.execute(copy)
        try:
            yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        finally:
            administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def spoiled(whole: str, server_url: str) -> Iterator[tuple[Engine, psycopg.Connection]]:
    """Yield an engine and a session on a copy of that database, to be spoiled; as yet it breaks no rule."""
    with copy_of(whole, server_url) as url, psycopg.connect(url, autocommit=True) as session:
        engine = connect(url)
        assert everything(engine, session) == []
        yield engine, session
        engine.dispose()


def everything(engine: Engine, session: psycopg.Connection) -> list[str]:
    """Return what breaks any rule that a database alone can tell."""
    rules: tuple[Rule, ...] = (
        lambda _engine, session: audit.breaches(session, 0)[1],
        lambda _engine, session: audit.undone(session),
        lambda _engine, session: invariants.counters(session),
        lambda engine, session: invariants.ends(engine, session, ()),
        lambda _engine, session: invariants.paths(session),
        lambda engine, _session: invariants.left(engine, patience=0),
        lambda _engine, session: invariants.locks(session),
        lambda _engine, session: invariants.strange_vectors(session),
    )
    return [text for rule in rules for text in rule(engine, session)]


@pytest.mark.parametrize(
    ("spoil", "noticed"),
    [
        ("UPDATE penstock.indexing_jobs SET progress_percentage = 0 WHERE status = 'cancelled'", "progress fell"),
        (
            "UPDATE penstock.indexing_jobs SET updated_at = now() WHERE status = 'cancelled'",
            "a finished job was written",
        ),
        ("UPDATE penstock.indexing_jobs SET files_written = files_written + 1", "files_written"),
        ("UPDATE penstock.indexing_jobs SET chunks_reused = chunks_reused + 1", "every chunk was embedded or reused"),
        ("DELETE FROM penstock.batches WHERE stage = 'done'", "batches_done"),
        ("UPDATE penstock.batches SET stage = 'write' WHERE stage = 'done'", "a batch that was done was written"),
        ("UPDATE penstock.batches SET failures = 1 WHERE stage <> 'done'", "a batch of a job at rest was written"),
        ("INSERT INTO chaos.done SELECT * FROM chaos.done", "was done 2 times"),
        ("INSERT INTO penstock.job_events (job_id, type) SELECT id, 'started' FROM penstock.indexing_jobs", "no path"),
        ("DELETE FROM penstock.job_events WHERE type = 'started'", "no path"),
        ("DELETE FROM penstock.chunks WHERE id = (SELECT min(id) FROM penstock.chunks)", "wrong chunk counts"),
        (TURNED, "another text"),
        (
            "INSERT INTO penstock.staged_chunks SELECT 1, 0, 0, 1, 1, '', '', '', '', '', '', '', '', '{}'",
            "1 staged chunks",
        ),
        ("INSERT INTO dramatiq.queue (message_id, state) VALUES (gen_random_uuid(), 'rejected')", "1 messages"),
        ("SELECT pg_advisory_lock(7)", "an advisory lock is left"),
    ],
)
def test_what_breaks_a_rule_is_noticed(
    spoiled: tuple[Engine, psycopg.Connection], spoil: LiteralString, noticed: str
) -> None:
    """One statement spoils a sound database, and the rule that it breaks says so."""
    engine, session = spoiled
    session.execute(spoil)
    assert [text for text in everything(engine, session) if noticed in text]


def test_a_job_that_failed_is_noticed_unless_that_was_the_design(
    spoiled: tuple[Engine, psycopg.Connection], tmp_path: Path
) -> None:
    """An empty repository's job fails, which is a violation for whoever did not expect it."""
    engine, session = spoiled
    (tmp_path / "empty").mkdir()
    Driver(engine).index(tmp_path / "empty")
    assert "NothingIndexed" in invariants.ends(engine, session, ())[0]
    assert invariants.ends(engine, session, {"NothingIndexed"}) == []


def test_an_index_that_differs_is_noticed(
    spoiled: tuple[Engine, psycopg.Connection], engine: Engine, root: Path
) -> None:
    """A file that is missing, and a vector that is another, are told from the undisturbed run of the same tree."""
    disturbed, session = spoiled
    Driver(engine).index(root)
    assert invariants.unlike(disturbed, engine, str(root)) == []
    session.execute(TURNED)
    assert "vectors" in invariants.unlike(disturbed, engine, str(root))[0]
    session.execute("DELETE FROM penstock.files WHERE path = 'new.py'")
    assert "lacks 1 chunks" in invariants.unlike(disturbed, engine, str(root))[0]
