"""Measures what a user waits for while three jobs run: submit, status, list, pause, resume, cancel.

    python -m ops.bench.control [PATH] [--rounds N]

Indexes three copies of PATH (the standard library by default) in a home of its own, with 10,000 finished jobs stored,
and asks in between. Limits: R02, R20, R25, R30. The processes that work take the cores, so the maxima are theirs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sysconfig
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, insert

from ops.bench.indexing import call
from ops.office import open_office
from ops.settings import Settings
from pipeline import jobs
from pipeline.records import JobRequest
from pipeline.states import TERMINAL
from pipeline.store.engine import writing
from pipeline.store.jobs import JobFilter
from pipeline.tables import indexing_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

STORED: Final = 10_000
LIMITS: Final = {"submit": 100, "status": 50, "list": 200, "pause": 100, "resume": 100, "cancel": 100}
"""Milliseconds that REQUIREMENTS allows at p95."""


@dataclass
class Clock:
    """The milliseconds that each kind of question took."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def timing(self, kind: str) -> Iterator[None]:
        """Note how long the block takes."""
        begun = time.perf_counter()
        yield
        self.taken.setdefault(kind, []).append((time.perf_counter() - begun) * 1_000)


def main() -> None:
    """Measure, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?", default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        os.environ |= {"PENSTOCK_HOME": str(home), "PENSTOCK_LOG_LEVEL": "WARNING"}
        try:
            call(home, "up")
            report(measure(Path(folder), options.path, options.rounds))
        finally:
            call(home, "down")


def measure(folder: Path, source: Path, rounds: int) -> Clock:
    """Start three jobs, and ask again and again while they run."""
    office = open_office(Settings.load())
    small = folder / "small"
    small.mkdir()
    (small / "a.py").write_text("a = 1\n")
    working = [submit(office, copied(source, folder / f"tree{number}")) for number in range(3)]
    store_finished(office, small)
    clock = Clock()
    for _ in range(rounds):
        ask(office, clock, working, small)
    office.engine.dispose()
    return clock


def copied(source: Path, target: Path) -> Path:
    """Copy a tree without what is not indexed anyway."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "site-packages"))
    return target


def submit(office: jobs.Office, root: Path) -> UUID:
    """Submit a repository."""
    return jobs.submit(office, JobRequest(repo_path=str(root))).job_id


def store_finished(office: jobs.Office, root: Path) -> None:
    """Store finished jobs, as months of use leave them."""
    job_id = submit(office, root)
    jobs.cancel(office, job_id)
    row = {"project_id": "default", "repo_path": str(root), "name": "old", "embedder": "local", "model": "m"}
    ended = {"status": "completed", "progress_percentage": 100, "completed_at": func.now(), "finished_at": func.now()}
    with writing(office.engine) as connection:
        repository = connection.execute(indexing_jobs.select().where(indexing_jobs.c.id == job_id)).one().repository_id
        for _ in range(STORED // 100):
            old = [{"id": uuid4(), "repository_id": repository} for _ in range(100)]
            connection.execute(insert(indexing_jobs).values(**row, **ended), old)


def ask(office: jobs.Office, clock: Clock, working: list[UUID], small: Path) -> None:
    """Ask each kind of question once, and once more of each job that works."""
    for job_id in working:
        with clock.timing("status"):
            jobs.status(office.engine, job_id)
    with clock.timing("list"):
        jobs.listed(office.engine, JobFilter(project_id="default"), limit=20)
    with clock.timing("submit"):
        fresh = submit(office, small)
    with clock.timing("cancel"):
        jobs.cancel(office, fresh)
    if jobs.status(office.engine, working[-1]).status not in TERMINAL:
        with clock.timing("pause"):
            jobs.pause(office, working[-1])
        with clock.timing("resume"):
            jobs.resume(office, working[-1])


def report(clock: Clock) -> None:
    """Print what each kind of question took."""
    table = Table("question", "times", "p50 ms", "p95 ms", "max ms", "limit ms", title="While three jobs run")
    for kind, taken in clock.taken.items():
        cuts = quantiles(taken, n=20)
        table.add_row(
            kind, str(len(taken)), f"{cuts[9]:.1f}", f"{cuts[18]:.1f}", f"{max(taken):.1f}", str(LIMITS[kind])
        )
    Console().print(table)


if __name__ == "__main__":
    main()
