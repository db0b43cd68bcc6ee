"""The embedded server: made once, shared by all, and back with its data after every crash."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import psycopg
import pytest

from ops import cluster, postgres
from pipeline.errors import DatabaseError
from tests.acceptance.working import alive, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT: Final = Path(__file__).parents[2]
NOBODY: Final = pwd.getpwnam("nobody")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Yield a home that has no server yet; the one that a test starts there is stopped."""
    with _ended(tmp_path / "home") as home:
        yield home


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a home with a running server, for the tests that only look."""
    with _ended(tmp_path_factory.mktemp("shared")) as home:
        postgres.ensure(home)
        yield home


@contextmanager
def _ended(home: Path) -> Iterator[Path]:
    """Stop the server under `home` whatever happens."""
    try:
        yield home
    finally:
        postgres.stop(home, "immediate")


# --- crashes ----------------------------------------------------------------------------------------------------------


def _kill_the_postmaster(home: Path) -> None:
    os.kill(_postmaster(home), signal.SIGKILL)


def _kill_every_process(home: Path) -> None:
    postmaster = psutil.Process(_postmaster(home))
    for process in [postmaster, *postmaster.children()]:
        process.kill()


def _stop_immediately(home: Path) -> None:
    postgres.stop(home, "immediate")


def _kill_and_give_its_number_to_a_stranger(home: Path) -> None:
    _kill_every_process(home)
    lock = home / "postgres" / "postmaster.pid"
    lines = lock.read_text().splitlines(keepends=True)
    lock.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))


@pytest.mark.parametrize(
    "crash",
    [_kill_the_postmaster, _kill_every_process, _stop_immediately, _kill_and_give_its_number_to_a_stranger],
)
def test_the_server_comes_back_with_what_was_committed(crash: Callable[[Path], None], home: Path) -> None:
    """After a crash of any kind the next command finds every committed row, sessions and stale locks or not (R33)."""
    url = postgres.ensure(home)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    with closing(psycopg.connect(url)) as busy:
        busy.execute("INSERT INTO kept VALUES (0)")  # never committed

        crash(home)
        postgres.ensure(home)

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*), min(n) FROM kept").fetchone() == (1000, 1)


def test_a_killed_setup_is_begun_anew(home: Path) -> None:
    """What a killed initdb left is thrown away, never taken for a cluster."""
    half_made = home / "postgres.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")

    postgres.ensure(home)

    assert postgres.running(home)
    assert not half_made.exists()


def test_a_setup_whose_process_is_killed_is_waited_for(home: Path) -> None:
    """Its `initdb` goes on writing for a moment: nobody begins anew, or calls the home quiet, before it ended."""
    program = "import sys, pathlib, ops.postgres; ops.postgres.ensure(pathlib.Path(sys.argv[1]))"
    starter = subprocess.Popen([sys.executable, "-c", program, str(home)], cwd=CHECKOUT)
    eventually((home / "postgres.new" / "PG_VERSION").exists)
    (setup,) = psutil.Process(starter.pid).children()
    setup.suspend()
    starter.kill()
    starter.wait()

    with ThreadPoolExecutor() as threads:
        stopping = threads.submit(postgres.stop, home)
        try:
            assert not wait([stopping], timeout=0.5).done
        finally:
            setup.resume()
        assert stopping.result() is False

    eventually(lambda: not alive(setup.pid))  # it lets the lock go a moment before its end
    assert postgres.ensure(home)
    assert postgres.stop(home) is True


# --- one server for all -----------------------------------------------------------------------------------------------


def test_eight_processes_at_once_get_one_server(home: Path) -> None:
    """Whoever comes first makes and starts it; it outlives them all."""
    program = "import sys, pathlib, ops.postgres; print(ops.postgres.ensure(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", program, str(home)]
    starters = [subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) for _ in range(8)]

    urls = {starter.communicate(timeout=60)[0].strip() for starter in starters}

    assert [starter.returncode for starter in starters] == [0] * 8
    assert urls == {postgres.ensure(home)}
    assert (home / "postgres" / "log").read_text().count("starting PostgreSQL") == 1


def test_a_server_that_answers_costs_no_lock(shared_home: Path) -> None:
    """The fast path waits for nobody, not even for a process that hangs with the lock in its hands."""
    with (shared_home / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert postgres.ensure(shared_home).startswith("postgresql://")


def test_a_full_server_is_still_a_running_one(home: Path) -> None:
    """A server without a free connection answers; it is neither waited for nor started a second time."""
    with psycopg.connect(postgres.ensure(home), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_connections = 4")
        connection.execute("ALTER SYSTEM SET superuser_reserved_connections = 0")
    postgres.stop(home)
    url = postgres.ensure(home)
    before = _postmaster(home)

    with ExitStack() as sessions:
        for _ in range(4):
            sessions.enter_context(psycopg.connect(url))
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(url)

        assert postgres.ensure(home) == url
        assert _postmaster(home) == before


def test_a_server_that_cannot_be_seen_is_not_joined_by_a_second(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home shared with another container, whose processes have no numbers here, is not opened twice."""
    url = postgres.ensure(home)
    with monkeypatch.context() as blind:
        blind.setattr(psutil, "process_iter", lambda _facts: iter(()))
        blind.setattr(cluster.Cluster, "owns_sockets", lambda _cluster: False)
        with pytest.raises(DatabaseError, match="cannot see"):
            postgres.ensure(home)

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_stopping_is_final_and_may_be_repeated(home: Path) -> None:
    """`stop` ends the server, and leaves one that is down or was never made alone."""
    postgres.stop(home)
    assert not home.exists()

    postgres.ensure(home)
    assert postgres.running(home)
    postgres.stop(home)
    postgres.stop(home)

    assert not postgres.running(home)


