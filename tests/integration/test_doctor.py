"""The doctor: each fault that it knows is made, and its words and its advice are read (R60)."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from ops import doctor
from ops.database import MigrationStatus
from ops.doctor import Finding, Verdict, examine, server, work
from ops.doctor.findings import Database
from ops.settings import Settings
from pipeline import jobs
from pipeline.records import JobRequest
from pipeline.states import Stage
from pipeline.store import workers
from tests.acceptance.working import eventually
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.ollama_standin import OllamaStandin
from tests.ollama_standin import Settings as Standin
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

ALL: Final = tuple(map(str, Stage))


@pytest.fixture(autouse=True)
def environment(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what the doctor reads."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENSTOCK_MIN_FREE_DISK_GB", "0")


def found(check: str) -> Finding:
    """Have everything examined, and return the finding of one check."""
    (finding,) = (finding for finding in examine(Settings.load()).findings if finding.check == check)
    return finding


def execute(engine: Engine, statement: str) -> None:
    """Run a statement in a transaction of its own."""
    with engine.begin() as connection:
        connection.execute(text(statement))


@contextmanager
def session(url: str, name: str) -> Iterator[psycopg.Connection]:
    """Yield a session of another program."""
    with psycopg.connect(url, application_name=name) as connection:
        yield connection


def enrol(engine: Engine, version: str) -> None:
    """Enter a worker of all stages into the list."""
    with engine.begin() as connection:
        workers.enrol(connection, "far", 4711, ALL, 1, version)


# --- this machine -----------------------------------------------------------------------------------------------------


def test_a_password_that_all_may_read(tmp_path: Path) -> None:
    """The settings file holds the database's password, so it is its owner's alone."""
    file = tmp_path / "home" / ".env"
    file.parent.mkdir()
    file.write_text("DATABASE_URL=postgresql://me:hidden@db/penstock\n")
    file.chmod(0o644)
    finding = found("privacy")
    assert (finding.verdict, finding.advice) == (Verdict.WARNING, f"chmod 600 {file}")
    assert "hidden" not in finding.text
    file.chmod(0o600)
    assert found("privacy").verdict == Verdict.OK
    file.write_text("JOB_WINDOW=4\n")
    file.chmod(0o644)
    assert found("privacy").verdict == Verdict.OK


def test_roots_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may be indexed and does not exist is named; without any, nothing can be indexed (R06)."""
    monkeypatch.setenv("PENSTOCK_ALLOWED_ROOTS", f"{tmp_path}:/gone/away")
    finding = found("roots")
    assert (finding.verdict, finding.advice) == (Verdict.WARNING, "correct it, or mount them")
    assert "/gone/away" in finding.text
    assert str(tmp_path) not in finding.text
    monkeypatch.setenv("PENSTOCK_ALLOWED_ROOTS", "/gone/away")
    finding = found("roots")
    assert finding.verdict == Verdict.FAILED
    assert "every repository is refused" in finding.text


def test_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git it works, but not as well."""
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = found("git")
    assert (finding.verdict, finding.advice) == (Verdict.WARNING, "install git where workers scan")


# --- the server -------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_wrong(engine: Engine, database_url: str) -> None:
    """The database's clock differs from ours: here by a function of the same name that goes before the server's."""
    execute(engine, "CREATE SCHEMA ahead")
    execute(
        engine,
        "CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
        " AS $$ SELECT pg_catalog.clock_timestamp() + interval '5 min' $$",
    )
    name = make_url(database_url).database
    with psycopg.connect(database_url) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = ahead, pg_catalog, public").format(sql.Identifier(name or ""))
        )
    finding = found("clock")
    assert finding.verdict == Verdict.WARNING
    assert finding.text == "the database's clock is 300 s ahead of this host's"
    assert "NTP" in str(finding.advice)


def test_connections_that_are_nearly_used_up(database_url: str) -> None:
    """The tightest limit counts: of the server, the database or the account."""
    assert found("connections").verdict == Verdict.OK
    name = make_url(database_url).database or ""
    with psycopg.connect(database_url) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 3").format(sql.Identifier(name)))
    with session(database_url, "psql"), session(database_url, "psql"):
        finding = found("connections")
    assert finding.verdict == Verdict.WARNING
    assert finding.text == f"nearly all are used: 3 of 3 of database {name}"
    assert "raise the limit" in str(finding.advice)


def test_an_embedded_database_that_is_behind_is_no_fault(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any command brings it to our revision, so a newcomer is told of no failure (R74)."""
    monkeypatch.delenv("DATABASE_URL")
    behind = MigrationStatus(None, "0003", "18.4", "0.8.5")
    finding = server.check_migrations(Database(Settings.load(), engine, behind))
    assert (finding.verdict, finding.text) == (Verdict.OK, "at nothing; the next command brings it to 0003")


