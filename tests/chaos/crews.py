"""Groups of workers as the Procfile has them, on two hosts, kept alive as systemd would keep them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from pipeline.states import Stage
from tests.acceptance.working import PENSTOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROCFILE: Final = Path(__file__).parents[2] / "Procfile"
ELSEWHERE: Final = " ".join(["worker", *(f"--stage {stage}" for stage in Stage), "--threads 2"])
"""What the second host runs: one process for all stages."""
RESTART_SECONDS: Final = 1.0
ASLEEP: Final = {psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED, psutil.STATUS_DEAD}


@dataclass
class Crew:
    """A line of the Procfile: a group's parent process and its workers."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    prefix: tuple[str, ...] = ()
    """What runs the group on its host."""
    wanted: bool = True
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    ended_at: float = 0.0
    guard: threading.RLock = field(default_factory=threading.RLock)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that its workers serve."""
        return tuple(
            Stage(after) for word, after in zip(self.arguments, self.arguments[1:], strict=False) if word == "--stage"
        )

    def tend(self) -> None:
        """Start the group when it is wanted and has ended, a second after its end."""
        with self.guard:
            if self.process is not None and self.process.poll() is None:
                return
            if self.process is not None:  # workers that it left notice by themselves
                self.process, self.ended_at = None, time.monotonic()
            if self.wanted and time.monotonic() - self.ended_at > RESTART_SECONDS:
                self._start()

    def _start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.prefix, *PENSTOCK, *self.arguments],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.starts += 1

    def workers(self) -> list[psutil.Process]:
        """Return the living worker processes, oldest first."""
        parent = self.process
        found = [] if parent is None else list(_children(parent.pid))
        return sorted(found, key=lambda worker: (worker.create_time(), worker.pid))

    def awake(self) -> bool:
        """Say whether one of its workers is there and not stopped."""
        return any(_status(worker) not in ASLEEP for worker in self.workers())

    @contextmanager
    def killed(self, *, whole: bool = True) -> Iterator[None]:
        """Kill the parent, with all its workers or alone, and have it started again afterwards."""
        with self.guard:
            self.wanted = False
            if self.process is not None:
                _kill(self.process.pid, whole=whole)
        try:
            yield
        finally:
            self.wanted = True

    def ask_to_end(self) -> None:
        """Send SIGTERM, and start the group no more."""
        with self.guard:
            self.wanted = False
            if self.process is not None:
                self.process.terminate()

    def has_ended(self, patience: float) -> bool:
        """Wait for the end of the group for so many seconds, and say whether it came."""
        try:
            return self.process is None or self.process.wait(patience) is not None
        except subprocess.TimeoutExpired:
            return False


def _kill(pid: int, *, whole: bool) -> None:
    with suppress(ProcessLookupError):
        if whole:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> Iterator[psutil.Process]:
    """Yield the children of a process; the kernel's list of them, where it has one, spares a look at every process."""
    try:
        pids = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        pids = [pid for pid, its_parent in _parents() if its_parent == parent]
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def _parents() -> Iterator[tuple[int, int]]:
    return ((process.pid, process.info["ppid"]) for process in psutil.process_iter(["ppid"]))


def _status(worker: psutil.Process) -> str:
    try:
        return str(worker.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def crews(folder: Path, here: Mapping[str, str], there: Mapping[str, str], prefix: tuple[str, ...]) -> list[Crew]:
    """Return the groups of two hosts: each worker line of the Procfile, and one group there, run by `prefix`."""
    lines = dict(line.split(": ", 1) for line in PROCFILE.read_text().splitlines())
    made = [
        Crew(name, tuple(shlex.split(command)[1:]), here, folder / f"{name}.log")
        for name, command in lines.items()
        if " worker " in command
    ]
    return [*made, Crew("elsewhere", tuple(shlex.split(ELSEWHERE)), there, folder / "elsewhere.log", prefix)]
