"""The head: what a submission stores and answers, what is refused, and how jobs are found again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest
from sqlalchemy import text

from pipeline import estimating, jobs
from pipeline.errors import (
    DatabaseError,
    InvalidPath,
    InvalidStatus,
    JobNotFound,
    RepositoryNotFound,
    ValidationError,
)
from pipeline.jobs import Office
from pipeline.records import JobRequest
from pipeline.states import JobStatus, Stage
from pipeline.store import events, messages
from pipeline.store.engine import connect
from pipeline.store.jobs import JobFilter
from tests.driving import Driver
from tests.repositories import write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from pipeline.records import Submission


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker of all stages on this test's database."""
    return Driver(engine)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of one file."""
    return write(tmp_path / "shop", {"a.py": "x = 1\n"})


NO_SCANNER: Final = "Waiting: no worker online for stage scan; `penstock workers` lists who is"


def submit(driver: Driver, root: Path, project: str = "default") -> Submission:
    """Submit a repository."""
    return jobs.submit(driver.office, JobRequest(repo_path=str(root), project_id=project))


def test_a_submission_answers_with_a_pending_job(driver: Driver, root: Path) -> None:
    """The reply holds what R03 lists, and the scan message is queued (R01, R03)."""
    reply = submit(driver, root)
    assert (reply.status, reply.duplicate, reply.project_id) == (JobStatus.PENDING, False, "default")
    assert (reply.repo_path, reply.estimated_duration_seconds) == (str(root), 1.0)
    job = jobs.status(driver.engine, reply.job_id)
    assert (job.status, job.name, job.progress_message) == (JobStatus.PENDING, "shop", NO_SCANNER)
    assert driver.claim(Stage.SCAN) is not None


@pytest.mark.parametrize("path", ["", "shop", "/srv/../etc", "/srv/%2e%2e/etc", "/nowhere/at/all"])
def test_a_refused_path_leaves_no_row(driver: Driver, path: str) -> None:
    """What is refused at submission stores nothing (R06)."""
    with pytest.raises(InvalidPath):
        jobs.submit(driver.office, JobRequest(repo_path=path))
    assert jobs.listed(driver.engine, JobFilter()).total_count == 0
    assert jobs.indexed(driver.engine) == ()


def test_a_second_submission_is_the_first_jobs_duplicate(driver: Driver, root: Path) -> None:
    """One active job per project and real path, however it is spelled; another project has its own (R07)."""
    link = root.with_name("link")
    link.symlink_to(root)
    first, second, elsewhere = submit(driver, root), submit(driver, link), submit(driver, root, "other")
    assert (second.job_id, second.duplicate) == (first.job_id, True)
    assert str(first.job_id) in second.message
    assert not elsewhere.duplicate


def test_of_many_submissions_at_once_one_makes_the_job(driver: Driver, root: Path) -> None:
    """Eight submissions race; one job exists and the other seven are its duplicates (R07)."""
    with ThreadPoolExecutor(8) as crowd:
        replies = list(crowd.map(lambda _: submit(driver, root), range(8)))
    assert len({reply.job_id for reply in replies}) == 1
    assert [reply.duplicate for reply in replies].count(False) == 1


def test_an_estimate_learns_from_finished_jobs(driver: Driver, root: Path, tmp_path: Path) -> None:
    """Seconds per file come from this repository's jobs, else from all jobs, else from the stated default (R03)."""
    other = write(tmp_path / "other", {f"{name}.py": "y = 2\n" for name in "abcdefghij"})
    submit(driver, other)
    driver.drain()
    slow = text("UPDATE penstock.indexing_jobs SET ran_seconds = 50")
    with driver.engine.begin() as connection:
        connection.execute(slow)
    assert submit(driver, other).estimated_duration_seconds == 50
    assert submit(driver, root).estimated_duration_seconds == 5


def test_files_are_counted_in_the_header_of_gits_index(tmp_path: Path) -> None:
    """A repository of any size is estimated in microseconds; without git some files are counted (R02)."""
    git_index = write(tmp_path / "large", {".git/index": ""}) / ".git" / "index"
    git_index.write_bytes(b"DIRC" + (2).to_bytes(4, "big") + (123_456).to_bytes(4, "big"))
    assert estimating.git_entries(tmp_path / "large") == 123_456
    plain = write(tmp_path / "plain", {"a.py": "", "b/c.py": ""})
    assert (estimating.git_entries(plain), estimating.count_files(plain)) == (None, 2)


