"""The Ollama embedder over HTTP: every fault ends in vectors, a failed passage, or an error that says what to do."""

from __future__ import annotations

import threading
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pipeline.embedders import Embedded, Passage
from pipeline.embedders.ollama import OllamaEmbedder
from pipeline.errors import DimensionChanged, EmbedderError, EmbedderUnavailable, ModelMissing, ValidationError
from tests.acceptance.working import eventually
from tests.ollama_standin import Fault, OllamaStandin, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MODEL = "nomic-embed-text"
PASSAGES = [Passage(f"shop.order_{i}", f"def order_{i}(cart):\n    return cart.total * {i}") for i in range(8)]
MARK = "poisonous"
MARKED = [*PASSAGES[:5], Passage("", f"a {MARK} passage"), *PASSAGES[5:]]


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
def hasty(server: OllamaStandin) -> Iterator[OllamaEmbedder]:
    """An embedder of that server, with a short timeout."""
    with closing(OllamaEmbedder(server.url, MODEL, batch_size=16, timeout=0.4)) as embedder:
        yield embedder


@cache
def undisturbed() -> NDArray[np.float32]:
    """Return the vectors of PASSAGES from a server without faults."""
    with OllamaStandin() as standin, closing(OllamaEmbedder(standin.url, MODEL)) as embedder:
        return embedder.embed(PASSAGES).vectors


def answered(embedder: OllamaEmbedder) -> bool:
    """Embed PASSAGES; return whether the server was found to be there."""
    try:
        return embedder.embed(PASSAGES).failed == {}
    except EmbedderUnavailable:
        return False


def assert_only_the_marked_failed(answer: Embedded, reason: str) -> None:
    """Assert that position 5 of MARKED failed for the reason, and every other has its own vector."""
    assert list(answer.failed) == [5]
    assert reason in answer.failed[5]
    assert not answer.vectors[5].any()
    np.testing.assert_array_equal(np.delete(answer.vectors, 5, axis=0), undisturbed())


