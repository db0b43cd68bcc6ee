"""Requests to an embedding server that are given up, and those that are not sent because it is known to be away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import numpy as np
import pytest
from dramatiq.middleware import TimeLimitExceeded
from dramatiq.middleware.threading import raise_thread_exception

from pipeline.embedders import Passage, ollama_server, outage
from pipeline.embedders.ollama import OllamaEmbedder
from pipeline.errors import EmbedderUnavailable, JobStopped, ModelMissing
from tests.acceptance.working import eventually
from tests.ollama_record import text_hash
from tests.ollama_standin import Fault, OllamaStandin, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL: Final = "nomic-embed-text"
PASSAGES: Final = [Passage(f"shop.order_{i}", f"def order_{i}(cart):\n    return cart.total * {i}") for i in range(8)]
ROOT: Final = Path(__file__).parents[2]
ASK: Final = """
import sys
from pipeline.embedders.choosing import EmbedderConfig, choose
choose("ollama", "", EmbedderConfig(ollama_host=sys.argv[1])).embed_query("where are retries limited")
"""


@pytest.fixture
def server() -> Iterator[OllamaStandin]:
    """A server that behaves until it is told otherwise."""
    with OllamaStandin() as standin:
        yield standin


@pytest.fixture
def embedder(server: OllamaStandin) -> Iterator[OllamaEmbedder]:
    """An embedder of that server."""
    with closing(OllamaEmbedder(server.url, MODEL, batch_size=16)) as embedder:
        yield embedder


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server that was away be asked again at once."""
    monkeypatch.setattr(outage, "REST_SECONDS", 0.0)


class Raising:
    """Heeds, and raises an error once the server has the request."""

    def __init__(self, server: OllamaStandin, error: BaseException) -> None:
        self._server = server
        self._error = error

    def __call__(self) -> None:
        """Raise when the time has come."""
        if self._server.ledger.in_flight:
            raise self._error


def assert_given_up(server: OllamaStandin) -> None:
    """Assert that the server saw the connection of its only request close, long before its answer."""
    eventually(lambda: server.ledger.given_up == 1, patience=20)
    assert server.ledger.in_flight == 0


def run(program: str, address: str, **environment: str) -> subprocess.Popen[str]:
    """Start a program of ours in a process of its own."""
    command = [sys.executable, "-c", program, address]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, env=variables, text=True, stderr=subprocess.PIPE)


