"""Notifications by real worker processes: nothing that is killed, wrong or slow costs one, or a job (R63)."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ops import supervisor
from ops.cli.exits import Exit
from ops.settings import Settings
from pipeline import jobs
from pipeline.errors import ValidationError
from pipeline.states import JobStatus, Stage
from tests.acceptance.working import PENSTOCK, System, eventually, running
from tests.receiver import SECRET, Receiver, receiving
from tests.repositories import write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine


def waiting(engine: Engine) -> int:
    """Return how many events wait in the outbox."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM penstock.notification_outbox")).scalar_one())


def kill_all(system: System) -> None:
    """Kill every worker process."""
    for worker in jobs.online(system.engine):
        system.kill(worker.pid)


def test_who_dies_before_it_could_note_what_it_sent_has_it_sent_again(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """At least once: kill -9 between the delivery and its note costs a repetition (R63); no log holds a secret."""
    root = write(tmp_path / "shop", {"a.py": "x = 1\n"})
    receiver = Receiver()
    wanted = {"PENSTOCK_NOTIFY_URLS": receiver.url, "PENSTOCK_NOTIFY_EVENTS": "completed"}
    with (
        receiving(receiver),
        running(engine, database_url, tmp_path, PENSTOCK_LOG_LEVEL="DEBUG", **wanted) as system,
    ):
        receiver.before = lambda: kill_all(system) if receiver.attempts == 1 else None
        system.start(*Stage)
        assert system.finished(system.submit(root)).status == JobStatus.COMPLETED
        eventually(lambda: receiver.attempts == 2 and not waiting(engine), patience=40)
    assert receiver.titles == ["shop: indexing is complete"] * 2
    printed = system.log.read_text()
    assert "notification.sent" in printed
    assert SECRET not in printed


def test_a_service_that_hangs_delays_neither_a_job_nor_the_end_of_a_worker(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """Jobs complete while it hangs, and SIGTERM does not wait for it (R63)."""
    receiver = Receiver()
    with receiving(receiver), running(engine, database_url, tmp_path, PENSTOCK_NOTIFY_URLS=receiver.url) as system:
        receiver.before = lambda: eventually(lambda: not jobs.online(engine))
        system.start(*Stage)
        for name in ("one", "two"):
            job_id = system.submit(write(tmp_path / name, {"a.py": f"{name} = 1\n"}))
            assert system.finished(job_id).status == JobStatus.COMPLETED
        eventually(lambda: receiver.attempts)
        system.groups[0].terminate()
        assert system.groups[0].wait(timeout=8) == 0


def test_a_worker_with_an_unusable_service_does_not_start(database_url: str, tmp_path: Path) -> None:
    """The error names the setting and the entry, and not the URL (R63, R66)."""
    urls = f"json://127.0.0.1/{SECRET} slack://{SECRET}"
    started = subprocess.run(
        [*PENSTOCK, "worker", "--stage", "scan"],
        env=os.environ | {"DATABASE_URL": database_url, "PENSTOCK_HOME": str(tmp_path), "PENSTOCK_NOTIFY_URLS": urls},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == Exit.VALIDATION
    assert started.stderr.startswith("error: PENSTOCK_NOTIFY_URLS: entry 2 (slack) cannot be used: ")
    assert SECRET not in started.stdout + started.stderr


def test_a_command_that_needs_local_workers_says_that_they_would_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the command's own, not a line of a log; nothing was started (R63, R66)."""
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENSTOCK_NOTIFY_URLS", f"bogus://{SECRET}")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(ValidationError, match=r"entry 1 \(bogus\) cannot be used"):
        supervisor.ensure(Settings.load())
    assert not (tmp_path / "home").exists()
