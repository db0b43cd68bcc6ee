"""The way to an embedding server: kept alive, through the proxy where one stands, and of each process its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from pipeline.embedders import Passage, transport
from pipeline.embedders.ollama import OllamaEmbedder
from pipeline.errors import EmbedderUnavailable, JobStopped, ValidationError
from tests.ollama_standin import OllamaStandin, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL: Final = "nomic-embed-text"
PASSAGES: Final = [Passage(f"shop.order_{i}", f"def order_{i}(cart):\n    return cart.total * {i}") for i in range(8)]
ROOT: Final = Path(__file__).parents[2]
KEEPALIVE_TIMER: Final = "02"
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ASK: Final = """
import sys
from pipeline.embedders.choosing import EmbedderConfig, choose
choose("ollama", "", EmbedderConfig(ollama_host=sys.argv[1])).embed_query("where are retries limited")
"""
FORK: Final = """
import os, sys
from pipeline.embedders.choosing import EmbedderConfig, choose
config = EmbedderConfig(ollama_host=sys.argv[1])
parent = choose("ollama", "", config).embed_query("one")
child = os.fork()
if child == 0:
    same = (choose("ollama", "", config).embed_query("one") == parent).all()
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
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


def run(program: str, address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of ours in a process of its own."""
    command = [sys.executable, "-c", program, address]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=variables, text=True, capture_output=True, check=False, timeout=30)


def test_a_forked_child_has_connections_of_its_own(server: OllamaStandin) -> None:
    """A process that is forked after its parent embedded is answered, too."""
    done = run(FORK, server.url)
    assert done.returncode == 0, done.stderr


def keepalive_timers(port: int) -> set[str]:
    """Return which timers run on the connections to a port, as the kernel tells."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[5].partition(":")[0] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"}


def test_the_kernel_asks_after_a_silent_server(server: OllamaStandin, embedder: OllamaEmbedder) -> None:
    """The client's connections are kept alive, so that a host without power is noticed in seconds (R13)."""
    server.configure(Settings(request_delay=60))
    seen: list[set[str]] = []

    def look() -> None:
        if server.ledger.in_flight:
            seen.append(keepalive_timers(int(server.url.rpartition(":")[2])))
            raise JobStopped("seen enough")

    with pytest.raises(JobStopped):
        embedder.embed(PASSAGES, look)
    assert seen == [{KEEPALIVE_TIMER}]
    kept = transport.KEEPALIVE
    assert kept["TCP_KEEPIDLE"] + kept["TCP_KEEPINTVL"] * kept["TCP_KEEPCNT"] <= 10
    assert kept["TCP_USER_TIMEOUT"] <= 10_000


def test_a_peer_that_takes_nothing_is_given_up_long_before_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent and never acknowledged ends the connection after seconds, and the server counts as away (R13)."""
    monkeypatch.setitem(transport.KEEPALIVE, "TCP_USER_TIMEOUT", 1_000)
    large = [Passage("", "word " * 20_000) for _ in range(100)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        embedder = OllamaEmbedder(address, MODEL, batch_size=100, timeout=120)
        with closing(embedder), pytest.raises(EmbedderUnavailable, match="gone silent"):
            embedder.embed(large)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies, which a test fills."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["with a scheme", "without"])
def test_a_server_elsewhere_is_reached_through_the_proxy(
    server: OllamaStandin, environment: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    """The environment's proxy is used for other machines, with the whole address in the request."""
    environment.setenv(variable, server.url.replace("http://", scheme))
    with closing(OllamaEmbedder("http://embedder.example:11434", MODEL)) as embedder:
        assert embedder.embed(PASSAGES).failed == {}
    assert server.ledger.proxied == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "0.0.0.0"])  # noqa: S104 - nothing is bound
def test_no_proxy_stands_before_this_machine(environment: pytest.MonkeyPatch, host: str) -> None:
    """A proxy could not reach our own loopback, so that it is never asked for it."""
    environment.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert transport.proxy_to(httpx.URL(f"http://{host}:11434")) is None


def test_a_proxy_is_passed_by_for_this_machine_and_for_hosts_that_need_none(
    server: OllamaStandin, environment: pytest.MonkeyPatch
) -> None:
    """NO_PROXY is honoured, and the loopback needs no entry in it."""
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    environment.setenv("NO_PROXY", "embedder.example, .lan")
    for address in ("http://embedder.example:11434", "http://gpu.lan:11434", "http://[::1]:11434"):
        assert transport.proxy_to(httpx.URL(address)) is None
    assert transport.proxy_to(httpx.URL("http://gpu.example:11434")) == "http://127.0.0.1:9"
    with closing(OllamaEmbedder(server.url, MODEL)) as embedder:
        assert embedder.embed(PASSAGES).failed == {}
    assert server.ledger.proxied == 0


@pytest.mark.parametrize("proxy", ["ftp://proxy.example:21", "socks5://proxy.example:1080"])
def test_a_proxy_that_cannot_be_used_is_named(environment: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy of an unknown kind is a mistake of the settings, and no outage (R66)."""
    environment.setenv("ALL_PROXY", proxy)
    with pytest.raises(ValidationError, match=r"(?i)proxy"):
        OllamaEmbedder("http://embedder.example:11434", MODEL)


@pytest.mark.parametrize(
    "variables",
    [{"OLLAMA_HOST": "http://localhost:port"}, {"ALL_PROXY": "ftp://proxy.example:21"}],
    ids=["host", "proxy"],
)
def test_what_the_client_refuses_at_its_import_is_a_mistake_of_the_settings(variables: dict[str, str]) -> None:
    """Ollama's client reads the environment when it is imported; what it finds wrong there is said as ours (R66)."""
    printed = run(ASK, "http://localhost:port", **variables).stderr
    assert printed.splitlines()[-1].startswith("pipeline.errors.ValidationError: OLLAMA_HOST=http://localhost:port")
