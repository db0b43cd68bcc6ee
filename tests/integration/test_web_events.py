"""The stream of snapshots: pushed, coalesced, never backed up, and silent when nobody listens (R26)."""

from __future__ import annotations

import time
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from ops.web import hub
from ops.web.records import Snapshot
from pipeline import jobs
from pipeline.records import JobRequest
from pipeline.states import JobStatus
from tests.acceptance.working import eventually
from tests.commanding import make_shop
from tests.driving import Driver
from tests.serving import Client, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

LISTENERS: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN penstock_jobs'"
)


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Client]:
    """Yield a client of a site on this test's database."""
    with serving(settings_for(database_url, tmp_path)) as client:
        yield client


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker of all stages, which works when it is told to."""
    return Driver(engine)


@pytest.fixture
def job_id(driver: Driver, tmp_path: Path) -> UUID:
    """Return a pending job."""
    return jobs.submit(driver.office, JobRequest(repo_path=str(make_shop(tmp_path)))).job_id


def until(events: Iterator[tuple[str, Any]], status: JobStatus) -> list[Snapshot]:
    """Read snapshots until the only job has a status, and return those before it."""
    seen = (Snapshot.model_validate(data) for name, data in events if name == "snapshot")
    return list(takewhile(lambda snapshot: snapshot.jobs[0].status != status, seen))


def listeners(engine: Engine) -> int:
    """Return how many sessions listen for changes of jobs."""
    with engine.connect() as connection:
        return int(connection.execute(LISTENERS).scalar_one())


def test_a_change_made_anywhere_is_pushed(
    site: Client, driver: Driver, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing polls: with an hour between two looks, each move is seen because the database announces it (R26)."""
    monkeypatch.setattr(hub, "FALLBACK_SECONDS", 3_600.0)
    with site.events() as events:
        assert Snapshot.model_validate(next(events)[1]).jobs[0].status == JobStatus.PENDING
        jobs.pause(driver.office, job_id)
        until(events, JobStatus.PAUSED)
        jobs.resume(driver.office, job_id)
        until(events, JobStatus.PENDING)
        driver.drain()
        until(events, JobStatus.COMPLETED)


def test_a_snapshot_says_why_a_job_stands_still(site: Client, job_id: UUID) -> None:
    """Nobody works, and that is said with the stage (R23)."""
    with site.events() as events:
        job = Snapshot.model_validate(next(events)[1]).jobs[0]
    assert (job.job_id, job.stall_reason) == (job_id, job.progress_message)
    assert "no worker online for stage scan" in str(job.stall_reason)


def test_active_jobs_are_in_a_snapshot_however_old(site: Client, driver: Driver, job_id: UUID, tmp_path: Path) -> None:
    """The newest jobs, and every one under way (R25)."""
    for number in range(hub.NEWEST + 1):
        root = tmp_path / f"later{number}"
        root.mkdir()
        later = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
        jobs.cancel(driver.office, later.job_id)
    with site.events() as events:
        snapshot = Snapshot.model_validate(next(events)[1])
    assert len(snapshot.jobs) == hub.NEWEST + 1
    assert (snapshot.jobs[-1].job_id, snapshot.total_count) == (job_id, hub.NEWEST + 2)


def test_a_burst_of_changes_is_few_snapshots(site: Client, driver: Driver, job_id: UUID) -> None:
    """However much is announced, the database is looked at four times a second (R26)."""
    with site.events() as events:
        next(events)
        began = time.monotonic()
        for _ in range(40):
            jobs.pause(driver.office, job_id)
            jobs.resume(driver.office, job_id)
        jobs.cancel(driver.office, job_id)
        between = until(events, JobStatus.CANCELLED)
        assert len(between) <= (time.monotonic() - began) / hub.LOOK_EVERY + 1


def test_all_watchers_share_one_connection_which_goes_with_the_last(site: Client, engine: Engine, job_id: UUID) -> None:
    """Nothing is asked of the database when nobody looks (R26)."""
    with site.events() as first, site.events() as second:
        assert next(first)[1]["jobs"][0]["job_id"] == next(second)[1]["jobs"][0]["job_id"] == str(job_id)
        assert listeners(engine) == 1
    eventually(lambda: listeners(engine) == 0)
    with site.events() as again:
        assert next(again)[0] == "snapshot"


def test_a_watcher_that_reads_nothing_holds_nobody_up(site: Client, driver: Driver, job_id: UUID) -> None:
    """The others hear everything (R26)."""
    with site.sent("GET", "/api/events"), site.events() as events:
        jobs.pause(driver.office, job_id)
        until(events, JobStatus.PAUSED)
        jobs.cancel(driver.office, job_id)
        until(events, JobStatus.CANCELLED)


def test_the_stream_outlives_the_database(
    site: Client, driver: Driver, job_id: UUID, server_url: str, database_url: str
) -> None:
    """When it is away, watchers are told; when it is back, they see what has happened meanwhile (R33)."""
    name = sql.Identifier(str(make_url(database_url).database))
    with site.events() as events, psycopg.connect(server_url, autocommit=True) as administrator:
        next(events)
        administrator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (make_url(database_url).database,),
        )
        error = next(data["error"] for kind, data in events if kind == "trouble")
        assert (error["code"], "does not answer" in error["message"]) == ("DATABASE_ERROR", True)
        assert site.get("/readyz").status == 503
        administrator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        eventually(lambda: site.get("/readyz").status == 200)
        jobs.cancel(driver.office, job_id)
        until(events, JobStatus.CANCELLED)