def test_the_caller_is_heard_while_an_answer_is_awaited(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """`heed` is called at least twice a second, and the answer comes all the same (R30)."""
    server.configure(Settings(request_delay=1.5))
    moments: list[float] = []
    assert embedder.embed(PASSAGES, lambda: moments.append(time.monotonic())).failed == {}
    assert len(moments) >= 3
    assert np.median(np.diff(moments)) < 0.5


def test_the_caller_is_heard_between_the_requests_of_a_call(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A call that needs several requests ends after the first one, however quick the server is (R30)."""
    with pytest.raises(JobStopped):
        embedder.embed(PASSAGES * 5, lambda: (_ for _ in ()).throw(JobStopped("cancelled")))
    assert len(server.ledger.sizes) == 1


@pytest.mark.parametrize(
    "error",
    [JobStopped("cancelled"), KeyboardInterrupt(), ConnectionError("lost"), httpx.ReadError("lost"), ValueError("bad")],
    ids=lambda error: type(error).__name__,
)
def test_what_heed_raises_ends_the_request_and_comes_through(
    server: OllamaStandin, embedder: OllamaEmbedder, error: BaseException
) -> None:
    """The connection is closed, so that the server stops; no error of the caller is taken for the server's (R30)."""
    server.configure(Settings(request_delay=60))
    with pytest.raises(type(error)) as caught:
        embedder.embed(PASSAGES, Raising(server, error))
    assert caught.value is error
    assert_given_up(server)
    server.configure(Settings())
    assert embedder.embed(PASSAGES).failed == {}


def test_a_time_limit_ends_the_request(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """What Dramatiq raises in the waiting thread from another one gets in, and closes the connection (R17)."""
    server.configure(Settings(request_delay=60))
    raised: list[BaseException] = []

    def work() -> None:
        try:
            embedder.embed(PASSAGES)
        except TimeLimitExceeded as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert server.ledger.arrived.wait(timeout=20)
    raise_thread_exception(thread.ident, TimeLimitExceeded)
    thread.join(timeout=20)
    assert len(raised) == 1
    assert_given_up(server)


def test_an_interrupted_search_ends_its_request(server: OllamaStandin) -> None:
    """Ctrl-C while a query is embedded ends the process at once, and the server's work (R60)."""
    server.configure(Settings(request_delay=60))
    with run(ASK, server.url) as process:
        assert server.ledger.arrived.wait(timeout=20)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in printed
    assert_given_up(server)


def test_requests_that_are_given_up_cost_no_connection(
    server: OllamaStandin, embedder: OllamaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds are given up at any moment of their life; nothing is left open, and the next ones pass (R30)."""
    monkeypatch.setattr("pipeline.embedders.loop_thread.HEED_SECONDS", 0.002)
    server.configure(Settings(request_delay=0.005))

    def work(seed: int) -> None:
        moments = random.Random(seed)  # noqa: S311 - when it strikes is no secret
        for _ in range(60):
            end = time.monotonic() + moments.random() * 0.08

            def heed(end: float = end) -> None:
                if time.monotonic() > end:
                    raise JobStopped("cancelled")

            try:
                assert embedder.embed(PASSAGES[:2], heed).failed == {}
            except JobStopped:
                stopped.append(end)

    stopped: list[float] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stopped) > 20
    assert embedder.embed(PASSAGES).failed == {}
    eventually(lambda: server.ledger.in_flight == 0, patience=20)
    eventually(lambda: server.open_connections <= len(threads), patience=20)


def test_closing_ends_the_thread_and_what_is_under_way(server: OllamaStandin) -> None:
    """An embedder that is closed leaves no thread and no connection, also in the middle of a request."""
    before = set(threading.enumerate())
    server.configure(Settings(request_delay=60))
    embedder = OllamaEmbedder(server.url, MODEL)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            embedder.embed(PASSAGES)
        except BaseException as error:  # noqa: BLE001 - that it ends is what matters
            ended.append(error)

    caller = threading.Thread(target=work)
    caller.start()
    assert server.ledger.arrived.wait(timeout=20)
    ours = set(threading.enumerate()) - before - {caller}
    embedder.close()
    caller.join(timeout=20)
    assert len(ended) == 1
    assert_given_up(server)
    assert "requests" in {thread.name for thread in ours}
    assert not [thread for thread in ours if thread.name == "requests" and thread.is_alive()]


def test_an_answer_that_trickles_in_is_bounded_as_a_whole(server: OllamaStandin) -> None:
    """The timeout is that of the answer, not of each of its bytes (R51)."""
    server.misbehave(Fault("trickle"))
    embedder = OllamaEmbedder(server.url, MODEL, timeout=0.4)
    with closing(embedder), pytest.raises(EmbedderUnavailable, match=r"no answer within 0\.4 s"):
        embedder.embed(PASSAGES)


def test_a_server_that_is_known_away_is_asked_once_for_all(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """During an outage the batches of a whole window cost one small request a second, not one each (R13)."""
    server.misbehave(Fault("status", status=503, error="server busy"))
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(PASSAGES)
    asked = len(server.ledger.sizes)
    for _ in range(16):
        with pytest.raises(EmbedderUnavailable, match="server busy"):
            embedder.embed(PASSAGES)
    assert len(server.ledger.sizes) - asked <= 1
    assert set(server.ledger.sizes[1:]) == {1}


def test_a_remembered_outage_keeps_its_kind(server: OllamaStandin) -> None:
    """What is raised from memory is what was found: a missing model says which to pull (R13, R51)."""
    with closing(OllamaEmbedder(server.url, "all-minilm")) as embedder:
        for _ in range(2):
            with pytest.raises(ModelMissing, match="`ollama pull all-minilm`"):
                embedder.embed(PASSAGES)
    assert server.ledger.sizes == []


@pytest.mark.usefixtures("no_rest")
def test_a_request_that_hangs_hides_no_recovery(
    server: OllamaStandin, embedder: OllamaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a server that was away does not answer, it is asked anew; its first answer counts (R13)."""
    monkeypatch.setattr(ollama_server, "PROBE_SECONDS", 0.3)
    server.misbehave(Fault("status", times=4))
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(PASSAGES)
    server.misbehave(Fault("hang", times=2))
    began = time.monotonic()
    assert embedder.embed(PASSAGES).failed == {}
    assert time.monotonic() - began < 20  # the timeout is 60 s
    eventually(lambda: server.ledger.given_up == 2, patience=20)


@pytest.mark.usefixtures("no_rest")
def test_a_probe_is_given_up_with_its_job(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A job that is cancelled while it looks whether the server is back leaves that to the next one (R13, R30)."""
    server.misbehave(Fault("status", times=4), Fault("hang"))
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(PASSAGES)
    with pytest.raises(JobStopped):
        embedder.embed(PASSAGES, Raising(server, JobStopped("cancelled")))
    assert_given_up(server)
    server.misbehave()
    assert embedder.embed(PASSAGES).failed == {}


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize(("share", "passages"), [(0.3, 150), (0.6, 50)])
def test_a_storm_blames_no_passage(
    server: OllamaStandin, embedder: OllamaEmbedder, monkeypatch: pytest.MonkeyPatch, share: float, passages: int
) -> None:
    """A server that fails at random fails no file for it, be it at times or mostly: each passage passes (R51)."""
    monkeypatch.setattr(ollama_server, "WITNESS_PAUSES", (0.0, 0.0, 0.0))
    server.misbehave(Fault("status", share=share))
    answered = 0
    while answered < passages:
        with suppress(EmbedderUnavailable):
            assert embedder.embed([Passage("", f"x = {answered}")]).failed == {}
            answered += 1
    assert len(server.ledger.sizes) > 2 * passages


@pytest.mark.usefixtures("no_rest")
def test_answers_outlive_the_outage_that_cuts_their_call_short(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """What a call got before the server went away is not asked for again by the next attempt at it (R44, R51)."""
    more = [*PASSAGES, *(Passage("", f"x = {i}") for i in range(16))]
    server.misbehave(Fault("status", marker="order_7"), Fault("status", marker="ready"))
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(more)
    server.misbehave()
    assert embedder.embed(more).failed == {}
    asked = {text_hash(f"search_document: x = {i}") for i in range(8, 16)}
    assert {times for text, times in server.ledger.texts.items() if text in asked} == {1}


def test_a_vector_that_is_spoiled_once_is_asked_for_again(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """NaN in one row of an answer costs a request, not a file; the other rows are kept (R51)."""
    server.misbehave(Fault("nan", marker="order_3", times=1))
    answer = embedder.embed(PASSAGES)
    assert answer.failed == {}
    np.testing.assert_array_equal(answer.vectors, embedder.embed(PASSAGES).vectors)
    assert server.ledger.sizes == [8, 1, 8]
