"""The JSON API over HTTP: the records of `--json`, the errors of the house, and health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from ops import database
from ops.records import JobInFull, Repositories, Submitted, Workers
from pipeline import jobs
from pipeline.records import Job, JobPage, SearchResults
from pipeline.states import JobStatus
from tests.commanding import NOBODY_LISTENS, make_shop
from tests.driving import Driver
from tests.serving import Client, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine


REFUSED: Final = [
    ("GET", "/api/jobs?limit=0", None, 400, "VALIDATION_ERROR", "limit 0"),
    ("GET", "/api/jobs?limit=many", None, 400, "VALIDATION_ERROR", "limit"),
    ("GET", "/api/jobs?stauts=failed", None, 400, "VALIDATION_ERROR", "stauts"),
    ("GET", "/api/jobs?status=asleep", None, 400, "VALIDATION_ERROR", "blocked"),
    ("GET", "/api/jobs?after=0001-01-01", None, 400, "VALIDATION_ERROR", "after"),
    ("GET", "/api/search?query=x&repo=%00", None, 400, "VALIDATION_ERROR", "cannot be matched"),
    ("GET", "/api/jobs/7", None, 400, "VALIDATION_ERROR", "not a job id"),
    ("GET", f"/api/jobs/{uuid4()}", None, 404, "JOB_NOT_FOUND", "no job"),
    ("GET", "/api/search", None, 400, "VALIDATION_ERROR", "query"),
    ("POST", "/api/jobs", "{", 400, "VALIDATION_ERROR", "JSON"),
    ("POST", "/api/jobs", "{}", 400, "VALIDATION_ERROR", "repo_path"),
    ("POST", "/api/jobs", '{"repo_path": "relative"}', 400, "VALIDATION_ERROR", "absolute"),
    ("POST", "/api/jobs", '{"repo_path": "/x", "force": true}', 400, "VALIDATION_ERROR", "force"),
    ("POST", "/api/workers", "{}", 405, "VALIDATION_ERROR", "Method Not Allowed"),
    ("GET", "/api/nothing", None, 404, "VALIDATION_ERROR", "docs/web.md"),
]  # fmt: skip


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Client]:
    """Yield a client of a site on this test's database."""
    with serving(settings_for(database_url, tmp_path)) as client:
        yield client


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of two files, one of which cannot be indexed."""
    return make_shop(tmp_path)


def submitted(site: Client, root: Path, **options: object) -> Submitted:
    """Submit a repository and return the answer."""
    answer = site.post("/api/jobs", {"repo_path": str(root), **options})
    assert answer.status == 202, answer.body
    return Submitted.model_validate_json(answer.body)


def test_a_submission_answers_with_the_pending_job(site: Client, root: Path, engine: Engine) -> None:
    """The record is the command line's, and every field of the request reaches the job (R01, R03, R04)."""
    job = submitted(site, root, project_id="p", name="the shop", force_reindex=True, exclude=["x/**"])
    assert (job.status, job.duplicate, job.name, job.project_id) == (JobStatus.PENDING, False, "the shop", "p")
    again = submitted(site, root, project_id="p")
    assert (again.job_id, again.duplicate) == (job.job_id, True)
    with engine.connect() as connection:
        row = connection.execute(text("SELECT force_reindex, exclude_globs FROM penstock.indexing_jobs")).one()
    assert tuple(row) == (True, ["x/**"])


def test_jobs_are_listed_with_filters(site: Client, root: Path, tmp_path: Path) -> None:
    """Status, project, path prefix, time, limit and offset; newest first (R25)."""
    other = tmp_path / "other"
    other.mkdir()
    first, second = submitted(site, root), submitted(site, other, project_id="p")
    site.post(f"/api/jobs/{first.job_id}/cancel", {"confirm": True})

    def listed(**query: object) -> list[UUID]:
        page = JobPage.model_validate_json(site.get("/api/jobs", **query).body)
        return [job.job_id for job in page.jobs]

    assert listed() == [second.job_id, first.job_id]
    assert listed(status="queued") == listed(project="p") == listed(path_prefix=other) == [second.job_id]
    assert listed(status=["cancelled", "failed"]) == listed(offset=1) == [first.job_id]
    assert listed(after=second.created_at.isoformat(), limit=1) == []
    assert listed(before=second.created_at.isoformat()) == [first.job_id]


def test_a_job_tells_what_happened_and_which_files_were_passed_over(site: Client, root: Path, engine: Engine) -> None:
    """The detail is the status record with its files and events, oldest first (R15, R20, R64)."""
    job = submitted(site, root)
    Driver(engine).drain()
    detail = JobInFull.model_validate_json(site.get(f"/api/jobs/{job.job_id}").body)
    assert Job(**{name: getattr(detail, name) for name in Job.model_fields}) == jobs.status(engine, job.job_id)
    assert detail.files is not None
    assert detail.events is not None
    assert [(file.path, file.reason) for file in detail.files] == [("blob.py", "binary")]
    happened = [event.type for event in detail.events]
    assert (happened[:2], happened[-1]) == (["submitted", "started"], "completed")
    assert detail.events[0].detail == {"repo_path": str(root)}
    assert JobInFull.model_validate_json(site.get(f"/api/jobs/{job.job_id}", files=0).body).files == ()


