"""Real worker processes for a test: started as an operator starts them, killed as fate does, always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import psutil
from sqlalchemy import text

from pipeline import jobs
from pipeline.embedders.local import MODEL as LOCAL_MODEL
from pipeline.jobs import Office
from pipeline.records import JobRequest
from pipeline.states import TERMINAL, Stage
from pipeline.store import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

    from pipeline.records import Job

PENSTOCK: Final = (sys.executable, "-P", "-m", "ops.cli")
PATIENCE: Final = 90.0
T = TypeVar("T")
POLL: Final = 0.01
POLL_AT_MOST: Final = 0.1
SHARE: Final = 0.1
"""How much of a core's time a question may take that is asked again and again: others work on this machine."""

# The worker process that holds a message of a stage at this moment.
HOLDER: Final = text("""
SELECT w.pid FROM dramatiq.queue q JOIN penstock.workers w ON w.id = q.worker
WHERE q.queue_name = :stage AND q.state = 'consumed' LIMIT 1
""")


def eventually(question: Callable[[], T], patience: float = PATIENCE, share: float = SHARE) -> T:
    """Return the first true answer to a question that is asked again and again; fail after `patience` seconds.

    What is true for a moment only needs a larger `share` of the time.
    """
    deadline = time.monotonic() + patience
    while True:
        spent = time.thread_time()  # what blocks costs nobody anything
        if answer := question():
            return answer
        if time.monotonic() > deadline:
            message = f"it did not happen within {patience:g} s: {question}"
            raise AssertionError(message)
        time.sleep(min(POLL_AT_MOST, max(POLL, (time.thread_time() - spent) * (1 / share - 1))))


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and is not reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class System:
    """A running installation on a test's database: its office, its workers, and ways to hurt them."""

    engine: Engine
    office: Office
    environment: Mapping[str, str]
    log: Path
    groups: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *stages: Stage, processes: int = 1, threads: int = 1) -> None:
        """Start a group of workers for some stages, as a line of the Procfile does."""
        served = [argument for stage in stages for argument in ("--stage", stage)]
        arguments = ["worker", *served, "--processes", str(processes), "--threads", str(threads)]
        with self.log.open("ab") as output:
            self.groups.append(
                subprocess.Popen(
                    [*PENSTOCK, *arguments],
                    env=os.environ | self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )

    def submit(self, root: Path | str, *, force: bool = False, project: str = "default") -> UUID:
        """Submit a repository and return the job's id."""
        request = JobRequest(repo_path=str(root), project_id=project, force_reindex=force)
        return jobs.submit(self.office, request).job_id

    def job(self, job_id: UUID) -> Job:
        """Return the job as it is now."""
        return jobs.status(self.engine, job_id)

    def finished(self, job_id: UUID, patience: float = PATIENCE) -> Job:
        """Wait for the end of a job and return it."""
        eventually(lambda: self.job(job_id).status in TERMINAL, patience)
        return self.job(job_id)

    def holder(self, stage: Stage) -> int:
        """Wait until a worker process holds a message of the stage, and return its pid."""

        def ask() -> int | None:
            with self.engine.connect() as connection:
                return connection.execute(HOLDER, {"stage": stage}).scalar()

        return eventually(ask, share=0.5) or 0  # a batch is held for an instant

    def kill(self, pid: int) -> None:
        """Kill a process as the kernel does when memory is short."""
        os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Ask every group to end, and wait until it has."""
        for group in self.groups:
            group.terminate()
        for group in self.groups:
            group.wait(timeout=40)


@contextmanager
def running(engine: Engine, database_url: str, folder: Path, **environment: str) -> Iterator[System]:
    """Yield a system without workers; all that are started in it are ended with it."""
    home = folder / "home"
    home.mkdir(parents=True)
    variables = {"DATABASE_URL": database_url, "PENSTOCK_HOME": str(home), "PENSTOCK_LOG_FORMAT": "json", **environment}
    embedder = environment.get("PENSTOCK_EMBEDDER", "local")
    model = environment.get("OLLAMA_EMBEDDING_MODEL", LOCAL_MODEL)
    office = Office(engine, messages.MessageOutbox(), embedder, model)
    system = System(engine, office, variables, folder / "workers.log")
    try:
        yield system
    finally:
        system.end()
