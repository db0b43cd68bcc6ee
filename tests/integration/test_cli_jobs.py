"""The command line's jobs: submitted, looked at, controlled, followed; what is printed, and the codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from ops.cli.exits import Exit
from ops.records import Submitted
from pipeline import jobs
from pipeline.records import Job, JobPage
from pipeline.states import JobStatus
from tests.commanding import Terminal, error_in, make_shop, open_terminal
from tests.driving import Driver

if TYPE_CHECKING:
    from sqlalchemy import Engine


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal on this test's database."""
    return open_terminal(database_url, tmp_path, monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of two files, one of which cannot be indexed."""
    return make_shop(tmp_path)


# --- submitting -------------------------------------------------------------------------------------------------------


def test_a_background_submission_answers_with_the_pending_job(run: Terminal, root: Path) -> None:
    """One JSON object holds the status record and the answer to the submission (R01, R03)."""
    job = run.submit(root, "--name", "the shop", "--project", "p")
    assert (job.status, job.duplicate, job.repo_path) == (JobStatus.PENDING, False, str(root))
    assert (job.name, job.project_id, job.estimated_duration_seconds > 0) == ("the shop", "p", True)


def test_a_background_submission_says_how_to_follow_it(run: Terminal, root: Path) -> None:
    """A person reads the next command, and that no worker is there to do the work (R60)."""
    result = run("index", str(root), "--background")
    assert "in the background" in result.stdout
    assert "penstock status" in result.stdout
    assert "no worker is online" in result.stderr


def test_a_second_submission_is_the_first_ones_duplicate(run: Terminal, root: Path) -> None:
    """The same repository gives the same job, however its path is spelled (R07)."""
    first = run.submit(root)
    second = run.submit(root / ".." / root.name)
    assert (second.job_id, second.duplicate) == (first.job_id, True)
    assert "already" in second.message


def test_the_current_folder_is_the_default_path(run: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`penstock index` indexes where one stands (R04, R06)."""
    monkeypatch.chdir(root)
    result = run("index", "--background", "--json")
    assert Submitted.model_validate_json(result.stdout).repo_path == str(root)


def test_every_option_reaches_the_job(run: Terminal, root: Path, engine: Engine) -> None:
    """What was asked for is what is stored (R04)."""
    job = run.submit(root, "--force", "--no-recursive", "--include", "*.py", "--include", "*.c", "--exclude", "x/**")
    with engine.connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT id, force_reindex, recursive, include_globs, exclude_globs FROM penstock.indexing_jobs"
        ).one()
    assert tuple(row) == (job.job_id, True, False, ["*.py", "*.c"], ["x/**"])


@pytest.mark.parametrize(
    ("path", "text"),
    [("", "empty"), ("absent", "does not exist"), ("file", "not a directory"), ("%2e%2e/x", "path traversal")],
)
def test_a_refused_path_is_a_validation_error(run: Terminal, path: str, text: str) -> None:
    """The line says what is wrong, the object says it to scripts, and nothing is stored (R06)."""
    Path("file").touch()
    result = run("index", path, "--json", code=Exit.VALIDATION)
    code, message = error_in(result)
    assert code == "VALIDATION_ERROR"
    assert text in message
    assert result.stderr == f"error: {message}\n"
    assert JobPage.model_validate_json(run("jobs", "--json").stdout).total_count == 0


def test_a_folder_called_status_can_be_indexed(run: Terminal) -> None:
    """`index status` is the older spelling of `status`, `./status` is a path (R60)."""
    Path("status").mkdir()
    assert "Missing argument" in run("index", "status", code=Exit.VALIDATION).stderr
    result = run("index", "./status", "--background", "--json")
    assert Submitted.model_validate_json(result.stdout).name == "status"


# --- looking ----------------------------------------------------------------------------------------------------------


def test_status_is_the_same_record_in_both_spellings(run: Terminal, root: Path) -> None:
    """`status ID` and `index status ID` print the status record (R20, R60)."""
    job = run.submit(root)
    for spelling in (("status",), ("index", "status")):
        record = Job.model_validate_json(run(*spelling, str(job.job_id), "--json").stdout)
        assert (record.job_id, record.status) == (job.job_id, JobStatus.PENDING)
    assert "no worker online for stage scan" in run("status", str(job.job_id)).stdout


@pytest.mark.parametrize("length", [6, 8, 20, 36])
def test_the_beginning_of_an_id_is_enough(run: Terminal, root: Path, length: int) -> None:
    """Six characters name a job, in any case, and so does `last` (R60)."""
    job = run.submit(root)
    for text in (str(job.job_id)[:length].upper(), "last"):
        assert Job.model_validate_json(run("status", text, "--json").stdout).job_id == job.job_id


@pytest.mark.parametrize("text", ["x", "12345", "nonsense", "abcdefg"])
def test_what_can_be_no_id_is_a_validation_error(run: Terminal, text: str) -> None:
    """A bad id differs from an unknown one (R20)."""
    assert run.error("status", text, code=Exit.VALIDATION)[0] == "VALIDATION_ERROR"


@pytest.mark.parametrize("command", ["status", "pause", "resume", "cancel"])
def test_an_unknown_id_is_not_found(run: Terminal, command: str) -> None:
    """Every command that takes an id says so by the same code (R20)."""
    for text in (str(uuid4()), "abcdef", "last"):
        code, message = run.error(command, text, code=Exit.NOT_FOUND)
        assert code == "JOB_NOT_FOUND"
        assert text in message


