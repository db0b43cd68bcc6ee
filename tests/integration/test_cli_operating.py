"""The command line's operation: migrations, workers, the doctor, and faults of all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ops.cli.exits import Exit
from ops.doctor import Diagnosis, Verdict
from ops.records import Migrations, NotifyTest, Workers
from pipeline import jobs
from tests.commanding import Terminal, error_in, make_shop, open_terminal
from tests.receiver import SECRET, Receiver, receiving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal on this test's database."""
    return open_terminal(database_url, tmp_path, monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of two files, one of which cannot be indexed."""
    return make_shop(tmp_path)


# --- operating --------------------------------------------------------------------------------------------------------


def test_the_database_goes_down_and_up(run: Terminal) -> None:
    """Each answers with where the database stands; a command on an old one says what to run (R74)."""
    at_head = Migrations.model_validate_json(run("db", "status", "--json").stdout)
    assert (at_head.current, at_head.behind) == (at_head.head, False)
    assert Migrations.model_validate_json(run("db", "downgrade", "base", "--yes", "--json").stdout).behind
    code, message = run.error("jobs", code=Exit.DATABASE)
    assert code == "DATABASE_ERROR"
    assert "penstock db upgrade" in message
    assert "penstock db upgrade" in run("db", "status").stdout
    assert Migrations.model_validate_json(run("db", "upgrade", "--json").stdout) == at_head


def test_a_downgrade_asks_first(run: Terminal) -> None:
    """Nothing is dropped by a slip of the hand."""
    run("db", "downgrade", "base", code=Exit.VALIDATION)
    assert not Migrations.model_validate_json(run("db", "status", "--json").stdout).behind


def test_a_database_that_is_away_has_its_own_code(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says so and does not show the password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hidden@127.0.0.1:9/penstock")
    result = run("jobs", "--json", code=Exit.DATABASE)
    assert error_in(result)[0] == "DATABASE_ERROR"
    assert "hidden" not in result.output


def test_a_bad_setting_names_its_variable(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are refused like any other input (R66)."""
    monkeypatch.setenv("JOB_WINDOW", "many")
    assert "JOB_WINDOW" in run.error("jobs", code=Exit.VALIDATION)[1]


def test_no_worker_is_online(run: Terminal) -> None:
    """The record is empty, the text says what to do (R60)."""
    assert Workers.model_validate_json(run("workers", "--json").stdout).workers == ()
    assert "no worker is online" in run("workers").stdout


def test_up_leaves_the_workers_of_a_server_alone(run: Terminal) -> None:
    """With DATABASE_URL nothing local is started or stopped behind one's back."""
    assert "DATABASE_URL" in run("up", code=Exit.VALIDATION).stderr
    assert run("down").stdout == "nothing was running\n"


def test_the_doctor_names_the_missing_workers(run: Terminal) -> None:
    """Everything is well but that nobody works, and the advice is the command that helps (R60)."""
    diagnosis = Diagnosis.model_validate_json(run("doctor", "--json", code=Exit.INTERNAL).stdout)
    failed = [finding for finding in diagnosis.findings if finding.verdict == Verdict.FAILED]
    assert [finding.check for finding in failed] == ["workers"]
    assert "penstock worker --stage scan" in str(failed[0].advice)
    assert "FAIL  workers" in run("doctor", code=Exit.INTERNAL).stdout


def test_the_doctor_tells_a_database_that_is_behind_from_one_that_is_away(
    run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own finding, and what cannot be known is left out (R60)."""
    run("db", "downgrade", "base", "--yes")
    behind = Diagnosis.model_validate_json(run("doctor", "--json", code=Exit.INTERNAL).stdout)
    assert [finding.check for finding in behind.findings if finding.verdict == Verdict.FAILED] == ["migrations"]
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/penstock")
    away = Diagnosis.model_validate_json(run("doctor", "--json", code=Exit.INTERNAL).stdout)
    assert [finding.check for finding in away.findings if finding.verdict == Verdict.FAILED] == ["database"]


def test_the_doctor_finds_an_embedder_that_is_away(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Ollama that refuses connections is a finding of its own (R51)."""
    monkeypatch.setenv("PENSTOCK_EMBEDDER", "ollama")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    diagnosis = Diagnosis.model_validate_json(run("doctor", "--json", code=Exit.INTERNAL).stdout)
    assert "embedder" in [finding.check for finding in diagnosis.findings if finding.verdict == Verdict.FAILED]


def test_the_doctor_finds_a_home_that_cannot_be_written(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home below a file is explained, and so is a disk that is too full (R60)."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("PENSTOCK_MIN_FREE_DISK_GB", "1000000")
    diagnosis = Diagnosis.model_validate_json(run("doctor", "--json", code=Exit.INTERNAL).stdout)
    failed = {finding.check for finding in diagnosis.findings if finding.verdict == Verdict.FAILED}
    assert {"home", "disk"} <= failed


def test_a_fault_of_our_own_is_one_line_and_its_traceback_on_demand(
    run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is shown a traceback who did not ask for it."""

    def broken(*_: object) -> None:
        message = "the pipe leaks"
        raise LookupError(message)

    monkeypatch.setattr(jobs, "online", broken)
    quiet = run("workers", "--json", code=Exit.INTERNAL)
    assert error_in(quiet)[1].startswith("LookupError: the pipe leaks")
    assert "Traceback" not in quiet.output
    monkeypatch.setenv("PENSTOCK_LOG_LEVEL", "debug")
    assert "Traceback" in run("workers", code=Exit.INTERNAL).stderr


def test_a_test_notification_says_who_took_it(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each service has its line and its record; one that did not take it makes a code (R63)."""
    up, down = Receiver(), Receiver()
    run.error("notify", "test", code=Exit.VALIDATION)
    monkeypatch.setenv("PENSTOCK_NOTIFY_URLS", f"{up.url} {down.url}")
    with receiving(up):
        told = NotifyTest.model_validate_json(run("notify", "test", "--json", code=Exit.INTERNAL).stdout)
        assert [(each.entry, each.service, each.sent) for each in told.services] == [
            (1, "json", True),
            (2, "json", False),
        ]
        monkeypatch.setenv("PENSTOCK_NOTIFY_URLS", up.url)
        assert run("notify", "test").stdout == "1  json       sent\n"
    assert up.titles == ["Penstock: a test"] * 2


def test_the_doctor_finds_a_service_that_cannot_be_used(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the entry, never the URL (R63)."""
    monkeypatch.setenv("PENSTOCK_NOTIFY_URLS", f"desktop2://{SECRET}")
    diagnosis = Diagnosis.model_validate_json(run("doctor", "--json", code=Exit.INTERNAL).stdout)
    (found,) = [finding for finding in diagnosis.findings if finding.check == "notify"]
    assert found.verdict == Verdict.FAILED
    assert "entry 1 (desktop2)" in found.text
    assert SECRET not in found.text
