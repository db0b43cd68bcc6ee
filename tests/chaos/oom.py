"""Has the kernel kill a process for its memory, where control groups may be made; they are removed at the end."""

from __future__ import annotations

import errno
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

ROOT: Final = Path("/sys/fs/cgroup")
LIMITS: Final = ("memory.limit_in_bytes", "memory.max")
LEAST: Final = 64 * 1024
"""Bytes that a process may take once it is in the group: less than any takes anew within a batch."""


def own_group() -> Path | None:
    """Return this process's control group of the memory controller; None where there is none."""
    for line in Path("/proc/self/cgroup").read_text().splitlines() if Path("/proc/self/cgroup").exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return ROOT / "memory" / path.lstrip("/")
        if not controllers and (ROOT / "cgroup.controllers").exists():
            return ROOT / path.lstrip("/")
    return None


def possible(name: str) -> bool:
    """Say whether a group with a limit of its own may be made."""
    try:
        with group(name):
            return True
    except (OSError, LookupError):
        return False


@contextmanager
def group(name: str) -> Iterator[Path]:
    """Yield a new control group with hardly any memory. Raises OSError or LookupError where that is not possible."""
    own = own_group()
    if own is None:
        raise LookupError("no control group bounds memory here")
    made = own / name
    made.mkdir(exist_ok=True)
    try:
        _limit(made).write_text(str(LEAST))
        yield made
    finally:
        remove(made, own)


def _limit(made: Path) -> Path:
    found = next((made / name for name in LIMITS if (made / name).exists()), None)
    if found is None:
        raise LookupError("the memory controller is not delegated to this control group")
    return found


def enter(made: Path, process: psutil.Process) -> None:
    """Move a process into the group; the next memory that it asks for kills it."""
    (made / "cgroup.procs").write_text(str(process.pid))


def remove(made: Path, own: Path) -> None:
    """Remove a group; whoever is still in it goes back to ours."""
    for _ in range(100):
        for pid in (made / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (own / "cgroup.procs").write_text(pid)
        try:
            made.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.02)
        else:
            return


def remove_groups(name: str) -> None:
    """Remove the groups that a killed program left; their names begin with `name`."""
    own = own_group()
    if own is not None:
        for made in own.glob(f"{name}*"):
            remove(made, own)
