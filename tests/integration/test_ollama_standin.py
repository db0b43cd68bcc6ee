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
        assert server.ledger.arrived.wait(timeout=5)
        server.stop()
        with pytest.raises(httpx.TransportError):
            hanging.result(timeout=5)


def test_the_record_counts_texts_and_concurrency(server: OllamaStandin) -> None:
    """Repeated passages, the most requests in flight, and the busy time are known."""
    server.configure(Settings(request_delay=0.1))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda text: post(server, ["shared", text]), ["a", "b", "c"]))
    record = server.ledger.record()
    assert (record["requests"], record["passages"], record["repeated"]) == (3, 6, 2)
    assert record["texts"][text_hash("shared")] == 3
    assert record["max_in_flight"] > 1
    assert record["busy_seconds"] >= 0.1


def test_it_has_a_fixed_speed(server: OllamaStandin) -> None:
    """With one slot, delays add up: the server is the bottleneck that a benchmark needs (R71)."""
    server.configure(Settings(parallel=1, passage_delay=0.02))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: post(server, [text, text]), ["a", "b", "c", "d"]))
    assert server.ledger.record()["busy_seconds"] >= 0.16


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
