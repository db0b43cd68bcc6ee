"""Following a job: woken by announcements, patient with a server that restarts, and left by Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final, NoReturn

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from ops import following
from ops.cli.exits import Exit
from ops.following import Announcements, follow
from pipeline import jobs
from pipeline.errors import DatabaseError
from pipeline.records import Job, JobRequest
from pipeline.states import JobStatus
from pipeline.store import jobs as store
from pipeline.store import messages
from tests.commanding import make_shop
from tests.driving import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from sqlalchemy import Engine

CHECKOUT: Final = Path(__file__).parents[2]
SOON: Final = 20.0
END_OTHER_SESSIONS: Final = text("""
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
""")


class Watcher:
    """A view that remembers."""

    def __init__(self) -> None:
        self.shown: list[JobStatus] = []
        self.said: list[str] = []
        self._news = Condition()

    def show(self, job: Job) -> None:
        """Remember the state."""
        with self._news:
            self.shown.append(job.status)
            self._news.notify_all()

    def say(self, text: str) -> None:
        """Remember the text."""
        self.said.append(text)

    def wait(self, looks: int) -> None:
        """Wait until so many looks were shown."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.shown) >= looks, SOON)


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a driver on this test's database."""
    return Driver(engine)


@pytest.fixture
def job_id(driver: Driver, tmp_path: Path) -> UUID:
    """Return a pending job."""
    return jobs.submit(driver.office, JobRequest(repo_path=str(make_shop(tmp_path)))).job_id


def test_an_announcement_ends_the_waiting(driver: Driver, job_id: UUID) -> None:
    """A change is seen at once, not at the next look (R26)."""
    with Announcements(driver.engine) as announcements:
        began = time.monotonic()
        jobs.pause(driver.office, job_id)
        announcements.wait(job_id, SOON)
        assert time.monotonic() - began < SOON / 2


def test_other_jobs_do_not_end_the_waiting(driver: Driver, job_id: UUID, tmp_path: Path) -> None:
    """Each follower looks when its own job changed (R26)."""
    other = jobs.submit(driver.office, JobRequest(repo_path=str(tmp_path))).job_id
    with Announcements(driver.engine) as announcements:
        began = time.monotonic()
        jobs.pause(driver.office, other)
        announcements.wait(job_id, 0.3)
        assert time.monotonic() - began >= 0.3


def test_a_job_is_followed_to_its_end(driver: Driver, job_id: UUID) -> None:
    """The last record is returned, and every state on the way was shown (R23)."""
    watcher = Watcher()
    worker = Thread(target=driver.drain)
    worker.start()
    job = follow(driver.engine, job_id, watcher)
    worker.join()
    assert (job.status, watcher.shown[-1]) == (JobStatus.COMPLETED, JobStatus.COMPLETED)
    assert {line.split("  ")[1] for line in watcher.said} <= {"started"}


def test_what_happens_is_told_as_it_happens(driver: Driver, job_id: UUID) -> None:
    """Each event with its moment, in words, by whomever it was caused (R63, R64)."""
    watcher = Watcher()
    follower = Thread(target=follow, args=(driver.engine, job_id, watcher))
    follower.start()
    watcher.wait(1)
    jobs.pause(driver.office, job_id)
    jobs.resume(driver.office, job_id)
    with driver.engine.begin() as connection:
        driver.bench.admit(connection, messages.MessageOutbox())
        store.move(connection, job_id, JobStatus.BLOCKED, "blocked", blocked_reason="the embedding server is away")
    jobs.cancel(driver.office, job_id)
    follower.join(SOON)
    assert all(re.match(r"\d\d:\d\d:\d\d  ", line) for line in watcher.said)
    assert [line.split("  ")[1] for line in watcher.said] == [
        f"paused; `penstock resume {job_id}` goes on",
        "resumed",
        "started",
        "blocked: the embedding server is away; it goes on by itself when that is mended",
    ]


