"""Faults of the embedding server."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tests.ollama_standin import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.chaos.world import World

STORMS: Final = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
SPOILS: Final = ("drop", "garbage", "fewer", "nan", "zero")


@contextmanager
def down(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Stop the server: connections are refused, and those that are open are cut."""
    world.standin.stop()
    try:
        yield {}
    finally:
        world.standin.start()


@contextmanager
def errors(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Answer every request with a server's error."""
    status = random.choice(STORMS)
    with _misbehaving(world, Fault("status", status=status)):
        yield {"status": int(status)}


@contextmanager
def throttles(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Answer every request with 429."""
    with _misbehaving(world, Fault("status", status=HTTPStatus.TOO_MANY_REQUESTS, error="too many requests")):
        yield {}


@contextmanager
def hangs(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Take requests and never answer; in the end somebody restarts the server."""
    with _misbehaving(world, Fault("hang")):
        try:
            yield {}
        finally:
            world.standin.stop()
            world.standin.start()


@contextmanager
def slow(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Take two seconds for a request."""
    usual = world.standin.settings
    world.standin.configure(replace(usual, request_delay=2.0))
    try:
        yield {}
    finally:
        world.standin.configure(usual)


@contextmanager
def garbled(world: World, random: Random) -> Iterator[dict[str, object]]:
    """Answer with what is no answer."""
    kind = random.choice(SPOILS)
    with _misbehaving(world, Fault(kind)):
        yield {"answer": kind}


@contextmanager
def model_missing(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Have the model deleted on the server, and pulled again."""
    usual = world.standin.settings
    world.standin.configure(replace(usual, models=()))
    try:
        yield {}
    finally:
        world.standin.configure(usual)


@contextmanager
def dimension_changed(world: World, _random: Random) -> Iterator[dict[str, object]]:
    """Replace the model under its name by one of another dimension: the jobs that meet it fail, by design."""
    usual = world.standin.settings
    world.dimension_changes += 1
    world.embedded.suspend()
    world.standin.configure(replace(usual, dimension=usual.dimension // 2))
    try:
        yield {}
    finally:
        world.standin.configure(usual)


@contextmanager
def _misbehaving(world: World, fault: Fault) -> Iterator[None]:
    world.standin.misbehave(fault)
    try:
        yield
    finally:
        world.standin.misbehave()
