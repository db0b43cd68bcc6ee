"""Files that kill, hang or starve the worker that reads them: each ends alone, with a reason."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from pipeline import jobs
from pipeline.states import JobStatus, Stage
from tests.acceptance.poison import POISONS, marker
from tests.acceptance.working import System, alive, eventually, running
from tests.house.sources import ROOT
from tests.inspecting import leftovers, sums
from tests.repositories import generate, write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

DIED: Final = "its worker process crashed or hung at stage chunk, some times in a row"
CRASHES: Final = {
    "abort": DIED,
    "read nowhere": DIED,
    "hoard": "MemoryError: stage chunk needs more memory than PENSTOCK_WORKER_MEMORY_MB allows",
    "hoard natively": DIED,
    "lose a thread": DIED,
    "fall over": "ValueError: unexpected token",
}
HANGS: Final = ("hang and hold the GIL", "hang", "loop")
TOO_SLOW: Final = "TimeoutError: stage chunk took longer than 1 s; PENSTOCK_BATCH_TIMEOUT_SECONDS sets the limit"
HASTE: Final = {"PENSTOCK_BATCH_TIMEOUT_SECONDS": "1"}
HEALTHY: Final = {f"part{n:02}.py": f"def part_{n}():\n    return {n}\n" for n in range(12)}
POISONED: Final = "part05b.py"
HOLDS: Final = text("""
SELECT count(*) FROM dramatiq.queue q JOIN penstock.workers w ON w.id = q.worker
WHERE q.queue_name = 'chunk' AND q.state = 'consumed' AND w.pid = :pid
""")


def start(system: System, *stages: Stage, processes: int = 1) -> None:
    """Start a group of workers whose chunker can be poisoned."""
    options = [option for stage in stages for option in ("--stage", stage)]
    with system.log.open("ab") as output:
        system.groups.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.poison", "worker", *options, "--processes", str(processes)],
                cwd=ROOT,
                env=os.environ | system.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        )


def index_each(system: System, folder: Path, poisons: Iterable[str]) -> dict[str, str]:
    """Index a repository with one poisoned file for each poison; return why each of these files failed.

    All else must be in order: the others are indexed, the jobs completed, sums agree, and nothing is left over.
    """
    jobs_of = {
        poison: system.submit(write(folder / poison, HEALTHY | {POISONED: f"# {marker(poison)}\n"}))
        for poison in poisons
    }
    reasons = {poison: _reason(system, job_id) for poison, job_id in jobs_of.items()}
    eventually(lambda: leftovers(system.engine) == {})
    return reasons


def _reason(system: System, job_id: UUID) -> str:
    job = system.finished(job_id)
    assert (job.status, job.files_indexed, job.files_failed) == (JobStatus.COMPLETED, 12, 1), job.error_message
    assert sums(system.engine, job_id) == []
    (note,) = jobs.notes(system.engine, job_id)
    assert note.path == POISONED
    return re.sub(r"\d+ times", "some times", note.reason or "")


def logged(system: System, event: str) -> list[dict[str, object]]:
    """Return the lines of the workers' log about an event."""
    return [json.loads(line) for line in system.log.read_text().splitlines() if f'"event": "{event}"' in line]


def taken_when_starved(system: System) -> list[object]:
    """Return the batches that a process took after it had run out of memory."""
    told = [json.loads(line) for line in system.log.read_text().splitlines() if '"batch_id"' in line]
    starved: set[object] = set()
    taken = []
    for line in told:
        if line["worker"] in starved:
            taken.append(line["batch_id"])
        if str(line.get("reason")).startswith("MemoryError"):
            starved.add(line["worker"])
    return taken


def test_a_file_that_crashes_or_starves_its_worker_ends_alone(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """It fails with a reason, and its batch is indexed without it, whatever it does to the process (R34)."""
    limits = {"MAX_CONCURRENT_INDEXING_JOBS": "9", "PENSTOCK_WORKER_MEMORY_MB": "400"}
    with running(engine, database_url, tmp_path, **limits) as system:
        start(system, Stage.CHUNK, processes=2)
        start(system, Stage.SCAN, Stage.EMBED, Stage.WRITE)
        assert index_each(system, tmp_path, CRASHES) == CRASHES
        assert logged(system, "worker.hung") == []
        assert taken_when_starved(system) == []
        ends = {line["status"] for line in logged(system, "worker.died")}
        assert ends == {-signal.SIGABRT, -signal.SIGSEGV, 0, 1}, "a signal each, who retired, and who lost a thread"
        assert {*CRASHES, *HANGS} == {*POISONS}, "a poison is not tried"


def test_a_file_that_hangs_its_worker_ends_alone(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """Python code hears of the time limit, native code is killed with its process; the file fails (R17, R34)."""
    with running(engine, database_url, tmp_path, MAX_CONCURRENT_INDEXING_JOBS="9", **HASTE) as system:
        start(system, Stage.CHUNK, processes=3)
        start(system, Stage.SCAN, Stage.EMBED, Stage.WRITE)
        reasons = index_each(system, tmp_path, HANGS)
        # A busy machine may be late with either end, so the log tells what was done, and the reason what came of it.
        assert set(reasons.values()) <= {DIED, TOO_SLOW}
        assert {line["stage"] for line in logged(system, "worker.hung")} == {Stage.CHUNK}
        assert TOO_SLOW in {line["reason"] for line in logged(system, "batch.mended")}


def test_a_worker_that_stands_still_is_replaced(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """Stopped with a batch in its hands and never continued, it is killed; its batch goes on (R17, R33)."""
    root = tmp_path / "shop"
    generate(root, 300)
    with running(engine, database_url, tmp_path, **HASTE) as system:
        start(system, Stage.CHUNK)
        start(system, Stage.SCAN, Stage.EMBED, Stage.WRITE)
        job_id = system.submit(root)
        stopped = eventually(lambda: stop_holder(system))
        eventually(lambda: not alive(stopped))
        job = system.finished(job_id)
        assert (job.status, job.files_indexed, job.files_failed) == (JobStatus.COMPLETED, 300, 0)
        assert sums(engine, job_id) == []
        assert len(logged(system, "worker.hung")) >= 1


def stop_holder(system: System) -> int:
    """Stop the worker process that holds a chunk message; 0 when it had just settled it."""
    pid = system.holder(Stage.CHUNK)
    os.kill(pid, signal.SIGSTOP)
    with system.engine.connect() as connection:
        if connection.execute(HOLDS, {"pid": pid}).scalar():
            return pid
    os.kill(pid, signal.SIGCONT)
    return 0