def test_bad_and_unknown_ids_are_told_apart(driver: Driver) -> None:
    """A string that is no UUID and a UUID that is no job give distinct errors (R20)."""
    with pytest.raises(ValidationError, match="not a job id"):
        jobs.parse_id("12")
    with pytest.raises(JobNotFound, match="no job has the id"):
        jobs.status(driver.engine, uuid4())


def test_jobs_are_listed_newest_first_and_filtered(driver: Driver, tmp_path: Path) -> None:
    """Filters by status, project, path prefix and time combine with paging and a total (R25)."""
    ids = [submit(driver, write(tmp_path / f"r_{n}", {"a.py": ""}), f"p{n % 2}").job_id for n in range(5)]
    jobs.cancel(driver.office, ids[0])

    def found(wanted: JobFilter, limit: int = 20, offset: int = 0) -> list[int]:
        return [ids.index(job.job_id) for job in jobs.listed(driver.engine, wanted, limit, offset).jobs]

    assert found(JobFilter()) == [4, 3, 2, 1, 0]
    assert found(JobFilter(), limit=2, offset=1) == [3, 2]
    assert found(JobFilter(statuses=(JobStatus.CANCELLED,))) == [0]
    assert found(JobFilter(project_id="p1")) == [3, 1]
    assert found(JobFilter(path_prefix=str(tmp_path / "r_2"))) == [2]
    assert found(JobFilter(path_prefix=str(tmp_path / "r%"))) == []
    middle = jobs.status(driver.engine, ids[2]).created_at
    assert found(JobFilter(created_after=middle)) == [4, 3]
    assert found(JobFilter(created_before=middle + timedelta(microseconds=1))) == [2, 1, 0]
    assert jobs.listed(driver.engine, JobFilter(), 1).total_count == 5


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (101, 0), (1, -1)])
def test_a_page_out_of_bounds_is_refused(driver: Driver, limit: int, offset: int) -> None:
    """limit is 1 to 100, offset not negative (R25)."""
    with pytest.raises(ValidationError):
        jobs.listed(driver.engine, JobFilter(), limit, offset)


def test_every_step_of_a_jobs_life_is_an_event(driver: Driver, root: Path) -> None:
    """Submitted, started, paused, resumed, started, two milestones, completed: one immutable row each (R64)."""
    job_id = submit(driver, root).job_id
    driver.step(Stage.SCAN)
    jobs.pause(driver.office, job_id)
    jobs.resume(driver.office, job_id)
    driver.drain()
    with driver.engine.connect() as connection:
        told = [event.type for event in events.of_job(connection, job_id)]
    assert told == ["submitted", "started", "paused", "resumed", "started", "milestone", "milestone", "completed"]


def test_a_repository_can_be_removed_unless_it_is_worked_on(driver: Driver, root: Path) -> None:
    """Everything of it goes; while a job is active, or when it was never there, the removal is refused."""
    job_id = submit(driver, root).job_id
    with pytest.raises(InvalidStatus, match="cancel it first"):
        jobs.remove(driver.office, "default", str(root))
    driver.drain()
    jobs.remove(driver.office, "default", str(root))
    assert jobs.indexed(driver.engine) == ()
    with pytest.raises(JobNotFound):
        jobs.status(driver.engine, job_id)
    with pytest.raises(RepositoryNotFound):
        jobs.remove(driver.office, "default", str(root))


def test_old_jobs_expire_with_all_that_is_theirs(driver: Driver, root: Path) -> None:
    """After the retention time a finished job goes with all its rows; the index and active jobs stay (R38)."""
    submit(driver, root)
    driver.drain()
    waiting = submit(driver, root).job_id
    with driver.engine.begin() as connection:
        assert jobs.expire(connection, 1) == 0
        assert jobs.expire(connection, 0) == 0, "0 days mean for ever"
        assert jobs.expire(connection, 1e-9) == 1
        left = connection.execute(text("SELECT count(*) FROM penstock.batches")).scalar_one()
    assert left == 0
    assert jobs.status(driver.engine, waiting).status == JobStatus.PENDING
    assert jobs.indexed(driver.engine)[0].files == 1


def test_an_unreachable_database_is_the_users_error(tmp_path: Path, root: Path) -> None:
    """The text says that the database does not answer and what to do (R61)."""
    engine = connect(f"postgresql://nobody@/none?host={tmp_path}")
    office = Office(engine, messages.MessageOutbox(), "local", "m")
    with pytest.raises(DatabaseError, match=r"does not answer.*penstock doctor"):
        jobs.submit(office, JobRequest(repo_path=str(root)))
    with pytest.raises(DatabaseError, match="does not answer"):
        jobs.listed(engine, JobFilter())