def test_a_session_that_holds_up_ours(engine: Engine, database_url: str) -> None:
    """Whoever waits for a lock, and whoever has it, are named, with what ends that."""
    del engine
    with session(database_url, "backup") as backup, session(database_url, "penstock write") as ours:
        pid = backup.info.backend_pid
        backup.execute("LOCK TABLE penstock.indexing_jobs")
        waiting = threading.Thread(target=ours.execute, args=("SELECT 1 FROM penstock.indexing_jobs",))
        waiting.start()
        finding = eventually(lambda: _sessions(database_url, Verdict.FAILED), patience=15)
        assert finding is not None
        backup.rollback()
        waiting.join()
    assert finding.text.startswith(f"penstock write waits for a lock of backup (pid {pid}) for ")
    assert f"pg_terminate_backend({pid})" in str(finding.advice)


def _sessions(url: str, verdict: Verdict) -> Finding | None:
    """Return the finding on sessions, once it is of this kind; the other checks would wait for the lock, too."""
    with doctor.opened(Settings(database_url=url)) as database:
        finding = server.check_sessions(database)
    return finding if finding.verdict == verdict else None


def test_a_transaction_that_somebody_left_open(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps dead rows from being removed."""
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.2)
    with session(database_url, "psql") as forgotten:
        pid = forgotten.info.backend_pid
        forgotten.execute("SELECT 1")
        finding = eventually(lambda: _sessions(database_url, Verdict.WARNING), patience=15)
        assert finding is not None
    assert finding.text.startswith(f"psql (pid {pid}) keeps a transaction open")


def test_a_check_that_hangs_is_a_finding(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is locked holds up neither the doctor nor the other checks."""
    monkeypatch.setattr(doctor, "STATEMENT_SECONDS", 1)
    began = time.monotonic()
    with session(database_url, "backup") as backup:
        backup.execute("LOCK TABLE penstock.workers")
        findings = {finding.check: finding for finding in examine(Settings.load()).findings}
    assert time.monotonic() - began < 15
    assert findings["workers"].verdict == Verdict.FAILED
    assert findings["workers"].text.endswith("canceling statement due to statement timeout")
    assert findings["notifications"].verdict == Verdict.OK


def test_whatever_does_not_answer_is_left_behind() -> None:
    """Also what no time limit of the database ends: a disk, a name server."""
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        doctor.within(0.1, never.wait)
    never.set()


# --- the work ---------------------------------------------------------------------------------------------------------


def test_workers_that_are_silent_or_of_another_version(engine: Engine) -> None:
    """A process that hangs still stands in the list; one that was not restarted runs what was installed before."""
    enrol(engine, "0.0.1")
    finding = found("workers")
    assert finding.verdict == Verdict.WARNING
    assert "1 of 1 processes run another Penstock" in finding.text
    assert finding.text.endswith("0.0.1")
    assert finding.advice == "restart them"
    enrol(engine, "0.0.1")
    execute(engine, "UPDATE penstock.workers SET seen_at = now() - interval '10 s' WHERE id = 1")
    finding = found("workers")
    assert finding.verdict == Verdict.WARNING
    assert "pid 4711 on far (scan+chunk+embed+write) gives no sign of life" in finding.text
    execute(engine, "UPDATE penstock.workers SET seen_at = now() - interval '10 s'")
    assert found("workers").verdict == Verdict.FAILED


def test_a_queue_that_piles_up_or_sets_messages_aside(engine: Engine, tmp_path: Path) -> None:
    """The stage that cannot follow is named, and so is what was given up."""
    driver = Driver(engine)
    jobs.submit(driver.office, JobRequest(repo_path=str(write(tmp_path / "shop", {"a.py": "x = 1\n"}))))
    assert found("queue").verdict == Verdict.OK
    execute(engine, "UPDATE dramatiq.queue SET eta = now() - interval '10 min'")
    finding = found("queue")
    assert finding.verdict == Verdict.WARNING
    assert finding.text.startswith("1 messages wait for scan, the oldest for 60")
    assert "penstock worker --stage scan" in str(finding.advice)
    execute(engine, "UPDATE dramatiq.queue SET state = 'rejected', error = 'its worker process died'")
    finding = found("queue")
    assert finding.verdict == Verdict.WARNING
    assert finding.text.endswith("the last of scan: its worker process died")


def test_a_model_that_is_not_the_repositories(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model means that all is embedded anew; another one under the same name would mix two spaces (R50)."""
    root = write(tmp_path / "shop", {"a.py": "x = 1\n"})
    Driver(engine, WilfulEmbedder(model="nomic-embed-text", name="ollama", dimension=100)).index(root)
    finding = found("model")
    assert finding.verdict == Verdict.WARNING
    assert finding.text.startswith("1 repositories are embedded by ollama nomic-embed-text, new jobs by local ")
    monkeypatch.setenv("PENSTOCK_EMBEDDER", "ollama")
    with OllamaStandin(Standin()) as standin:
        monkeypatch.setenv("OLLAMA_HOST", standin.url)
        finding = found("model")
    assert finding.verdict == Verdict.FAILED
    assert "in 100 dimensions, and it answers in " in finding.text
    assert "another model has this name now" in str(finding.advice)


def test_notifications_that_nobody_takes(engine: Engine, tmp_path: Path) -> None:
    """What was tried and not delivered is counted (R63)."""
    assert found("notifications").verdict == Verdict.OK
    Driver(engine).index(write(tmp_path / "shop", {"a.py": "x = 1\n"}))
    execute(
        engine,
        "INSERT INTO penstock.notification_outbox (event_id, attempts)"
        " SELECT min(id), 3 FROM penstock.job_events ON CONFLICT (event_id) DO UPDATE SET attempts = 3",
    )
    finding = found("notifications")
    assert finding.verdict == Verdict.WARNING
    assert finding.text == "1 notifications could not be delivered, one was tried 3 times"


def test_jobs_that_are_blocked_or_stand_still(engine: Engine, tmp_path: Path) -> None:
    """The job is named, with what it waits for (R13)."""
    driver = Driver(engine)
    root = write(tmp_path / "shop", {"a.py": "x = 1\n"})
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root))).job_id
    driver.drain(Stage.SCAN)
    execute(engine, "UPDATE penstock.indexing_jobs SET updated_at = now() - interval '2 min'")
    finding = found("jobs")
    assert finding.verdict == Verdict.WARNING
    assert finding.text.startswith(f"{job} did not move for 12")
    execute(
        engine,
        "UPDATE penstock.indexing_jobs SET status = 'blocked', blocked_since = now(), blocked_reason = 'away for now'",
    )
    assert "away for now" in found("jobs").text


def test_every_finding_that_is_not_well_says_what_to_do(database_url: str) -> None:
    """The names of the checks are the functions', and fit the column that they are printed in."""
    del database_url
    names = [finding.check for finding in examine(Settings.load()).findings]
    functions = [*doctor.machine.CHECKS, *server.CHECKS, *work.CHECKS]
    assert names == [
        "pgvector" if check is server.check_vector else check.__name__.removeprefix("check_") for check in functions
    ]
    assert max(map(len, names)) <= 13
