"""The stand-in answers as Ollama does, misbehaves on demand, and keeps an exact record."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import numpy as np
import pytest

from tests.acceptance.working import eventually
from tests.ollama_record import text_hash
from tests.ollama_standin import Fault, OllamaStandin, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL: Final = "nomic-embed-text"
ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[OllamaStandin]:
    """A server that behaves until it is told otherwise."""
    with OllamaStandin() as standin:
        yield standin


def post(server: OllamaStandin, given: object, **options: object) -> httpx.Response:
    """Ask for embeddings."""
    return httpx.post(f"{server.url}/api/embed", json={"model": MODEL, "input": given, **options})


@contextmanager
def program() -> Iterator[str]:
    """Run the stand-in as a program; give its URL."""
    command = [sys.executable, "-m", "tests.ollama_standin", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.kill()


def test_it_answers_with_the_fields_of_the_real_api(server: OllamaStandin) -> None:
    """A list gives a vector a text, a string gives one, and the other fields are there."""
    answer = post(server, ["parse json", "open a socket"]).json()
    assert set(answer) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
    assert np.array(answer["embeddings"]).shape == (2, 768)
    assert answer["prompt_eval_count"] == 5
    assert post(server, "parse json").json()["embeddings"] == answer["embeddings"][:1]


def test_similar_texts_get_near_vectors_of_unit_length(server: OllamaStandin) -> None:
    """The geometry is that of a model: shared words mean nearness."""
    texts = ["read the settings file", "read a settings file now", "rotate an image"]
    rows = np.array(post(server, texts).json()["embeddings"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3


def test_dimensions_cuts_the_vectors(server: OllamaStandin) -> None:
    """`dimensions` gives shorter vectors, again of unit length."""
    (row,) = post(server, "parse json", dimensions=64).json()["embeddings"]
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-3)
    assert len(row) == 64


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": "x", "input": "a"}, 404, 'model "x" not found, try pulling it first'),
        ({"model": MODEL, "input": 3}, 400, "invalid input type"),
        ({"model": MODEL, "input": "a b c d", "truncate": False}, 400, "the input length exceeds the context length"),
    ],
)
def test_errors_are_worded_as_ollama_words_them(
    server: OllamaStandin, body: dict[str, object], status: int, error: str
) -> None:
    """Status and error text are those that clients look for."""
    server.configure(Settings(context=3))
    answer = httpx.post(f"{server.url}/api/embed", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_too_long_a_text_is_cut_by_default(server: OllamaStandin) -> None:
    """Without `truncate: false` the text is cut silently, as Ollama does."""
    server.configure(Settings(context=3))
    assert post(server, "a b c d").json()["embeddings"] == post(server, "a b c").json()["embeddings"]


def test_models_are_listed_and_described(server: OllamaStandin) -> None:
    """`/api/tags`, `/api/show` and `/api/version` answer."""
    tags = httpx.get(f"{server.url}/api/tags").json()["models"]
    shown = httpx.post(f"{server.url}/api/show", json={"model": MODEL}).json()
    assert [tag["name"] for tag in tags] == ["nomic-embed-text:latest"]
    assert shown["model_info"]["nomic-bert.embedding_length"] == 768
    assert httpx.post(f"{server.url}/api/show", json={"model": "x"}).status_code == 404
    assert "version" in httpx.get(f"{server.url}/api/version").json()
    assert httpx.get(f"{server.url}/api/nothing").status_code == 404


def test_a_fault_lasts_as_many_requests_as_it_was_given(server: OllamaStandin) -> None:
    """Faults wear off, and those with a marker wait for it."""
    server.misbehave(Fault("status", times=1, status=503), Fault("fewer", marker="odd"))
    codes = [post(server, "even").status_code for _ in range(2)]
    assert codes == [503, 200]
    assert post(server, ["even", "odd"]).json()["embeddings"] == post(server, ["even"]).json()["embeddings"]


def test_a_stopped_server_comes_back_on_its_port(server: OllamaStandin) -> None:
    """Stopping cuts open connections and refuses new ones; starting keeps the address and the record."""
    with httpx.Client() as client:
        client.post(f"{server.url}/api/embed", json={"model": MODEL, "input": "a"})
        server.stop()
        with pytest.raises(httpx.TransportError):
            client.get(server.url)
        with pytest.raises(httpx.ConnectError):
            client.get(server.url)
    server.start()
    assert post(server, "a").status_code == 200
    assert server.ledger.record()["repeated"] == 1


def test_stopping_ends_requests_that_hang(server: OllamaStandin) -> None:
    """A hanging request ends with its server, not with the tests."""
    server.misbehave(Fault("hang"))
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(post, server, "a")
        assert server.ledger.arrived.wait(timeout=20)
        server.stop()
        with pytest.raises(httpx.TransportError):
            hanging.result(timeout=20)


@pytest.mark.parametrize("parallel", [4, 1], ids=["at work", "in the queue"])
def test_a_request_that_its_client_gives_up_ends_and_is_counted(server: OllamaStandin, parallel: int) -> None:
    """As with Ollama, work for a connection that was closed stops, also before it has begun."""
    server.configure(Settings(request_delay=60, parallel=parallel))
    for _ in range(2):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/api/embed", json={"model": MODEL, "input": "a"}, timeout=0.3)
    eventually(lambda: server.ledger.in_flight == 0, patience=20)
    assert (server.ledger.given_up, len(server.ledger.arrivals)) == (2, 2)


def test_an_answer_may_trickle(server: OllamaStandin) -> None:
    """Its bytes come one at a time, so that no pause between them is long."""
    server.misbehave(Fault("trickle"))
    with httpx.stream("POST", f"{server.url}/api/embed", json={"model": MODEL, "input": "a"}, timeout=5) as answer:
        pieces = answer.iter_raw()
        assert [len(next(pieces)) for _ in range(3)] == [1, 1, 1]


def test_a_fault_may_strike_a_share_of_the_requests(server: OllamaStandin) -> None:
    """At random, but in every run the same ones."""
    server.misbehave(Fault("status", share=0.5))
    codes = [post(server, "a").status_code for _ in range(20)]
    assert 5 <= codes.count(500) <= 15
    with OllamaStandin() as again:
        again.misbehave(Fault("status", share=0.5))
        assert [post(again, "a").status_code for _ in range(20)] == codes


def test_it_serves_as_a_proxy_to_itself(server: OllamaStandin) -> None:
    """A request with the whole address of some other server is answered, and counted."""
    with httpx.Client(proxy=server.url) as client:
        answer = client.post("http://embedder.example:11434/api/embed", json={"model": MODEL, "input": "a"})
    assert (answer.status_code, server.ledger.proxied) == (200, 1)


def test_the_record_counts_texts_and_concurrency(server: OllamaStandin) -> None:
    """Repeated passages, the most requests in flight, and the busy time are known."""
    server.configure(Settings(request_delay=0.1))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda text: post(server, ["shared", text]), ["a", "b", "c"]))
    record = server.ledger.record()
    assert (record["requests"], record["passages"], record["repeated"]) == (3, 6, 2)
    assert record["texts"][text_hash("shared")] == 3
    assert record["max_in_flight"] > 1
    eventually(lambda: server.ledger.record()["busy_seconds"] >= 0.1, patience=20)


def test_it_has_a_fixed_speed(server: OllamaStandin) -> None:
    """With one slot, delays add up: the server is the bottleneck that a benchmark needs (R71)."""
    server.configure(Settings(parallel=1, passage_delay=0.02))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: post(server, [text, text]), ["a", "b", "c", "d"]))
    eventually(lambda: server.ledger.record()["busy_seconds"] >= 0.16, patience=20)


def test_the_program_is_steered_over_http() -> None:
    """As a program it prints its URL; settings, faults and the record go through `/control`."""
    with program() as url:
        body = {"dimension": 8, "faults": [{"kind": "status", "times": 1, "status": 429, "error": "slow down"}]}
        assert httpx.post(f"{url}/control", json=body).status_code == 200
        ask = {"model": MODEL, "input": ["a", "a"]}
        assert httpx.post(f"{url}/api/embed", json=ask).json() == {"error": "slow down"}
        assert len(httpx.post(f"{url}/api/embed", json=ask).json()["embeddings"][0]) == 8
        record = httpx.get(f"{url}/control").json()
    assert (record["requests"], record["passages"], record["repeated"]) == (2, 4, 3)
