"""Faults of worker processes, of the hosts that they run on, and of commands that submit."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import psutil

from pipeline.states import Stage
from tests.acceptance.working import PENSTOCK
from tests.chaos import oom
from tests.chaos.waiting import soon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.chaos.world import World

HOLDING: Final = """
SELECT w.pid FROM dramatiq.queue q JOIN penstock.workers w ON w.id = q.worker
WHERE q.queue_name = %s AND q.state = 'consumed' ORDER BY q.seq LIMIT 1
"""
HOLDER_PATIENCE: Final = 3.0
OOM_PATIENCE: Final = 5.0
SUBMISSION_SECONDS: Final = 1.2
"""What a submission takes at most: the moment of the kill is drawn from it."""


@contextmanager
def kill_worker(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Kill one worker process, whatever it does."""
    worker = random.choice(_workers(world))
    worker.kill()
    yield {"pid": worker.pid}


@contextmanager
def kill_holder(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Kill the worker process that holds a message of some stage, as soon as there is one."""
    stage = random.choice(list(Stage))
    worker = _holder(world, stage)
    worker.kill()
    yield {"stage": str(stage), "pid": worker.pid}


@contextmanager
def kill_parent(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Kill the parent of a group: its workers must notice, and end."""
    crew = random.choice(world.crews)
    with crew.killed(whole=False):
        yield {"group": crew.name}


@contextmanager
def kill_group(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Kill a whole group at once."""
    crew = random.choice(world.crews)
    with crew.killed():
        yield {"group": crew.name}


@contextmanager
def kill_all(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Kill every worker on every host."""
    with ExitStack() as killed:
        for crew in world.crews:
            killed.enter_context(crew.killed())
        yield {"groups": len(world.crews)}


@contextmanager
def end_group(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Ask a group to end, as a deployment does; it is started again."""
    crew = random.choice(world.crews)
    crew.ask_to_end()
    try:
        yield {"group": crew.name}
    finally:
        crew.wanted = True


@contextmanager
def kill_submitter(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Kill a command in the middle of a submission."""
    force = ["--force"] * (random.random() < 0.5)
    patience = random.uniform(0, SUBMISSION_SECONDS)
    with world.log("submitter").open("ab") as output:
        command = subprocess.Popen(
            [*PENSTOCK, "index", str(world.visited), "--background", *force],
            env=os.environ | world.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        with suppress(subprocess.TimeoutExpired):
            command.wait(patience)
    finally:
        command.kill()
        command.wait()
    yield {"after": round(patience, 2), "force": bool(force)}


@contextmanager
def stop_worker(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Stop a worker with SIGSTOP, and let it go on later."""
    worker = random.choice(_workers(world))
    worker.suspend()
    try:
        yield {"pid": worker.pid}
    finally:
        with suppress(psutil.NoSuchProcess):  # its group may have lost patience
            worker.resume()


@contextmanager
def out_of_memory(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Take a working process's memory away, so that the kernel kills it; where that is not allowed, do so ourselves."""
    worker = _holder(world, random.choice((Stage.CHUNK, Stage.EMBED, Stage.WRITE)))
    by_kernel = world.bounds_memory and _starve(world, worker)
    if not by_kernel:
        worker.kill()
    yield {"pid": worker.pid, "by": "the kernel" if by_kernel else "SIGKILL"}


def _starve(world: World, worker: psutil.Process) -> bool:
    with oom.group(f"{world.folder.name}-oom") as group:
        oom.enter(group, worker)
        return soon(lambda: not _alive(worker), OOM_PATIENCE)


def _alive(worker: psutil.Process) -> bool:
    try:
        return worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def lose_host(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Have the second host fall silent, as when its power fails or its switch does, and come back."""
    world.elsewhere.lose()
    try:
        yield {"by": world.elsewhere.kind}
    finally:
        world.elsewhere.find()


def _workers(world: World) -> list[psutil.Process]:
    found = [worker for crew in world.crews for worker in crew.workers()]
    if not found:
        raise LookupError("no worker is there")
    return found


def _holder(world: World, stage: Stage) -> psutil.Process:
    deadline = time.monotonic() + HOLDER_PATIENCE
    with world.server.session() as session:
        while time.monotonic() < deadline:
            row = session.execute(HOLDING, (stage,)).fetchone()
            if row is not None and psutil.pid_exists(row[0]):  # else it was killed a moment ago
                return psutil.Process(row[0])
            time.sleep(0.01)
    raise LookupError(f"nobody held a message of {stage}")
