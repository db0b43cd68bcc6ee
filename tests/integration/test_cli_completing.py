"""What Tab offers: words, and what the database knows, when it is up and answers (R60)."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline import jobs
from pipeline.records import JobRequest
from tests.acceptance.working import PENSTOCK
from tests.commanding import make_shop
from tests.driving import Driver
from tests.integration.broker_tools import SOON

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine


@pytest.fixture
def tab(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that presses Tab after some words, and returns what is offered."""

    def tab(line: str, environment: dict[str, str]) -> list[str]:
        words = {"COMP_WORDS": f"penstock {line}", "COMP_CWORD": str(line.count(" ") + 1)}
        home = {"PENSTOCK_HOME": str(tmp_path / "home"), "_PENSTOCK_COMPLETE": "complete_bash"}
        pressed = subprocess.run(
            PENSTOCK,
            env=os.environ | words | home | environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=SOON,
        )
        assert pressed.stderr == ""
        return pressed.stdout.split()

    return tab


def test_jobs_and_repositories_are_offered_where_they_fit(
    engine: Engine, database_url: str, tmp_path: Path, tab: Callable[..., list[str]]
) -> None:
    """Only jobs that a command can do something with; in the older spelling, too (R60)."""
    driver = Driver(engine)
    done = driver.index(make_shop(tmp_path))
    (tmp_path / "other").mkdir()
    pending = jobs.submit(driver.office, JobRequest(repo_path=str(tmp_path / "other"), project_id="mine")).job_id
    there = {"DATABASE_URL": database_url}
    assert tab("status ", there) == [str(pending), str(done.job_id)]
    assert tab("index cancel ", there) == [str(pending)]
    assert tab("remove /", there) == [str(tmp_path / "other"), str(tmp_path / "shop")]
    assert tab("search --project m", there) == ["mine"]


def test_a_key_starts_nothing_and_waits_for_nobody(tmp_path: Path, tab: Callable[..., list[str]]) -> None:
    """Without a server nothing is offered, and none is made; nor from one that does not answer, or a bad setting."""
    assert tab("status ", {"DATABASE_URL": ""}) == []
    assert not (tmp_path / "home").exists()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert tab("status ", {"DATABASE_URL": f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x"}) == []
    assert tab("status ", {"JOB_WINDOW": "many"}) == []


def test_words_are_offered_without_a_database(tab: Callable[..., list[str]]) -> None:
    """States, stages and languages (R60)."""
    assert tab("jobs --status q", {}) == ["queued"]
    assert tab("worker --stage e", {}) == ["embed"]
    assert tab("search --language py", {}) == ["python"]


def test_a_shell_learns_them() -> None:
    """What `--show-completion` prints makes a real bash offer the commands (R60)."""
    penstock = f'penstock() {{ {shlex.join(PENSTOCK)} "$@"; }}; export -f penstock'
    script = f'{penstock}; eval "$(penstock --show-completion)"; complete -p penstock'
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=SOON)
    assert "-F _penstock_completion penstock" in shown.stdout, shown.stderr
