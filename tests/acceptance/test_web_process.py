"""`penstock serve` as users start it: from nothing, under faults, and to its end (issue 4, R33)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from ops import postgres
from ops.office import open_office
from ops.settings import Settings
from pipeline import jobs
from pipeline.records import JobRequest
from pipeline.states import JobStatus
from tests.acceptance.working import PENSTOCK, eventually
from tests.browsing import chromium, visiting
from tests.commanding import NOBODY_LISTENS, make_shop
from tests.repositories import generate
from tests.serving import PATIENCE, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES: Final = 300


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a home that does not exist yet; what is started in it is stopped at the end."""
    home = tmp_path_factory.mktemp("serve") / "home"
    yield home
    stop(home)
    shutil.rmtree(home)


def stop(home: Path) -> None:
    """Stop what runs in a home, as a user does."""
    environment = os.environ | {"PENSTOCK_HOME": str(home)}
    subprocess.run([*PENSTOCK, "down"], env=environment, check=True, capture_output=True)


def test_the_page_alone_is_enough(home: Path, tmp_path: Path) -> None:
    """From nothing to a search on the page: the database, then the workers; a database that dies comes back."""
    generate(tmp_path / "shop", FILES)
    with (
        started(tmp_path, PENSTOCK_HOME=str(home), PENSTOCK_MIN_FREE_DISK_GB="0") as server,
        chromium() as browser,
        visiting(browser, server.client.url) as visitor,
    ):
        page = visitor.go()
        page.get_by_label("Folder or git URL to index").fill(str(tmp_path / "shop"))
        page.get_by_role("button", name="Start").click()
        job = visitor.job("shop")
        expect(job.get_by_role("progressbar", name="write")).to_have_attribute("aria-valuetext", re.compile("^[1-9]"))
        os.kill(int((home / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        expect(job).to_contain_text(f"{FILES:,} indexed")
        page.get_by_role("searchbox").fill("retry the payment")
        page.get_by_role("searchbox").press("Enter")
        expect(page.locator("mark").first).to_be_visible()
        visitor.faults.clear()  # a request may have met the database while it was away


def test_a_server_that_was_stopped_is_started_by_a_user_and_by_nobody_else(home: Path, tmp_path: Path) -> None:
    """`penstock down` wins over a page that is only looked at; the next request brings the database back."""
    with started(tmp_path, PENSTOCK_HOME=str(home)) as server, server.client.events() as events:
        assert next(name for name, _ in events if name == "snapshot")
        stop(home)
        assert next(name for name, _ in events if name == "trouble")
        assert next(name for name, _ in events if name == "trouble"), "it looked again"
        assert not postgres.running(home)
        assert server.client.get("/readyz").status == 503
        assert server.client.get("/api/jobs").status == 200
        assert next(name for name, _ in events if name == "snapshot")


def test_work_that_was_left_goes_on(home: Path, tmp_path: Path) -> None:
    """Nobody works on a job after the machine was started again, until the page is (R33)."""
    root = make_shop(tmp_path)
    if home.exists():
        stop(home)
    office = open_office(Settings(penstock_home=home, penstock_min_free_disk_gb=0))
    job_id = jobs.submit(office, JobRequest(repo_path=str(root))).job_id
    office.engine.dispose()
    with started(tmp_path, PENSTOCK_HOME=str(home)) as server:
        eventually(lambda: server.client.get(f"/api/jobs/{job_id}").json.get("status") == JobStatus.COMPLETED)


def test_open_streams_do_not_hold_up_the_end(database_url: str, tmp_path: Path) -> None:
    """SIGTERM ends the streams as a stream ends, and the process with success; the log says both ends."""
    with started(tmp_path, DATABASE_URL=database_url, PENSTOCK_HOME=str(tmp_path / "home")) as server:
        with server.client.events() as first, server.client.events() as second:
            assert next(first)[0] == next(second)[0] == "snapshot"
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert {name for events in (first, second) for name, _ in events} <= {"snapshot"}
            assert server.process.wait(PATIENCE) == 0
            assert time.monotonic() - began < PATIENCE / 2
        assert server.told("web.ended")
        assert not [line for line in server.log.read_text().splitlines() if '"level": "error"' in line]


def test_it_starts_before_its_database_and_waits_for_it(tmp_path: Path) -> None:
    """A host that boots has no order: the page is there, says what is missing, and the log says it once."""
    url = f"postgresql://me:hidden@{NOBODY_LISTENS}/penstock"
    with started(tmp_path, DATABASE_URL=url, PENSTOCK_HOME=str(tmp_path / "home")) as server:
        assert server.client.get("/").status == 200
        with server.client.events() as events:
            assert [next(events)[0] for _ in range(3)] == ["trouble"] * 3
        eventually(lambda: server.told("web.blind"))
        assert len(server.told("web.blind")) == 1
        assert "hidden" not in server.log.read_text()