def test_a_follower_outlives_its_connections(driver: Driver, job_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart of the server ends every session; the follower connects again and sees the end (R33)."""
    monkeypatch.setattr(following, "FALLBACK_SECONDS", 0.2)
    watcher = Watcher()
    ended: list[Job] = []
    follower = Thread(target=lambda: ended.append(follow(driver.engine, job_id, watcher)))
    follower.start()
    for looks in (3, 6):
        watcher.wait(looks)
        with driver.engine.begin() as connection:
            connection.execute(END_OTHER_SESSIONS)
    watcher.wait(9)
    jobs.cancel(driver.office, job_id)
    follower.join(SOON)
    assert [job.status for job in ended] == [JobStatus.CANCELLED]


def test_a_database_that_is_away_is_waited_for(driver: Driver, job_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """The follower says that it waits, and that the wait is over (R33)."""
    answers = iter([DatabaseError("it does not answer"), DatabaseError("still not")])
    real = jobs.status

    def status(engine: Engine, wanted: UUID) -> Job:
        if error := next(answers, None):
            raise error
        return real(engine, wanted)

    monkeypatch.setattr(following, "BACK_OFF", (0.0, 0.01))
    monkeypatch.setattr(jobs, "status", status)
    jobs.cancel(driver.office, job_id)
    watcher = Watcher()
    assert follow(driver.engine, job_id, watcher).status == JobStatus.CANCELLED
    assert watcher.said == [
        "it does not answer; looking again in 0 s",
        "still not; looking again in 0 s",
        "the database is back",
    ]


def test_ctrl_c_within_a_statement_is_still_ctrl_c(
    driver: Driver, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's clean-up fails on a connection that was interrupted; its error does not hide the key (R60)."""

    def status(engine: Engine, wanted: UUID) -> NoReturn:
        try:
            raise KeyboardInterrupt
        finally:
            raise ProgrammingError(f"{engine} {wanted}", {}, psycopg.ProgrammingError("can't change 'autocommit' now"))

    monkeypatch.setattr(jobs, "status", status)
    with pytest.raises(KeyboardInterrupt):
        follow(driver.engine, job_id, Watcher())


# --- as a process of its own ------------------------------------------------------------------------------------------


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Yield a function that starts a command as a process, in a folder that holds packages of our names."""
    here = tmp_path / "hostile"
    for package in ("ops", "pipeline", "actors", "typer"):
        (here / package).mkdir(parents=True)
        (here / package / "__init__.py").write_text("raise SystemExit('a stranger was imported')\n")
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, terminal: int = subprocess.PIPE) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
            cwd=here,
            env=os.environ
            | {"DATABASE_URL": database_url, "PENSTOCK_HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
            | {"TERM": "xterm-256color"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until_pending(process: subprocess.Popen[str]) -> str:
    """Return what a command prints until it shows a pending job."""
    assert process.stderr is not None
    lines = [process.stderr.readline()]
    while "Waiting" not in lines[-1]:
        assert lines[-1], "the command ended early"
        lines.append(process.stderr.readline())
    return "".join(lines)


def interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C once the job is shown, and return what was printed after that."""
    read_until_pending(process)
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=SOON)


def test_ctrl_c_pauses_the_job_and_says_how_to_go_on(
    start: Callable[..., subprocess.Popen[str]], driver: Driver, tmp_path: Path
) -> None:
    """The job that one began is paused, with an exit code of its own, in a hostile folder too (R60)."""
    process = start("index", str(make_shop(tmp_path)), "--json")
    output, errors = interrupt(process)
    job = Job.model_validate_json(output)
    assert process.returncode == Exit.INTERRUPTED
    assert f"penstock resume {job.job_id}" in errors
    assert jobs.status(driver.engine, job.job_id).status == JobStatus.PAUSED


def test_indexing_again_goes_on_with_a_paused_job(
    start: Callable[..., subprocess.Popen[str]], driver: Driver, job_id: UUID
) -> None:
    """After Ctrl-C the same command is the way on; it follows the job that was paused (R07, R60)."""
    job = jobs.pause(driver.office, job_id)
    process = start("index", job.repo_path, "--json")
    assert "goes on now" in read_until_pending(process)
    driver.drain()
    output, _ = process.communicate(timeout=SOON)
    assert process.returncode == Exit.OK
    assert Job.model_validate_json(output).job_id == job_id


def test_ctrl_c_only_ends_the_watching_of_somebody_elses_job(
    start: Callable[..., subprocess.Popen[str]], driver: Driver, job_id: UUID
) -> None:
    """`status --follow` leaves the job alone (R60)."""
    process = start("status", str(job_id), "--follow")
    _, errors = interrupt(process)
    assert process.returncode == Exit.INTERRUPTED
    assert "the job goes on" in errors
    assert jobs.status(driver.engine, job_id).status == JobStatus.PENDING


def test_a_reader_that_leaves_is_no_fault(start: Callable[..., subprocess.Popen[str]], job_id: UUID) -> None:
    """`penstock jobs | head -1` prints no complaint."""
    for options in ((), ("--json",)):
        process = start("jobs", *options)
        assert process.stdout is not None
        process.stdout.close()
        process.wait(SOON)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (Exit.BROKEN_PIPE, ""), job_id


def test_a_terminal_shows_the_progress_outside_of_its_window(
    start: Callable[..., subprocess.Popen[str]], job_id: UUID
) -> None:
    """On a tab or in the taskbar; it is gone after Ctrl-C (R60)."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = start("status", str(job_id), "--follow", terminal=theirs)
        os.close(theirs)
        seen = b""
        while b"\x1b]9;4;1;0\x1b\\" not in seen:
            seen += terminal.read(1_000)
        process.send_signal(signal.SIGINT)
        while b"\x1b]9;4;0;0\x1b\\" not in seen:
            seen += terminal.read(1_000)
        assert process.wait(SOON) == Exit.INTERRUPTED
