"""The log of a whole installation: what its lines hold, and what never gets into one (R64, R65)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from sqlalchemy import make_url

from pipeline.states import JobStatus, Stage
from tests.acceptance.poison import marker
from tests.acceptance.test_poison import start
from tests.acceptance.working import eventually, running
from tests.house.test_events import CONTEXT, OF_JOBS, documented
from tests.ollama_standin import Fault, OllamaStandin
from tests.repositories import write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

SECRET: Final = "correct horse battery staple"  # noqa: S105 - of no account
PASSWORD: Final = "2retnuh"  # noqa: S105 - of no account
OURS: Final = re.compile(r"[a-z]+\.[a-z_]+")
FILES: Final = {
    "good.py": f'PHRASE = "{SECRET}"\n',
    "bad.py": f"# {marker('fall over')} {SECRET}\n",
    "deadly.py": f"# {marker('abort')} {SECRET}\n",
    "refused.py": f"# refuse this, {SECRET}\n",
}


def test_the_lines_of_good_and_bad_jobs(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """Each line is JSON with the documented fields; no content and no password is in any, whatever went wrong."""
    secret_url = make_url(database_url).set(password=PASSWORD).render_as_string(hide_password=False)
    settings = {"PENSTOCK_EMBEDDER": "ollama", "OLLAMA_EMBEDDING_MODEL": "nomic-embed-text"}
    with (
        OllamaStandin() as server,
        running(
            engine, secret_url, tmp_path, OLLAMA_HOST=server.url.replace("//", f"//me:{PASSWORD}@"), **settings
        ) as system,
    ):
        server.misbehave(
            Fault("status", marker="refuse this", status=400, error="input is not valid"),
            Fault("status", status=404, error='model "nomic-embed-text" not found', times=1),
        )
        start(system, *Stage)
        bad = system.finished(system.submit(write(tmp_path / "shop", FILES)))
        empty = system.finished(system.submit(write(tmp_path / "empty", {"a.bin": b"\0\1"})))
        eventually(lambda: "job.failed" in system.log.read_text())
    printed = system.log.read_text()
    assert (bad.files_indexed, bad.files_failed, empty.status) == (1, 3, JobStatus.FAILED)
    assert SECRET not in printed
    assert PASSWORD not in printed
    assert PASSWORD not in bad.model_dump_json()
    assert "has no model nomic-embed-text" in printed
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    ours = [line for line in lines if OURS.fullmatch(line["event"])]
    fields = documented()
    expected = {f"{stage}.done" for stage in Stage} | {"batch.mended", "worker.started", "worker.died"}
    assert expected | {"job.submitted", "job.started", "job.completed", "job.failed"} <= {
        each["event"] for each in ours
    }
    for line in ours:
        assert {"timestamp", "level", "host", "worker"} <= line.keys()
        known = fields[line["event"]] | CONTEXT | (OF_JOBS if line["event"].startswith("job.") else set())
        assert line.keys() <= known, line
        if line["event"].endswith(".done"):
            assert fields[line["event"]] | {"job_id", "stage", "deliveries"} <= line.keys()
            assert "batch_id" in line or line["stage"] == Stage.SCAN
