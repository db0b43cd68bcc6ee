"""A group of forked processes, in a small program of its own: what dies is replaced, what hangs is killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.working import alive, eventually
from tests.house.sources import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}  # as users have it, and as a full disk hurts

    def start(lines: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM + textwrap.dedent(lines)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=buffered)
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
        Group([Child("clerk", lambda _: say("clerk", os.getpid()) or time.sleep(60) or 0)]).run()
    """)
    first = int(says(process, "clerk"))
    os.kill(first, signal.SIGKILL)
    assert int(says(process, "clerk")) != first


def test_a_child_that_keeps_dying_young_is_given_time(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """Each early death makes the pause longer, up to the last one of the table; the log says why it crashed."""
    process = start("""
        processes.RESTART = (0.0, 0.01, 0.02, 0.03)
        Group([Child("clerk", lambda _: 1 // 0)]).run()
    """)
    assert process.stdout is not None
    lines = map(json.loads, process.stdout)
    told = list(islice((line for line in lines if line["event"] in {"worker.crashed", "worker.died"}), 8))
    assert [line["restart_in"] for line in told if "restart_in" in line] == [0.01, 0.02, 0.03, 0.03]
    assert [line["exception"][0]["exc_type"] for line in told if "exception" in line] == ["ZeroDivisionError"] * 4


def test_a_child_that_will_not_end_is_killed_after_its_grace(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """SIGTERM asks first; the group itself ends with code 0."""
    process = start("""
        def stubborn(_):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("stubborn", os.getpid())
            time.sleep(60)

        code = Group([Child("stubborn", stubborn)]).run()
        try:
            say("left", os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            say("nobody is left")
        sys.exit(code)
    """)
    child = int(says(process, "stubborn"))
    process.terminate()
    says(process, "nobody is left")
    assert process.wait(20) == 0
    assert not alive(child)


def test_a_group_ends_when_nothing_needs_it(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """`until` is asked at every turn; the children get their SIGTERM and time to leave in order."""
    process = start("""
        def polite(_):
            signal.signal(signal.SIGTERM, lambda *_: say("bye") or os._exit(0))
            say("hello")
            time.sleep(60)

        turns = iter([False, False, False, True])
        sys.exit(Group([Child("polite", polite)]).run(until=lambda: next(turns, True)))
    """)
    says(process, "hello")
    says(process, "bye")
    assert process.wait(20) == 0


def test_a_replacement_knows_whom_it_replaces(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """Until a child has entered the list of workers, its successor stands in for the one before it, too (R33)."""
    process = start("""
        processes.RESTART = (0.0,)

        def clerk(place):
            say("clerk", os.getpid(), place.replaces)
            if place.early_deaths != 1:
                place.deadlines.enrol()
            say("ready")
            time.sleep(60)

        Group([Child("clerk", clerk)]).run()
    """)
    told = []
    for _ in range(4):
        pid, replaced = says(process, "clerk").split()
        told.append((pid, replaced))
        says(process, "ready")
        os.kill(int(pid), signal.SIGKILL)
    (first, nobody), (second, of_second), (third, of_third), (_, of_fourth) = told
    assert (nobody, of_second) == ("None", first)
    assert of_third == first, "the second one never enrolled, so the first one's messages may still wait"
    assert of_fourth == third
    assert second not in {of_third, of_fourth}


@pytest.mark.parametrize(
    "standstill",
    ["ctypes.PyDLL(None).sleep(60)", "ctypes.CDLL(None).sleep(60)", "os.kill(os.getpid(), signal.SIGSTOP)"],
    ids=["native code that holds the interpreter", "native code", "a stopped process"],
)
def test_a_child_that_hangs_is_killed_and_replaced(
    start: Callable[[str], subprocess.Popen[str]], standstill: str
) -> None:
    """When the deadline of one of its threads has passed; the log says which stage it was and for how long (R17)."""
    process = start(f"""
        import ctypes
        from threading import Thread
        from pipeline.states import Stage

        def clerk(place):
            say("clerk", os.getpid())
            if place.replaces is None:
                place.deadlines.begin(Stage.CHUNK, 0.3)
                {standstill}
            time.sleep(60)

        Group([Child("clerk", clerk)]).run()
    """)
    hung = int(says(process, "clerk"))
    line = json.loads("{" + says(process, "{"))
    while line["event"] != "worker.hung":
        line = json.loads("{" + says(process, "{"))
    assert (line["place"], line["pid"], line["stage"]) == ("clerk", hung, "chunk")
    assert line["seconds"] >= 0.3
    assert int(says(process, "clerk")) != hung
    eventually(lambda: not alive(hung), patience=20)


def test_a_child_that_shows_progress_is_left_alone(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """Each sign of progress begins its time anew, and at the end of a message nothing is promised any more (R17)."""
    process = start("""
        from pipeline.states import Stage

        def clerk(place):
            for _ in range(10):
                place.deadlines.begin(Stage.EMBED, 0.5)
                time.sleep(0.1)
            place.deadlines.end()
            time.sleep(1)
            say("done")
            time.sleep(60)

        Group([Child("clerk", clerk)]).run()
    """)
    assert process.stdout is not None
    before = []
    for line in process.stdout:
        if line.startswith("done"):
            break
        before.append(json.loads(line)["event"])
    assert before == ["worker.started"]


def test_an_idle_child_that_stands_still_is_replaced(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """A process without a sign of life takes no message any more, so it is killed though it promised none (R33)."""
    process = start("""
        from actors import watching
        watching.PULSE_SECONDS = 0.5

        def clerk(place):
            place.deadlines.live(60)
            place.deadlines.enrol()
            say("clerk", os.getpid())
            while True:
                time.sleep(0.05)
                place.deadlines.live(60)

        Group([Child("clerk", clerk)]).run()
    """)
    stopped = int(says(process, "clerk"))
    os.kill(stopped, signal.SIGSTOP)
    assert int(says(process, "clerk")) != stopped


def test_children_that_were_stopped_with_their_group_get_time(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """Ctrl-Z stops all of them; deadlines that passed meanwhile are nobody's fault."""
    process = start("""
        processes.ABSENCE = 0.6

        def clerk(place):
            say("clerk", os.getpid())
            while True:
                place.deadlines.live(0.8)
                say("tick")
                time.sleep(0.05)

        Group([Child("clerk", clerk)]).run()
    """)
    clerk = int(says(process, "clerk"))
    everybody = (process.pid, clerk)
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    eventually(lambda: time.monotonic() - stopped_at > 1.5)
    os.kill(process.pid, signal.SIGCONT)
    continued_at = time.monotonic()
    eventually(lambda: time.monotonic() - continued_at > 0.5)
    os.kill(clerk, signal.SIGCONT)
    assert process.stdout is not None
    after = list(islice(process.stdout, 40))
    assert not [line for line in after if "worker." in line and "worker.started" not in line]
    assert alive(clerk)


def test_a_stopped_child_hears_that_it_should_end(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """It is continued, or it would have to be killed after its grace; nobody is left when the group is gone."""
    process = start("""
        processes.GRACE = 60

        def polite(_):
            signal.signal(signal.SIGTERM, lambda *_: say("bye") or os._exit(0))
            say("hello", os.getpid())
            while True:
                time.sleep(1)

        sys.exit(Group([Child("polite", polite)]).run())
    """)
    child = int(says(process, "hello"))
    os.kill(child, signal.SIGSTOP)
    process.terminate()
    says(process, "bye")
    assert process.wait(20) == 0
    assert not alive(child)


def test_a_system_that_refuses_processes_is_asked_again(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """A machine at its limit of processes costs a pause, not the group."""
    process = start("""
        import resource
        processes.RESTART = (0.0, 0.1)
        if os.geteuid() == 0:
            os.setuid(65534)  # root has no limit
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        resource.setrlimit(resource.RLIMIT_NPROC, (0, most))
        turns = iter(range(1000))

        def until():
            if next(turns) == 5:
                resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
            return False

        Group([Child("clerk", lambda _: say("clerk", os.getpid()) or time.sleep(60) or 0)]).run(until)
    """)
    refused = json.loads("{" + says(process, "{"))
    assert (refused["event"], refused["restart_in"]) == ("worker.refused", 0.1)
    assert int(says(process, "clerk")) > 0


def test_a_full_disk_does_not_end_the_group(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """What cannot be logged is lost; children that end leave as children, and are started again."""
    process = start("""
        processes.RESTART = (0.0,)
        speaker = os.dup(1)
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

        def clerk(place):
            os.write(speaker, f"clerk {os.getppid()}\\n".encode())
            return 0

        Group([Child("clerk", clerk)]).run()
    """)
    assert [int(says(process, "clerk")) for _ in range(3)] == [process.pid] * 3


def test_a_keeper_leaves_no_start_behind(start: Callable[[str], subprocess.Popen[str]], tmp_path: Path) -> None:
    """A server that is being started when the supervisor leaves would come up after it was told to stop."""
    with (tmp_path / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever starts the server waits for this
        process = start(f"""
            from pathlib import Path
            from ops import keeper

            keeper.WAIT_SECONDS = 0.3
            with keeper.kept_server(Settings(penstock_home=Path({str(tmp_path)!r}), database_url=None)) as tend:
                tend()
                say("starting", os.waitpid(-1, os.WNOHANG))
            try:
                say("left", os.waitpid(-1, os.WNOHANG))
            except ChildProcessError:
                say("nobody is left")
        """)
        assert says(process, "starting") == "(0, 0)"
        says(process, "nobody is left")


def test_a_thread_that_crashes_takes_its_process_along(start: Callable[[str], subprocess.Popen[str]]) -> None:
    """Without one of its threads a worker would look alive and do nothing; the log says which one it was (R33)."""
    process = start("""
        import threading
        from functools import partial
        from ops import worker

        ended = threading.Event()
        threading.excepthook = partial(worker.leave_with_thread, ended)
        threading.Thread(target=lambda: 1 // 0, name="lifeline").start()
        time.sleep(60)
    """)
    line = json.loads("{" + says(process, "{"))
    assert (line["event"], line["thread"]) == ("worker.crashed", "lifeline")
    assert line["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert process.wait(20) == 1