def test_a_job_is_paused_resumed_and_cancelled(site: Client, root: Path) -> None:
    """Each answers with the job; a cancel must be confirmed, what has ended cannot be paused (R30, R31, R32)."""
    path = f"/api/jobs/{submitted(site, root).job_id}"
    assert site.post(f"{path}/pause").json["status"] == "paused"
    assert site.post(f"{path}/resume").json["status"] == "pending"
    status, code, message = site.post(f"{path}/cancel").error
    assert (status, code, "confirm" in message) == (400, "VALIDATION_ERROR", True)
    assert site.post(f"{path}/cancel", {"confirm": True}).json["status"] == "cancelled"
    assert site.post(f"{path}/pause").error[:2] == (409, "INVALID_STATUS")
    assert site.post(f"{path}/resume").json["resumed_from"] in path


def test_a_search_has_the_filters_of_the_command_line(site: Client, root: Path, engine: Engine) -> None:
    """Results, state and coverage; what cannot be answered has its own error (R52, R53)."""
    Driver(engine).index(root)
    found = SearchResults.model_validate_json(
        site.get(
            "/api/search", query="add two numbers", repo=root, language="python", kind="function", path="*.py"
        ).body
    )
    assert [(hit.path, hit.symbol) for hit in found.results] == [("adding.py", "add")]
    assert (found.index_state, found.coverage) == ("complete", 1.0)
    short = site.get("/api/search", query="add two numbers", repo=root, max_tokens=200).json
    assert len(short["results"]) == 1
    assert site.get("/api/search", query="add", max_tokens=7).error[:2] == (400, "VALIDATION_ERROR")
    assert site.get("/api/search", query="add", language="go").json["results"] == []
    assert site.get("/api/search", query=" ").error[:2] == (400, "VALIDATION_ERROR")
    assert site.get("/api/search", query="add", repo="/elsewhere").error[:2] == (404, "REPOSITORY_NOT_FOUND")


def test_repositories_and_workers_are_listed(site: Client, root: Path, engine: Engine) -> None:
    """The records are the command line's (R60)."""
    Driver(engine).index(root)
    found = Repositories.model_validate_json(site.get("/api/repositories").body).repositories
    assert [(one.root_path, one.files, one.index_state) for one in found] == [(str(root), 1, "complete")]
    assert Workers.model_validate_json(site.get("/api/workers").body).workers == ()


def test_what_is_refused_says_why(site: Client) -> None:
    """Every refusal has a status, a code of the house and words (R06, R20, R53)."""
    for method, path, body, *expected in REFUSED:
        status, code, message = site.ask(method, path, body, {"Content-Type": "application/json"}).error
        assert [status, code] == expected[:2], f"{method} {path}"
        assert str(expected[2]) in message


def test_a_large_body_is_refused(site: Client) -> None:
    """Nobody fills this process's memory."""
    assert site.post("/api/jobs", {"repo_path": "/" + "x" * 1_100_000}).status == 413


def test_a_fault_of_ours_is_an_error_without_a_traceback(site: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the traceback, the answer has a code; the next request is answered."""

    def broken(*_: object) -> None:
        message = "the pipe leaks"
        raise LookupError(message)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "online", broken)
        answer = site.get("/api/workers")
    assert answer.error[:2] == (500, "PENSTOCK_ERROR")
    assert "pipe" not in answer.body
    assert "content-security-policy" in answer.headers
    assert site.get("/api/workers").status == 200


# --- health -----------------------------------------------------------------------------------------------------------


def test_a_site_is_ready_when_its_database_answers(site: Client) -> None:
    """Alive and ready."""
    assert site.get("/healthz").json == {"status": "alive"}
    assert (site.get("/readyz").status, site.get("/readyz").json) == (200, {"status": "ready"})


def test_a_site_without_its_database_is_alive_and_not_ready(tmp_path: Path) -> None:
    """Whoever asks is told why, and the password is told to nobody."""
    settings = settings_for(f"postgresql://me:hidden@{NOBODY_LISTENS}/penstock", tmp_path)
    with serving(settings) as site:
        assert site.get("/healthz").status == 200
        unready = site.get("/readyz")
        assert (unready.status, unready.json["status"]) == (503, "unready")
        assert "does not answer" in unready.json["reason"]
        assert site.get("/api/jobs").error[:2] == (503, "DATABASE_ERROR")
        with site.events() as events:
            name, data = next(events)
        assert (name, data["error"]["code"]) == ("trouble", "DATABASE_ERROR")
        assert "hidden" not in unready.body + str(data)


def test_a_site_goes_on_when_its_database_was_migrated(empty_database_url: str, tmp_path: Path) -> None:
    """It starts beside an old database, names the command, and needs no restart after it (R74)."""
    with serving(settings_for(empty_database_url, tmp_path)) as site:
        assert "penstock db upgrade" in site.get("/readyz").json["reason"]
        assert "penstock db upgrade" in site.get("/api/jobs").error[2]
        database.upgrade(empty_database_url)
        assert site.get("/readyz").status == 200
        assert site.get("/api/jobs").json["total_count"] == 0
