"""Clears what a run leaves behind, however it ends: the process that does it outlives even a kill of the program."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from ops import postgres
from pipeline.errors import DatabaseError
from tests.chaos import hosts, oom

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEP: Final = b"keep\n"
MARK: Final = "PENSTOCK_HOME"
"""The variable by which our processes are known: its value lies in the run's folder."""
PATIENCE: Final = 30.0


@contextmanager
def cleared(folder: Path, *, keep: bool) -> Iterator[None]:
    """Have the folder, its mounts and its processes cleared at the end; `keep` leaves the files, for a look at them."""
    janitor = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.janitor", str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        janitor.communicate(KEEP if keep else b"")


def clear(folder: Path, *, keep: bool = False) -> None:
    """End every process of a run, unmount its disk and remove its folder."""
    _end_workers(folder)
    disk = disk_of(folder)
    _end_server(disk)
    oom.remove_groups(folder.name)
    hosts.remove(folder)
    if keep:
        (disk / "ballast").unlink(missing_ok=True)
        subprocess.run(["cp", "-a", str(disk), str(folder / "kept")], check=True)
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    shutil.rmtree(disk if keep else folder)


def disk_of(folder: Path) -> Path:
    """Return where a run's database lies: a small disk of its own, where the program may mount one."""
    return folder / "disk"


def _end_workers(folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while (ours := processes_of(folder)) and time.monotonic() < deadline:
        for process in ours:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the living workers and commands of a run, forked children included."""
    return [process for process in psutil.process_iter(["status"]) if _belongs(process, folder)]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    if process.info["status"] == psutil.STATUS_ZOMBIE:
        return False
    try:
        return process.environ().get(MARK, "").startswith(f"{folder}/")
    except (psutil.Error, OSError):
        return False


def _end_server(disk: Path) -> None:
    if not disk.exists():
        return
    with suppress(DatabaseError):
        postgres.stop(disk, "immediate")
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error, OSError):
            if process.info["name"] == "postgres" and Path(process.cwd()).is_relative_to(disk):
                process.kill()


def main() -> None:
    """Wait until the program has ended, and clear."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    last = sys.stdin.buffer.read()
    clear(Path(sys.argv[1]), keep=last.endswith(KEEP))


if __name__ == "__main__":
    main()
