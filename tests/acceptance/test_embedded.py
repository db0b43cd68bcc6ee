"""The embedded mode as a newcomer meets it: one command, in a home of its own, from a folder that would mislead it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import psutil
import pytest

from ops import postgres
from ops.cli.exits import Exit
from ops.cluster import Cluster
from ops.processes import GRACE
from pipeline import jobs
from pipeline.errors import DatabaseError
from pipeline.records import Job, SearchResults
from pipeline.states import TERMINAL, JobStatus
from pipeline.store.engine import connect
from tests.acceptance.working import PENSTOCK, alive, eventually
from tests.ollama_standin import OllamaStandin, Settings
from tests.repositories import add_oddities, add_symlink_loop, generate, git, listed_by_git, repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

T = TypeVar("T")
SEEDS: Final = count(1)
"""One a tree: what was embedded for another would not be asked for again."""
SOURCE: Final = {
    "retries.py": (
        'def delay_before_retry(attempt):\n    """Seconds to wait before an attempt is made again."""\n'
        "    return 2**attempt\n"
    ),
    "brewing.md": "# A brewery\n\nHow beer is made: malt, hops, yeast and water.\n",
}
FILES: Final = 240
"""Four batches: enough that one is written while others are on their way."""
BRISK: Final = Settings(passage_delay=0.005)
DRAGGING: Final = Settings(request_delay=1)
"""A dozen requests are left when the first batch is written; two at once, they take longer than any disturbance."""


class Newcomer:
    """Somebody who runs commands in a folder whose packages have the names of ours.

    The jobs that are to be disturbed embed with the stand-in: how long they last is then for the test to say, not for
    the speed of the machine and the size of a tree.
    """

    def __init__(self, folder: Path, standin: OllamaStandin | None = None) -> None:
        self.home = folder / "home"
        self.here = folder / ".hidden" / "hostile"
        for package in ("ops", "pipeline", "actors", "migrations"):
            (self.here / package).mkdir(parents=True)
            (self.here / package / "__init__.py").write_text("raise ImportError('not Penstock')\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK")}
        self.environment = kept | {"PENSTOCK_HOME": str(self.home)}
        self.standin = standin
        if standin is not None:
            self.environment["OLLAMA_HOST"] = standin.url

    def start(self, *arguments: str, embedder: str = "local") -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [*PENSTOCK, *arguments],
            cwd=self.here,
            env=self.environment | {"PENSTOCK_EMBEDDER": embedder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = Exit.OK, embedder: str = "local") -> str:
        """Run a command to its end, check its exit code and return what it printed."""
        process = self.start(*arguments, embedder=embedder)
        printed, said = process.communicate(timeout=100)
        assert process.returncode == code, f"{printed}\n{said}"
        return printed

    def index(self, root: Path, *options: str) -> Job:
        """Index a repository in the foreground and return its job."""
        return Job.model_validate_json(self.run("index", str(root), "--json", *options))

    def begin(self, root: Path) -> UUID:
        """Submit a repository of FILES files; return the job's id once it is being worked on, and goes on slowly."""
        job_id = self.submit(root, BRISK)
        eventually(lambda: (job := self.job(job_id)) and job.files_indexed)
        self.embed(DRAGGING)
        return job_id

    def submit(self, root: Path, pace: Settings) -> UUID:
        """Submit a repository of FILES new files, to be embedded at some pace, and return the job's id."""
        generate(root, FILES, seed=next(SEEDS))
        self.embed(pace)
        begun = json.loads(self.run("index", str(root), "--background", "--json", embedder="ollama"))
        return UUID(begun["job_id"])

    def embed(self, pace: Settings) -> None:
        """Have passages embedded at some pace from now on."""
        assert self.standin is not None
        self.standin.configure(pace)

    def ask(self, question: Callable[[Engine], T]) -> T | None:
        """Ask the database without a command that would start what is down; None when the server does not answer."""
        engine = connect(Cluster(self.home.resolve()).url, pool_size=1)
        try:
            return question(engine)
        except DatabaseError:
            return None
        finally:
            engine.dispose()

    def job(self, job_id: UUID) -> Job | None:
        """Return a job; None when the server does not answer."""
        return self.ask(lambda engine: jobs.status(engine, job_id))

    def finished(self, job_id: UUID) -> Job:
        """Have a job embedded as fast as can be, wait for its end and return it."""
        self.embed(Settings())
        job = eventually(lambda: job if (job := self.job(job_id)) and job.status in TERMINAL else None)
        assert job is not None
        return job

    def workers(self) -> set[int]:
        """Return the worker processes that count as alive."""
        return {worker.pid for worker in self.ask(jobs.online) or ()}

    def supervisor(self) -> int:
        """Return the pid of the supervisor."""
        return int((self.home / "supervisor.lock").read_text())

    def server(self) -> int:
        """Return the pid of the embedded server."""
        return int((self.home / "postgres" / "postmaster.pid").read_text().split()[0])

    def owns(self, process: psutil.Process) -> bool:
        """Tell whether a process is a server of this home, or one that starts it."""
        return any(str(self.home) in word for word in process.info["cmdline"] or ())

    def told(self, event: str) -> list[dict[str, object]]:
        """Return the lines about an event that the supervisor and its workers logged."""
        printed = (self.home / "workers.log").read_text().splitlines()
        return [json.loads(line) for line in printed if f'"event": "{event}"' in line]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Yield a newcomer whose home does not exist yet; what the commands started is stopped at the end."""
    with OllamaStandin() as standin:
        newcomer = Newcomer(tmp_path_factory.mktemp("newcomer"), standin)
        yield newcomer
        newcomer.run("down")
        shutil.rmtree(newcomer.home)


def test_one_command_indexes_and_the_next_one_finds(newcomer: Newcomer, tmp_path: Path) -> None:
    """From nothing to a search answer: the server, the schema and the workers come up by themselves."""
    root = repository(tmp_path / ".cache" / "node_modules" / "shop", SOURCE)
    job = newcomer.index(root)
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, 2)
    printed = newcomer.run("search", "how long to wait before trying again", "--repo", str(root), "--json")
    found = SearchResults.model_validate_json(printed)
    assert (found.results[0].path, found.results[0].symbol) == ("retries.py", "delay_before_retry")
    assert (found.index_state, found.coverage) == ("complete", 1.0)


def test_the_counts_equal_git_minus_reasoned_skips(newcomer: Newcomer, tmp_path: Path) -> None:
    """Every path that git lists is indexed or has a skip with a reason, oddities included (R40, R41)."""
    root = tmp_path / "odd"
    generate(root, 150)
    git(root, "init", "--quiet")
    reasons = add_oddities(root)
    add_symlink_loop(root)
    job = newcomer.index(root)
    printed = json.loads(newcomer.run("status", str(job.job_id), "--files", "1000", "--json"))
    skipped = {note["path"] for note in printed["files"] if note["outcome"] == "skipped"}
    assert (job.status, job.files_failed) == (JobStatus.COMPLETED, 0)
    assert job.files_indexed == 150
    assert set(reasons) - {"pipe"} <= skipped, "git lists no named pipes"
    assert len(listed_by_git(root)) == job.files_indexed + job.files_skipped


def test_an_interrupted_command_leaves_a_job_that_goes_on(newcomer: Newcomer, tmp_path: Path) -> None:
    """Ctrl-C pauses the job and says how to go on; resumed, it completes (R60)."""
    root = tmp_path / "large"
    generate(root, FILES, seed=next(SEEDS))
    newcomer.embed(DRAGGING)
    process = newcomer.start("index", str(root), embedder="ollama")
    assert process.stderr is not None
    # Work is under way. Before, the command may still import, and Ctrl-C would hang coverage's tracer in its own lock.
    while not re.search(r"[1-9]\d* %", line := process.stderr.readline()):
        assert line, "the command ended early"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED, said
    assert "penstock resume" in said
    paused = json.loads(newcomer.run("jobs", "--status", "paused", "--json"))["jobs"][0]
    newcomer.embed(Settings())
    newcomer.run("resume", paused["job_id"])
    job = json.loads(newcomer.run("status", paused["job_id"], "--json"))
    assert (job["status"], job["files_indexed"]) == (JobStatus.COMPLETED, FILES)


def test_a_job_goes_on_when_everything_was_killed(newcomer: Newcomer, tmp_path: Path) -> None:
    """kill -9 of the supervisor and all its workers: the next command brings them back and the job completes (R33)."""
    root = tmp_path / "killed"
    job_id = newcomer.submit(root, DRAGGING)
    supervisor = psutil.Process(int((newcomer.home / "supervisor.lock").read_text()))
    eventually(lambda: len(supervisor.children()) > 1)
    for process in (supervisor, *supervisor.children()):
        process.kill()
    newcomer.embed(Settings())
    job = Job.model_validate_json(newcomer.run("index", str(root), "--json", embedder="ollama"))
    assert job.job_id == job_id, "the job ended before it could be disturbed"
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, FILES)


def test_a_killed_server_comes_back_without_a_command(newcomer: Newcomer, tmp_path: Path) -> None:
    """kill -9 of PostgreSQL under a running job: the supervisor starts it again, and the job completes (R33)."""
    job_id = newcomer.begin(tmp_path / "crashed")
    killed = newcomer.server()
    os.kill(killed, signal.SIGKILL)
    job = newcomer.finished(job_id)
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, FILES)
    assert newcomer.server() != killed
    assert newcomer.told("server.died")
    assert newcomer.told("server.started")


def test_a_killed_worker_is_replaced_under_its_supervisor(newcomer: Newcomer, tmp_path: Path) -> None:
    """kill -9 of every worker process of a running job: others take their places, and the job completes (R33)."""
    job_id = newcomer.begin(tmp_path / "orphaned")
    workers = newcomer.workers()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    job = newcomer.job(job_id)
    assert job is not None
    assert job.status == JobStatus.RUNNING, "the job ended before it could be disturbed"
    job = newcomer.finished(job_id)
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, FILES)
    eventually(lambda: len(newcomer.workers() - workers) == len(workers))


@contextmanager
def broken_server(newcomer: Newcomer) -> Iterator[None]:
    """Kill the server, and keep it from starting again for as long as this lasts."""
    configuration = newcomer.home / "postgres" / "postgresql.auto.conf"
    sound, refusals = configuration.read_text(), len(newcomer.told("server.refused"))
    with configuration.open("a") as file:
        file.write("this is no setting\n")
    os.kill(newcomer.server(), signal.SIGKILL)
    eventually(lambda: len(newcomer.told("server.refused")) > refusals)
    yield
    configuration.write_text(sound)


def test_a_server_that_cannot_start_is_tried_again(newcomer: Newcomer, tmp_path: Path) -> None:
    """The log says why it cannot; the supervisor stays, and the job completes once the fault is mended (R33)."""
    job_id = newcomer.begin(tmp_path / "broken")
    supervisor = newcomer.supervisor()
    with broken_server(newcomer):
        reason = newcomer.told("server.refused")[-1]["reason"]
    job = newcomer.finished(job_id)
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, FILES)
    assert newcomer.supervisor() == supervisor
    assert 'configuration file "postgresql.auto.conf" contains errors' in str(reason)


def test_workers_do_not_wait_for_a_server_that_is_gone(newcomer: Newcomer, tmp_path: Path) -> None:
    """`penstock down` without a server ends at once, for no batch can be ended; the job goes on later (R33)."""
    job_id = newcomer.begin(tmp_path / "deserted")
    with broken_server(newcomer):
        asked = time.monotonic()
        newcomer.run("down")
        assert time.monotonic() - asked < GRACE
    newcomer.run("up")
    assert newcomer.finished(job_id).files_indexed == FILES


def test_nobody_starts_a_server_that_was_stopped(newcomer: Newcomer, tmp_path: Path) -> None:
    """`penstock down` wins, also when the supervisor was about to start a server that had died."""
    job_id = newcomer.begin(tmp_path / "stopped")
    supervisor = newcomer.supervisor()
    os.kill(newcomer.server(), signal.SIGKILL)
    newcomer.run("down")
    eventually(lambda: not alive(supervisor))
    assert not postgres.running(newcomer.home)
    assert not [process for process in psutil.process_iter(["cmdline"]) if newcomer.owns(process)]
    newcomer.run("up")
    assert newcomer.finished(job_id).files_indexed == FILES


def test_what_nobody_needs_leaves_and_comes_back(tmp_path: Path) -> None:
    """After PENSTOCK_IDLE_SECONDS the workers and the server go; the next command finds all as it was."""
    newcomer = Newcomer(tmp_path)
    newcomer.environment["PENSTOCK_IDLE_SECONDS"] = "1"
    root = repository(tmp_path / "shop", SOURCE)
    assert newcomer.index(root).files_indexed == 2
    supervisor = int((newcomer.home / "supervisor.lock").read_text())
    eventually(lambda: not alive(supervisor), patience=20)
    assert not postgres.running(newcomer.home)
    assert newcomer.index(root).progress_message == "Up to date: 2 files unchanged"
    newcomer.run("down")


def test_a_supervisor_leaves_with_its_home(tmp_path: Path) -> None:
    """The folder is deleted under running workers: they go, and nothing is made in its place."""
    newcomer = Newcomer(tmp_path)
    newcomer.index(repository(tmp_path / "shop", SOURCE))
    server, supervisor = newcomer.server(), newcomer.supervisor()
    shutil.rmtree(newcomer.home)
    eventually(lambda: not alive(supervisor), patience=20)
    os.kill(server, signal.SIGQUIT)
    assert not newcomer.home.exists()


def test_the_console_script_is_installed() -> None:
    """`penstock` is the documented door, beside this very interpreter."""
    script = Path(sys.executable).parent / "penstock"
    assert subprocess.run([script, "--version"], check=True, capture_output=True).stdout
