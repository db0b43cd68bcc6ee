"""A group of forked processes, in a small program of its own: what dies is replaced, what hangs is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from itertools import islice
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.working import alive, eventually
from tests.house.sources import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM: Final = """
import os, signal, sys, time
from ops import logs, processes
from ops.processes import Child, Group
from ops.settings import Settings

logs.configure(Settings(penstock_log_format="json"))
processes.GRACE = 0.5

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

"""


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Yield a function that starts the program with some more lines."""
    started: list[subprocess.Popen[str]] = []

    def start(lines: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM + textwrap.dedent(lines)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=20)


def says(process: subprocess.Popen[str], word: str) -> str:
    """Read on until a line begins with the word, and return the rest of it."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    pytest.fail(f"it never said {word!r}")


def test_a_child_that_dies_is_started_again(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """However it dies: by a signal, by an exception, or because it was done."""
    process = start("""
        Group([Child("clerk", lambda: say("clerk", os.getpid()) or time.sleep(60) or 0)]).run()
    """)
    first = int(says(process, "clerk"))
    os.kill(first, signal.SIGKILL)
    assert int(says(process, "clerk")) != first


def test_a_child_that_keeps_dying_young_is_given_time(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """Each early death makes the pause longer, up to the last one of the table; the log says why it crashed."""
    process = start("""
        processes.RESTART = (0.0, 0.01, 0.02, 0.03)
        Group([Child("clerk", lambda: 1 // 0)]).run()
    """)
    assert process.stdout is not None
    lines = map(json.loads, process.stdout)
    told = list(islice((line for line in lines if line["event"] in {"worker.crashed", "worker.died"}), 8))
    assert [line["restart_in"] for line in told if "restart_in" in line] == [0.01, 0.02, 0.03, 0.03]
    assert [line["exception"][0]["exc_type"] for line in told if "exception" in line] == ["ZeroDivisionError"] * 4


def test_a_child_that_will_not_end_is_killed_after_its_grace(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """SIGTERM asks first; the group itself ends with code 0."""
    process = start("""
        def stubborn():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("stubborn", os.getpid())
            time.sleep(60)

        sys.exit(Group([Child("stubborn", stubborn)]).run())
    """)
    child = int(says(process, "stubborn"))
    process.terminate()
    assert process.wait(20) == 0
    eventually(lambda: not alive(child), patience=20)


def test_a_group_ends_when_nothing_needs_it(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """`until` is asked at every turn; the children get their SIGTERM and time to leave in order."""
    process = start("""
        def polite():
            signal.signal(signal.SIGTERM, lambda *_: say("bye") or os._exit(0))
            say("hello")
            time.sleep(60)

        turns = iter([False, False, False, True])
        sys.exit(Group([Child("polite", polite)]).run(until=lambda: next(turns, True)))
    """)
    says(process, "hello")
    says(process, "bye")
    assert process.wait(20) == 0
