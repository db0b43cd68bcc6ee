"""The shim as agents meet it: real processes, an embedded home of its own, the official client on the other end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

from ops.cli.exits import Exit
from tests.acceptance.working import PENSTOCK, eventually
from tests.agents import Agent, connected, shim, talk
from tests.commanding import NOBODY_LISTENS
from tests.ollama_standin import OllamaStandin, Settings
from tests.repositories import generate, repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SOURCE: Final = {
    "retries.py": (
        'def delay_before_retry(attempt):\n    """Seconds to wait before an attempt is made again."""\n'
        "    return 2**attempt\n"
    ),
    "brewing.md": "# A brewery\n\nHow beer is made: malt, hops, yeast and water.\n",
}
QUESTION: Final = "how long to wait before trying again"
FILES: Final = 200
TOKEN: Final = "correct-horse-battery"  # noqa: S105 - of this test
HELLO: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


@dataclass(frozen=True, slots=True)
class Home:
    """A home of its own, and the environment that names it."""

    folder: Path
    settings: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know."""
        return {"PENSTOCK_HOME": str(self.folder), **self.settings}


@contextmanager
def new_home(folder: Path, **settings: str) -> Iterator[Home]:
    """Yield a home that does not exist yet; at the end, if it was ever used, it is shut down and removed."""
    home = Home(folder, settings)
    yield home
    subprocess.run([*PENSTOCK, "down"], env=os.environ | home.environment, check=True, capture_output=True)
    if home.folder.exists():
        shutil.rmtree(home.folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Yield the home that the tests share."""
    with new_home(tmp_path_factory.mktemp("agent") / "home") as home:
        yield home


def test_an_agent_goes_from_nothing_to_an_answer(tmp_path: Path) -> None:
    """A client with nothing but the command gets a database, workers, an index and a passage (R61)."""
    root = repository(tmp_path / "shop", SOURCE)

    async def conversation() -> None:
        async with connected(shim(own.environment)) as agent:
            assert not own.folder.exists(), "the client was answered before anything was set up"
            code, words = await agent.refused("search_code", query=QUESTION, repo_path=str(root))
            assert (code, "start_indexing_background" in words) == ("REPOSITORY_NOT_FOUND", True)
            job = await agent.ask("start_indexing_background", repo_path=str(root))
            ended = await agent.ask("get_indexing_status", job_id=job["job_id"], wait_seconds=45)
            assert (ended["status"], ended["repo_path"]) == ("completed", str(root))
            assert agent.progress
            found = await agent.ask("search_code", query=QUESTION, repo_path=str(root))
            best = found["results"][0]
            assert (best["path"], best["symbol"], best["start_line"]) == ("retries.py", "delay_before_retry", 1)
            assert (found["index_state"], found["coverage"]) == ("complete", 1.0)

    with new_home(tmp_path / "home") as own:
        talk(conversation)


def test_a_job_outlives_a_client_and_a_shim_that_are_killed(tmp_path: Path) -> None:
    """kill -9 of the shim's group while a call waits: the job completes, and a later client finds it (R62, R33)."""
    root = tmp_path / "large"
    generate(root, FILES)

    slow = OllamaStandin(Settings(passage_delay=0.2, parallel=1))
    settings = {"PENSTOCK_EMBEDDER": "ollama", "OLLAMA_EMBEDDING_MODEL": "nomic-embed-text", "OLLAMA_BATCH_SIZE": "4"}

    async def first() -> None:
        with pytest.raises(BaseExceptionGroup) as fallen:
            await _start_and_kill(own, root)
        assert fallen.group_contains(Exception)

    async def second() -> None:
        async with connected(shim(own.environment)) as agent:
            [job] = (await agent.ask("list_background_jobs", path_prefix=str(root)))["jobs"]
            assert job["status"] == "running", "it goes on without anybody who asked for it"
            slow.configure(Settings())
            ended = await agent.ask("get_indexing_status", job_id=job["job_id"], wait_seconds=45, detail=True)
            assert (ended["status"], ended["files_indexed"]) == ("completed", FILES)

    with slow, new_home(tmp_path / "home", OLLAMA_HOST=slow.url, **settings) as own:
        talk(first)
        talk(second)


async def _start_and_kill(home: Home, root: Path) -> None:
    async with connected(shim(home.environment)) as agent, asyncio.TaskGroup() as tasks:
        job = await agent.ask("start_indexing_background", repo_path=str(root))
        tasks.create_task(agent.call("get_indexing_status", job_id=job["job_id"], wait_seconds=45))
        await asyncio.to_thread(eventually, lambda: any(percent > 0 for percent, _ in agent.progress))
        for child in psutil.Process().children():
            if "mcp" in child.cmdline():
                assert os.getpgid(child.pid) == child.pid, "the client made it a group, as many do"
                os.killpg(child.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Site:
    """A shim over HTTP."""

    port: int

    @property
    def url(self) -> str:
        """Where agents find it."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def status(self, **headers: str) -> int:
        """Say hello with these headers beside the usual ones, and return the status of the answer."""
        usual = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO})
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/mcp", body, usual | headers)
        status = connection.getresponse().status
        connection.close()
        return status


@contextmanager
def site(environment: Mapping[str, str]) -> Iterator[Site]:
    """Yield a shim over HTTP on a free port, which its log names; it is asked to end at the end, and does."""
    process = subprocess.Popen(
        [*PENSTOCK, "mcp", "--http", "--port", "0"],
        env=os.environ | environment | {"PENSTOCK_LOG_FORMAT": "json"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "mcp.listening" in line)
        yield Site(int(re.findall(r":(\d+)/mcp", line)[0]))
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_two_clients_of_both_eras_share_a_shim_over_http(home: Home, tmp_path: Path) -> None:
    """One server, a client that shakes hands and one that does not, each with its own job, at the same time (R61)."""

    async def errand(agent: Agent, name: str) -> str:
        root = repository(tmp_path / name, SOURCE | {f"{name}.py": f"def {name}():\n    return '{name}'\n"})
        job = await agent.ask("start_indexing_background", repo_path=str(root))
        ended = await agent.ask("get_indexing_status", job_id=job["job_id"], wait_seconds=45)
        found = await agent.ask("search_code", query=f"return {name}", repo_path=str(root), limit=1)
        assert (ended["status"], found["repository"]) == ("completed", str(root))
        return str(found["results"][0]["path"])

    async def conversation(url: str) -> None:
        async with connected(url) as modern, connected(url, "legacy") as legacy:
            versions = modern.client.protocol_version, legacy.client.protocol_version
            assert versions[0] > versions[1]
            hops, malt = await asyncio.gather(errand(modern, "hops"), errand(legacy, "malt"))
            assert (hops, malt) == ("hops.py", "malt.py")

    with site(home.environment) as place:
        talk(lambda: conversation(place.url))


def test_strangers_are_not_served_over_http(home: Home) -> None:
    """A request under another name, from another web site, or without the token that was set, is refused (R61)."""
    with site(home.environment) as place:
        assert place.status() == 200
        assert place.status(Host="evil.example") == 403
        assert place.status(Origin="http://evil.example") == 403
        assert place.status(Origin=f"http://127.0.0.1:{place.port}") == 200
    with site(home.environment | {"PENSTOCK_SERVE_TOKEN": TOKEN}) as place:
        assert place.status() == 401
        assert place.status(Authorization="Bearer wrong") == 401
        assert place.status(Authorization=f"Bearer {TOKEN}") == 200
        assert place.status(Authorization=f"Bearer {TOKEN}", Origin="http://evil.example") == 403


def test_without_a_token_it_listens_to_this_machine_only(home: Home) -> None:
    """An address that others can reach is refused until a token is set, in words that say so."""
    refused = _command(home, "mcp", "--http", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - it must be refused
    assert (refused.returncode, refused.stdout) == (Exit.VALIDATION, "")
    assert "set PENSTOCK_SERVE_TOKEN" in refused.stderr
    assert _command(home, "mcp", "--port", "1").returncode == Exit.VALIDATION


def _command(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*PENSTOCK, *arguments]
    return subprocess.run(
        command, env=os.environ | home.environment, capture_output=True, text=True, timeout=60, check=False
    )


STRAY: Final = """
import os, subprocess, sys
from ops.mcp_server import transports
from ops.mcp_server.wire import claim_stdio
from ops.settings import Settings
wire = claim_stdio()
print("a stray print", flush=True)
os.write(1, b"a stray write\\n")
subprocess.run(["echo", "a stray child"])
os.system("cat; echo what a child read from stdin ends here")
transports.serve_stdio(Settings.load(), wire)
print("a print at the end")
"""


def test_nothing_but_the_protocol_reaches_stdout(tmp_path: Path) -> None:
    """Prints and children write to stderr and cannot read the client's words; the end of stdin ends the shim (R61)."""
    requests: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": HELLO},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "list_repositories", "arguments": {}}},
    ]
    away = {"DATABASE_URL": f"postgresql://nobody@{NOBODY_LISTENS}/x", "PENSTOCK_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", STRAY],
        env=os.environ | away | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109 - where the tests are
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for request in requests:
        process.stdin.write(json.dumps({"jsonrpc": "2.0"} | request) + "\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    rest, said = process.communicate(timeout=30)
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["content"][0]["text"].startswith("DATABASE_ERROR: ")
    assert (process.returncode, rest) == (0, "")
    for stray in ("print", "write", "child"):
        assert f"a stray {stray}" in said
    assert "what a child read from stdin ends here" in said
    assert "a print at the end" in said