def test_passages_get_unit_vectors_at_their_positions_in_one_request(
    server: OllamaStandin, embedder: OllamaEmbedder
) -> None:
    """A healthy server is asked once, and each row belongs to the passage at its position (R50)."""
    answer = embedder.embed(PASSAGES)
    assert answer.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(answer.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(answer.vectors[3], embedder.embed([PASSAGES[3]]).vectors[0])
    assert (answer.failed, answer.truncated, server.ledger.sizes) == ({}, 0, [8, 1])


def test_more_passages_than_the_batch_size_go_in_several_requests(
    server: OllamaStandin, embedder: OllamaEmbedder
) -> None:
    """A caller that sends more than `batch_size` is served in requests of that size (R50)."""
    assert embedder.embed(PASSAGES * 5).vectors.shape == (40, 768)
    assert sorted(server.ledger.sizes) == [8, 16, 16]


def test_a_query_is_near_the_passage_with_its_words(embedder: OllamaEmbedder) -> None:
    """Queries and passages share a space, each with the prefix that the model was trained with (R50)."""
    texts = [Passage("parse_json", "parse a json document"), Passage("open_socket", "open a tcp socket")]
    assert np.argmax(embedder.embed(texts).vectors @ embedder.embed_query("parse json")) == 0


def test_a_refused_connection_says_the_host_and_what_to_do(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A server that is not running makes the embedder unavailable, and works again once it is back (R13, R51)."""
    server.stop()
    with pytest.raises(EmbedderUnavailable, match=rf"{server.url} cannot be reached.*ollama serve"):
        embedder.embed(PASSAGES)
    server.start()
    eventually(lambda: answered(embedder), patience=10)


def test_an_unknown_host_name_is_unavailable() -> None:
    """A name that DNS does not know is reported like a server that is down (R51)."""
    unknown = OllamaEmbedder("http://no-such-host.invalid:11434", MODEL)
    with closing(unknown), pytest.raises(EmbedderUnavailable, match=r"no-such-host\.invalid"):
        unknown.embed(PASSAGES[:1])


def test_a_host_that_is_no_address_is_refused_at_once() -> None:
    """A malformed OLLAMA_HOST is a mistake of the user, not an outage (R66)."""
    with pytest.raises(ValidationError, match="OLLAMA_HOST"):
        OllamaEmbedder("http://localhost:port", MODEL)


def test_a_missing_model_says_which_to_pull(server: OllamaStandin) -> None:
    """The error names the command that mends it, and the model is found once it is there (R51)."""
    with closing(OllamaEmbedder(server.url, "all-minilm")) as embedder:
        with pytest.raises(ModelMissing, match="`ollama pull all-minilm`"):
            embedder.embed(PASSAGES)
        server.configure(Settings(models=("all-minilm",)))
        eventually(lambda: answered(embedder), patience=10)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503, 429])
def test_a_server_that_refuses_everything_is_unavailable(
    server: OllamaStandin, embedder: OllamaEmbedder, status: int
) -> None:
    """When even a harmless text is refused, the server is at fault and not a passage (R51)."""
    server.misbehave(Fault("status", status=status, error="something is wrong here"))
    with pytest.raises(EmbedderUnavailable, match="something is wrong here"):
        embedder.embed(PASSAGES)
    assert len(server.ledger.sizes) <= 5


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_fault_is_retried_smaller(server: OllamaStandin, embedder: OllamaEmbedder, status: int) -> None:
    """One refused request is sent again in two halves, and nothing is lost (R51)."""
    server.misbehave(Fault("status", times=1, status=status))
    np.testing.assert_array_equal(embedder.embed(PASSAGES).vectors, undisturbed())
    assert server.ledger.sizes == [8, 1, 4, 4]


def test_too_little_memory_is_named(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A model that does not fit the server's memory makes it unavailable, in the server's words (R13, R51)."""
    server.misbehave(Fault("status", error="model requires more system memory (5.6 GiB) than is available (3.2 GiB)"))
    with pytest.raises(EmbedderUnavailable, match=r"5\.6 GiB.*free memory"):
        embedder.embed(PASSAGES)


def test_a_request_too_slow_for_the_timeout_is_halved_and_the_size_remembered(
    server: OllamaStandin, hasty: OllamaEmbedder
) -> None:
    """A server that needs longer for many passages gets fewer at a time, also by the next call (R51)."""
    server.configure(Settings(passage_delay=0.08))
    assert hasty.embed(PASSAGES).failed == {}
    first = len(server.ledger.sizes)
    assert hasty.embed(PASSAGES).failed == {}
    assert server.ledger.sizes[:2] == [8, 1]
    assert max(server.ledger.sizes[first:]) < 8


def test_a_server_that_hangs_is_unavailable_after_two_timeouts(server: OllamaStandin, hasty: OllamaEmbedder) -> None:
    """The timeout is honoured, and one harmless text decides that it is the server (R51)."""
    server.misbehave(Fault("hang"))
    with pytest.raises(EmbedderUnavailable, match=r"no answer within 0\.4 s"):
        hasty.embed(PASSAGES)
    assert len(server.ledger.sizes) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("status", marker=MARK, status=400, error="cannot be tokenized"), "cannot be tokenized"),
        (Fault("status", marker=MARK, error="json: unsupported value: NaN"), "unsupported value: NaN"),
        (Fault("hang", marker=MARK), "no answer within 0.4 s"),
        (Fault("drop", marker=MARK), "the connection broke off"),
        (Fault("garbage", marker=MARK), "not what Ollama answers"),
        (Fault("fewer", marker=MARK), "0 vectors for 1 passages"),
        (Fault("nan", marker=MARK), "NaN"),
        (Fault("infinite", marker=MARK), "infinity"),
        (Fault("zero", marker=MARK), "zero"),
        (Fault("dimension", marker=MARK), "384 dimensions, not 768"),
    ],
    ids=lambda value: f"{value.kind} {value.status:d}" if isinstance(value, Fault) else "",
)
def test_a_poisonous_passage_fails_alone(
    server: OllamaStandin, hasty: OllamaEmbedder, fault: Fault, reason: str
) -> None:
    """Whatever a passage does to the server, it fails alone with the reason, and its neighbours get theirs (R51)."""
    server.misbehave(fault)
    assert_only_the_marked_failed(hasty.embed(MARKED), reason)