# --- wherever and whoever ---------------------------------------------------------------------------------------------


def test_a_home_that_only_its_owner_can_enter_serves(tmp_path: Path) -> None:
    """As root, the server's own account needs no way into a closed folder, such as /root."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with _ended(closed / "home") as home, psycopg.connect(postgres.ensure(home)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_normal_user_serves_itself() -> None:
    """Without root's rights the server runs under the caller's own account."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, _ended(Path(folder) / "home") as home:
        owner = os.geteuid() or NOBODY.pw_uid
        os.chown(folder, owner, -1)

        child = multiprocessing.get_context("fork").Process(target=_serve_as_a_normal_user, args=(home,))
        child.start()
        child.join(60)

        assert child.exitcode == 0
        assert psutil.Process(_postmaster(home)).uids().real == owner


def _serve_as_a_normal_user(home: Path) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY.pw_gid)
        os.setuid(NOBODY.pw_uid)
    with psycopg.connect(postgres.ensure(home)) as connection:
        connection.execute("SELECT 1")


@pytest.mark.parametrize("name", ["deep/" * 40 + "home", "with space, comma, 100% and é"])
def test_any_path_may_be_the_home(name: str, tmp_path: Path) -> None:
    """A path too long for a socket (107 bytes), or with characters that URLs and settings treat apart, serves too."""
    with _ended(tmp_path / name) as home, psycopg.connect(postgres.ensure(home)) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("penstock",)

    assert not cluster.Cluster(home).sockets.exists()


def test_the_variables_of_another_postgresql_lead_nobody_astray(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PGPORT and PGDATA in the environment belong to a server that is not ours."""
    monkeypatch.setenv("PGPORT", "5999")
    monkeypatch.setenv("PGDATA", "/nowhere")

    with psycopg.connect(postgres.ensure(home)) as connection:
        assert connection.execute("SELECT current_setting('port')").fetchone() == ("5432",)


def test_programs_that_the_account_cannot_reach_are_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's packages may lie in a closed folder; the server's account then runs a copy."""
    package = tmp_path / "closed" / "wheel"
    original = package / cluster.RELEASE / "bin"
    original.mkdir(parents=True)
    (original / "postgres").write_text("#!/bin/sh\n")
    (tmp_path / "closed" / "wheel.libs").mkdir()
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setattr(cluster, "_wheel_folder", lambda: package)
    monkeypatch.setattr(cluster, "CACHE", tmp_path / "cache")
    stranger = cluster.Account(uid=54321, gid=54321)

    copy = cluster.programs(stranger)

    assert copy.is_relative_to(tmp_path / "cache")
    assert (copy / "postgres").read_text() == "#!/bin/sh\n"
    assert (copy / "../../../wheel.libs").is_dir()
    assert cluster.programs(stranger) == copy
    assert cluster.programs(None) == original


# --- settings and errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_no_speed_is_bought_with_committed_data(setting: str, shared_home: Path) -> None:
    """What keeps a commit through a power cut stays on; checkpoints ask for less in their own transactions."""
    with psycopg.connect(postgres.ensure(shared_home)) as connection:
        assert connection.execute("SELECT current_setting(%s)", (setting,)).fetchone() == ("on",)


def test_the_server_listens_on_its_socket_only(shared_home: Path) -> None:
    """Nobody reaches the database over the network, and no other account over the socket's folder."""
    with psycopg.connect(postgres.ensure(shared_home)) as connection:
        assert connection.execute("SELECT current_setting('listen_addresses')").fetchone() == ("",)

    assert cluster.Cluster(shared_home).sockets.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("memory", [256 * cluster.MIB, 2**35])
def test_the_memory_settings_keep_within_their_bounds(memory: int) -> None:
    """A small machine is not promised away, and a large one makes no process exceed 400 MB (R70)."""
    settings = cluster.tuning(memory, shared_memory=64 * cluster.MIB)

    assert 64 <= int(settings["shared_buffers"].removesuffix("MB")) <= 256
    assert 64 <= int(settings["maintenance_work_mem"].removesuffix("MB")) <= 512
    assert settings["dynamic_shared_memory_type"] == "mmap"


def test_a_failing_start_shows_the_server_s_own_words(home: Path) -> None:
    """The error holds the end of the server's log."""
    postgres.ensure(home)
    postgres.stop(home)
    with (home / "postgres" / "postgresql.conf").open("a") as configuration:
        configuration.write("shared_preload_libraries = 'no_such_library'\n")

    with pytest.raises(DatabaseError, match="no_such_library"):
        postgres.ensure(home)


def test_a_home_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    """A file where the folder should be ends in an error that names PENSTOCK_HOME."""
    (tmp_path / "file").touch()

    with pytest.raises(DatabaseError, match="PENSTOCK_HOME"):
        postgres.ensure(tmp_path / "file" / "home")


def test_a_socket_folder_of_somebody_else_is_not_trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another account put up under /tmp before us is refused, not connected to."""
    planted = home.parent / "planted"
    planted.symlink_to(home.parent)
    monkeypatch.setattr(cluster.Cluster, "sockets", planted)

    with pytest.raises(DatabaseError, match="belongs to somebody else"):
        postgres.ensure(home)


def _postmaster(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().split()[0])