def test_an_ambiguous_id_names_the_jobs_it_fits(run: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs that begin alike are not confused."""
    twins = [UUID(f"abcdef00-0000-4000-8000-00000000000{last}") for last in (1, 2)]
    monkeypatch.setattr(jobs, "uuid4", iter(twins).__next__)
    run.submit(root)
    run.submit(root, "--project", "other")
    message = run.error("status", "abcdef", code=Exit.VALIDATION)[1]
    assert all(str(twin) in message for twin in twins)


def test_jobs_are_filtered_and_paged(run: Terminal, root: Path) -> None:
    """Status, project, path and time narrow the list; `queued` is `pending` (R10, R25)."""
    first, second = run.submit(root), run.submit(root, "--project", "other")
    run("cancel", str(first.job_id), "--yes")

    def ids(*options: str) -> list[object]:
        page = JobPage.model_validate_json(run("index", "jobs", "--json", *options).stdout)
        return [job.job_id for job in page.jobs]

    assert ids() == [second.job_id, first.job_id]
    assert ids("--status", "queued") == ids("--status", "pending", "--status", "running") == [second.job_id]
    assert ids("--project", "default") == ids("--limit", "1", "--offset", "1") == [first.job_id]
    assert (
        ids("--path-prefix", str(root.parent)) == ids("--after", "2020-01-01", "--before", "2120-01-01T10:00") == ids()
    )
    assert ids("--path-prefix", "/elsewhere") == ids("--before", "2020-01-01") == ids("--offset", "2") == []


def test_the_table_of_jobs_says_how_to_see_more(run: Terminal, root: Path) -> None:
    """A person sees whole ids when there is room, and where the list goes on (R25)."""
    assert run("jobs").stdout == "no jobs\n"
    run.submit(root)
    newest = run.submit(root, "--project", "other")
    output = run("jobs", "--limit", "1").stdout
    assert str(newest.job_id) in output
    assert str(root) in output
    assert "--offset 1 shows the next" in output
    assert run("jobs", "--offset", "9").stdout == "no more jobs: there are 2\n"


@pytest.mark.parametrize(
    "options", [("--limit", "0"), ("--limit", "101"), ("--offset", "-1"), ("--status", "x"), ("--after", "soon")]
)
def test_bad_bounds_of_a_list_are_refused(run: Terminal, options: tuple[str, ...]) -> None:
    """What is out of bounds is said, never silently corrected (R25)."""
    assert run.error("jobs", *options, code=Exit.VALIDATION)[0] == "VALIDATION_ERROR"


# --- control ----------------------------------------------------------------------------------------------------------


def test_a_job_is_paused_resumed_and_cancelled(run: Terminal, root: Path) -> None:
    """Each answers with the status record, the older spellings too (R30, R31, R32)."""
    job_id = str(run.submit(root).job_id)
    for arguments, status in (
        (("pause", job_id), JobStatus.PAUSED),
        (("resume", job_id, "--background"), JobStatus.PENDING),
        (("index", "pause", job_id), JobStatus.PAUSED),
        (("index", "cancel", job_id, "--yes"), JobStatus.CANCELLED),
    ):
        assert Job.model_validate_json(run(*arguments, "--json").stdout).status == status


def test_a_paused_job_says_how_to_go_on(run: Terminal, root: Path) -> None:
    """The next command is in the line (R60)."""
    job = run.submit(root)
    assert f"penstock resume {job.job_id}" in run("pause", "last").stdout


def test_resuming_a_cancelled_job_starts_a_linked_one(run: Terminal, root: Path) -> None:
    """The successor names its predecessor (R32)."""
    first = run.submit(root)
    run("cancel", str(first.job_id), "--yes")
    second = Job.model_validate_json(run("resume", str(first.job_id), "--background", "--json").stdout)
    assert second.resumed_from == first.job_id != second.job_id


def test_a_move_that_the_state_does_not_allow_has_its_own_code(run: Terminal, root: Path) -> None:
    """A finished job cannot be paused; the text says its state (R31)."""
    job = run.submit(root)
    run("cancel", str(job.job_id), "--yes")
    code, message = run.error("pause", str(job.job_id), code=Exit.INVALID_STATUS)
    assert code == "INVALID_STATUS"
    assert "cancelled" in message


@pytest.mark.parametrize("command", ["cancel", "remove"])
def test_nothing_is_lost_without_a_yes(run: Terminal, root: Path, command: str) -> None:
    """Where nobody can be asked, `--yes` must be said (R31)."""
    job = run.submit(root)
    target = str(job.job_id) if command == "cancel" else str(root)
    assert "--yes" in run(command, target, code=Exit.VALIDATION).stderr
    assert Job.model_validate_json(run("status", "last", "--json").stdout).status == JobStatus.PENDING


# --- how a followed job ends ------------------------------------------------------------------------------------------


def test_a_completed_job_ends_well(run: Terminal, root: Path, engine: Engine) -> None:
    """Following a finished job prints its end: what was done, how long it took, what to do next (R60)."""
    Driver(engine).index(root)
    result = run("status", "last", "--follow")
    assert "Completed: files 1 indexed" in result.stdout
    assert "penstock search" in result.stdout
    assert result.stderr.startswith("100 %  Completed")


def test_a_cancelled_job_ends_with_its_code(run: Terminal, root: Path) -> None:
    """Scripts can tell; people read how to go on (R60)."""
    job = run.submit(root)
    run("cancel", str(job.job_id), "--yes")
    assert f"penstock resume {job.job_id}" in run("status", "last", "--follow", code=Exit.JOB_CANCELLED).stdout


def test_a_failed_job_ends_with_its_code(run: Terminal, root: Path, engine: Engine) -> None:
    """A repository without an indexable file fails, and its record is still the answer (R09, R60)."""
    (root / "adding.py").unlink()
    Driver(engine).index(root)
    record = Job.model_validate_json(run("status", "last", "--follow", "--json", code=Exit.JOB_FAILED).stdout)
    assert record.error_message is not None