def test_a_rejected_request_is_never_sent_again_as_it_was(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A deterministic 400 is bisected: no two requests hold the same passages (R51)."""
    server.misbehave(Fault("status", marker=MARK, status=400, error="cannot be tokenized"))
    embedder.embed(MARKED)
    assert server.ledger.sizes.count(9) == 1
    assert server.ledger.texts.most_common(1)[0][1] <= 5


@pytest.mark.parametrize("kind", ["nan", "zero", "fewer", "garbage", "drop"])
def test_a_server_whose_every_answer_is_broken_is_unavailable(
    server: OllamaStandin, embedder: OllamaEmbedder, kind: str
) -> None:
    """A broken server blocks the job; it does not fail every file of it (R13, R51)."""
    server.misbehave(Fault(kind))
    with pytest.raises(EmbedderUnavailable, match="does not embed"):
        embedder.embed(PASSAGES)


def test_a_model_replaced_under_its_name_is_an_error(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """Vectors of two dimensions never mix in one run; the next run may start with the new one (R50, R51)."""
    embedder.embed(PASSAGES)
    server.configure(Settings(dimension=384))
    with pytest.raises(DimensionChanged, match="384 dimensions after 768"):
        embedder.embed(PASSAGES)
    assert embedder.embed(PASSAGES).vectors.shape == (8, 384)


@pytest.mark.parametrize("ignores_truncate", [False, True], ids=["cut by the server", "cut by us"])
def test_a_passage_longer_than_the_context_is_cut_and_counted(
    server: OllamaStandin, embedder: OllamaEmbedder, *, ignores_truncate: bool
) -> None:
    """Too long a passage is embedded by its beginning and counted; its neighbours are whole (R51)."""
    server.configure(Settings(context=40, ignores_truncate=ignores_truncate))
    answer = embedder.embed([*PASSAGES, Passage("", "total " * 100)])
    assert (answer.failed, answer.truncated) == ({}, 1)
    np.testing.assert_array_equal(answer.vectors[:8], undisturbed())
    assert answer.vectors[8].any()


def test_known_lengths_are_not_searched_for_again(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """Once the context is known, passages that exceed it go straight into a request of their own (R51)."""
    server.configure(Settings(context=40))
    long = [Passage("", f"word{i} " * 100) for i in range(4)]
    embedder.embed([*PASSAGES, *long])
    before = len(server.ledger.sizes)
    assert embedder.embed([*PASSAGES, *long]).truncated == 4
    assert server.ledger.sizes[before:] == [8, 4]


def test_a_server_that_does_not_cut_is_given_cut_passages(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """Where the server ignores `truncate`, the length that fits is searched for once and kept (R51)."""
    server.configure(Settings(context=40, ignores_truncate=True))
    long = [Passage("", f"word{i} " * 100) for i in range(4)]
    embedder.embed([*PASSAGES, *long])
    before = len(server.ledger.sizes)
    answer = embedder.embed([*PASSAGES, *long])
    assert (answer.failed, answer.truncated) == ({}, 4)
    assert server.ledger.sizes[before:] == [8, 4]


@pytest.mark.parametrize("keep_alive", [None, "5m", "1h30m", "-1", "300"])
def test_keep_alive_is_written_as_ollama_reads_it(server: OllamaStandin, keep_alive: str | None) -> None:
    """Seconds without a unit, which Ollama takes from its environment, pass through its API too (R50)."""
    with closing(OllamaEmbedder(server.url, MODEL, keep_alive=keep_alive)) as embedder:
        assert embedder.embed(PASSAGES).failed == {}


def test_an_over_long_query_is_cut(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A search never fails because the query exceeds the model's context (R51)."""
    server.configure(Settings(context=40))
    assert embedder.embed_query("find the total " * 100).shape == (768,)


def test_a_passage_that_never_fits_fails_with_the_servers_words(
    server: OllamaStandin, embedder: OllamaEmbedder
) -> None:
    """Shortening ends: a server that finds every length too long does not keep a passage for ever (R51)."""
    server.misbehave(Fault("status", marker="search_", status=400, error="the input length exceeds the context length"))
    assert "context length" in embedder.embed([Passage("", "x" * 400)]).failed[0]


def test_a_passage_is_not_blamed_for_an_overload(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A server that has too much to do blocks the job, whichever passage it was asked for (R13, R51)."""
    server.misbehave(Fault("status", marker=MARK, status=503, error="server busy, please try again"))
    with pytest.raises(EmbedderUnavailable, match="server busy"):
        embedder.embed(MARKED)


def test_a_query_that_cannot_be_embedded_is_an_error(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """A rejected query says why, and is no outage (R51)."""
    server.misbehave(Fault("status", marker=MARK, status=400, error="cannot be tokenized"))
    with pytest.raises(EmbedderError, match="cannot be tokenized") as caught:
        embedder.embed_query(f"a {MARK} query")
    assert not isinstance(caught.value, EmbedderUnavailable)


def test_what_is_not_unicode_is_embedded_all_the_same(embedder: OllamaEmbedder) -> None:
    """A lone surrogate, which JSON over HTTP cannot carry, is replaced (R41)."""
    assert embedder.embed([Passage("", "caf\udce9 crème")]).failed == {}


def test_threads_share_one_embedder(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """Calls from several threads overlap and each gets its own vectors (R50)."""
    server.configure(Settings(request_delay=0.1))
    answers: dict[int, Embedded] = {}
    threads = [
        threading.Thread(target=lambda i=i: answers.update({i: embedder.embed([PASSAGES[i]])})) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.vstack([answers[i].vectors for i in range(4)]), undisturbed()[:4])
    assert server.ledger.max_in_flight > 1
