"""The chaos suite, shortly: jobs run while their surroundings fail, and nothing is lost (R33, R34, R36, R37)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

from tests.acceptance.working import eventually
from tests.chaos.janitor import disk_of, processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT: Final = Path(__file__).parents[2]
SECONDS: Final = 12
SEED: Final = 7
ALONE: Final = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Runs a command in a network of its own: a browser beside it drops its requests when a cable comes or goes."""
Line = dict[str, Any]


def network_of_its_own() -> tuple[str, ...]:
    """Return what is put before a command for that; nothing where it is not allowed, and there are no cables either."""
    try:
        allowed = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return ALONE if allowed else ()


class Program:
    """The chaos suite as a process of its own."""

    def __init__(self, *options: str) -> None:
        command = [*network_of_its_own(), sys.executable, "-m", "tests.chaos", *options]
        self.process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)

    def lines(self) -> Iterator[Line]:
        """Yield what it says, as it says it."""
        assert self.process.stdout is not None
        return map(json.loads, self.process.stdout)

    def until(self, event: str) -> Line:
        """Return the first line from now on that tells of an event."""
        return next(line for line in self.lines() if line["event"] == event)

    def end(self) -> None:
        """End it if it still runs; it clears up after itself."""
        self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.mark.timeout(300)  # what crashes leave staged is waited for, and other tests may run beside this one
def test_a_short_run_breaks_no_rule() -> None:
    """Some seconds of faults, drawn from a seed: afterwards every index is whole, and nothing is left over."""
    program = Program("--seconds", str(SECONDS), "--seed", str(SEED))
    try:
        said = list(program.lines())
        code = program.process.wait(timeout=10)
    finally:
        program.end()
    assert [line["violation"] for line in said if line["event"] == "violation"] == []
    summary = said[-1]
    assert (summary["event"], code) == ("summary", 0)
    assert summary["faults_total"] >= 4, "there was no time to break anything"
    assert summary["jobs"]["completed"] >= 5
    assert summary["recovery"]["measured"] > 0
    assert nothing_is_left_of(Path(said[0]["folder"]))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_early_leaves_nothing_behind(how: signal.Signals) -> None:
    """Ctrl-C, or even a kill, in the middle of a run: no process, no mount and no folder remains."""
    program = Program("--seconds", "60", "--seed", "3")
    try:
        folder = Path(program.until("begun")["folder"])
        program.until("fault")
        assert processes_of(folder)
        program.process.send_signal(how)
        program.process.communicate(timeout=60)
        eventually(lambda: nothing_is_left_of(folder), patience=20)
    finally:
        program.end()
    assert program.process.returncode != 0


def nothing_is_left_of(folder: Path) -> bool:
    """Say whether no process, mount or file of a run is there any more."""
    mounts = {partition.mountpoint for partition in psutil.disk_partitions(all=True)}
    return not (folder.exists() or processes_of(folder) or str(disk_of(folder)) in mounts)
