"""Indexes a tree from nothing, again unchanged, and again with one changed file; says where the time and memory went.

    python -m ops.bench.indexing PATH [--copies N]

Everything runs in a home of its own below the temporary folder, which is removed afterwards. Times are of this run on
this machine: compare runs by their CPU seconds and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

PENSTOCK: Final = (sys.executable, "-P", "-m", "ops.cli")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far: CPU seconds and its peak of resident memory in megabytes."""

    name: str
    cpu_seconds: float
    peak_megabytes: float


@dataclass(frozen=True, slots=True)
class Run:
    """One indexing run: its wall seconds, its status record, and what each process had used when it ended."""

    title: str
    seconds: float
    job: dict[str, object]
    usage: tuple[Usage, ...]

    def number(self, name: str) -> float:
        """Return a number of the job's record."""
        return float(str(self.job[name] or 0))


def main() -> None:
    """Measure, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(options.path, tree, symlinks=True)
        measure(tree, Path(folder) / "home")


def measure(tree: Path, home: Path) -> None:
    """Run the three kinds of runs on a tree that may be changed."""
    home.mkdir()
    try:
        call(home, "up")
        runs = [index(home, tree, "first"), index(home, tree, "unchanged")]
        changed = next(file for file in sorted(tree.rglob("*.py")) if file.stat().st_size)
        changed.write_text(changed.read_text(errors="replace") + "\n\ndef penstock_was_here():\n    return 'changed'\n")
        runs.append(index(home, tree, "one file changed"))
    finally:
        call(home, "down")
    report(runs)


def call(home: Path, *arguments: str) -> str:
    """Run a penstock command in the bench's home and return what it prints."""
    done = subprocess.run(  # noqa: S603 - our own program, without a shell
        [*PENSTOCK, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PENSTOCK_HOME": str(home), "PENSTOCK_LOG_LEVEL": "WARNING"},
    )
    return done.stdout


def index(home: Path, tree: Path, title: str) -> Run:
    """Index the tree in the foreground."""
    begun = time.monotonic()
    job = json.loads(call(home, "index", str(tree), "--json"))
    return Run(title, time.monotonic() - begun, job, tuple(processes(home)))


def processes(home: Path) -> Iterator[Usage]:
    """Yield what the workers and the server of a home have used."""
    for worker in json.loads(call(home, "workers", "--json"))["workers"]:
        yield usage(psutil.Process(worker["pid"]), "+".join(worker["stages"]))
    yield usage(psutil.Process(int((home / "supervisor.lock").read_text())), "supervisor")
    for postmaster in psutil.process_iter(["name", "cwd"]):
        if postmaster.info["cwd"] and Path(postmaster.info["cwd"]).is_relative_to(home) and owns(postmaster):
            yield server(postmaster)


def owns(process: psutil.Process) -> bool:
    """Return whether this is the server's first process."""
    parent = process.parent()
    return process.name() == "postgres" and (parent is None or parent.name() != "postgres")


def usage(process: psutil.Process, name: str) -> Usage:
    """Return what one process has used."""
    times = process.cpu_times()
    return Usage(name, times.user + times.system, peak(process.pid))


def server(postmaster: psutil.Process) -> Usage:
    """Return what the server has used: its living processes and those that ended; the peak is of the largest."""
    living = [postmaster, *postmaster.children()]
    own = [process.cpu_times() for process in living]
    ended = postmaster.cpu_times()
    total = sum(times.user + times.system for times in own) + ended.children_user + ended.children_system
    return Usage("postgres", total, max(peak(process.pid) for process in living))


def peak(pid: int) -> float:
    """Return the peak resident memory of a process in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def report(runs: list[Run]) -> None:
    """Print the runs, the stages of the first, and the processes."""
    console = Console()
    table = Table("run", "wall s", "files", "files/s", "chunks", "chunks/s", "CPU s", title="Runs")
    before = 0.0
    for run in runs:
        total = sum(item.cpu_seconds for item in run.usage)
        files, chunks = run.number("files_scanned"), run.number("chunks_written")
        table.add_row(
            run.title,
            f"{run.seconds:.2f}",
            f"{files:,.0f}",
            f"{files / run.seconds:,.0f}",
            f"{chunks:,.0f}",
            f"{chunks / run.seconds:,.0f}",
            f"{total - before:.1f}",
        )
        before = total
    console.print(table)
    console.print(stages(runs[0]))
    console.print(memory(runs[-1]))


def stages(run: Run) -> Table:
    """Return where the first run's busy time went."""
    table = Table("stage", "busy s", "done", "unit", title=f"Stages of the {run.title} run")
    found = run.job["stages"]
    for stage in found if isinstance(found, list) else []:
        table.add_row(stage["stage"], f"{stage['busy_seconds']:.2f}", f"{stage['done']:,}", stage["unit"])
    return table


def memory(run: Run) -> Table:
    """Return what each process used over all runs."""
    table = Table("process", "CPU s", "peak MB", title="Processes")
    for item in run.usage:
        table.add_row(item.name, f"{item.cpu_seconds:.2f}", f"{item.peak_megabytes:.0f}")
    return table


if __name__ == "__main__":
    main()
