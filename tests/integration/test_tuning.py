"""What is done after a job: vector indexes come and go, whoever dies meanwhile, and no answer is lost."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import text

from actors.tuner import Tuner
from ops import database
from pipeline import jobs, tuning
from pipeline.records import JobRequest
from pipeline.search import SearchRequest, search
from pipeline.states import Stage
from pipeline.store import lexicon, vectors
from pipeline.store.vectors import TuningRules
from tests.acceptance.working import eventually
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

LOW: Final = TuningRules(least_chunks=10)
FILES: Final = {
    f"src/part{n}.py": f'def step{n}(value):\n    """Move part {n} of the machine."""\n    return value * {n}\n'
    for n in range(24)
}
INDEXES: Final = "SELECT indexrelid::regclass::text, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
BUILDS: Final = "pg_stat_progress_create_index WHERE datname = current_database()"
BUILDER: Final = """
import sys
from pipeline import tuning
from pipeline.store.engine import connect
from pipeline.store.vectors import TuningRules
engine = connect(sys.argv[1])
session = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
print("ready", flush=True)
while tuning.tune(engine, session, TuningRules(least_chunks=10)):
    pass
"""


@pytest.fixture
def driver(engine: Engine, tmp_path: Path) -> Driver:
    """Return a driver that has indexed one repository of 24 chunks."""
    driver = Driver(engine)
    driver.index(write(tmp_path / "machine", FILES))
    return driver


def tune(engine: Engine, rules: TuningRules = LOW) -> list[str]:
    """Do all that is due, and return the steps."""
    with engine.connect().execution_options(isolation_level=tuning.AUTOCOMMIT) as session:
        session.detach()
        steps = []
        while done := tuning.tune(engine, session, rules):
            steps.append(done.step)
        return steps


def indexes(engine: Engine) -> dict[str, bool]:
    """Return the vector indexes, and whether each is valid."""
    with engine.connect() as connection:
        rows = connection.execute(text(f"{INDEXES} WHERE relname LIKE 'ix_chunks_vectors%'")).all()
    return {name.removeprefix("penstock."): valid for name, valid in rows}


@contextmanager
def reader(engine: Engine) -> Iterator[None]:
    """Hold a snapshot, for whose end every build that goes on beside its users waits."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SELECT count(*) FROM penstock.chunks"))
        yield


def waits(engine: Engine) -> bool:
    """Return whether a build has begun and waits for a reader."""
    with engine.connect() as connection:
        waiting = f"SELECT EXISTS (SELECT FROM {BUILDS} AND phase LIKE 'waiting%')"  # noqa: S608 - constants only
        return bool(connection.execute(text(waiting)).scalar_one())


def test_a_job_is_followed_by_an_index_and_a_no_op_by_nothing(driver: Driver, tmp_path: Path) -> None:
    """Statistics and index are made once, and not again where nothing has changed (R72)."""
    assert tune(driver.engine) == ["refresh", "build"]
    assert indexes(driver.engine) == {"ix_chunks_vectors_1_1": True}

    driver.index(tmp_path / "machine")

    assert tune(driver.engine) == []


def test_a_small_repository_gets_no_index(driver: Driver) -> None:
    """Below the threshold an exact scan is quick enough."""
    assert tune(driver.engine, TuningRules(least_chunks=25)) == ["refresh"]
    assert indexes(driver.engine) == {}


def test_nothing_is_built_while_a_job_writes(driver: Driver, tmp_path: Path) -> None:
    """A first load is not slowed by its own index."""
    write(tmp_path / "machine", {"more.py": "def more():\n    pass\n"})
    driver.begin(tmp_path / "machine")
    assert tune(driver.engine) == []

    driver.drain()

    assert tune(driver.engine) == ["refresh", "build"]


def test_a_job_that_rewrites_much_drops_the_index_first(driver: Driver, tmp_path: Path) -> None:
    """Inserts into a graph are slow; the index is built anew after the job."""
    tune(driver.engine)
    jobs.submit(driver.office, JobRequest(repo_path=str(tmp_path / "machine"), force_reindex=True))
    driver.drain(Stage.SCAN, Stage.CHUNK)
    assert tune(driver.engine) == ["drop"]

    driver.drain()

    assert tune(driver.engine) == ["refresh", "build"]


def test_a_small_change_keeps_the_index(driver: Driver, tmp_path: Path) -> None:
    """A new chunk is in the index with its commit, and is found by it (R72)."""
    tune(driver.engine)
    write(tmp_path / "machine", {"brew.py": "def brew(malt):\n    return malt\n"})
    job = driver.begin(tmp_path / "machine")
    driver.drain(Stage.SCAN, Stage.CHUNK)
    assert tune(driver.engine) == []

    driver.drain()

    assert tune(driver.engine) == []
    assert jobs.status(driver.engine, job).status == "completed"
    hits = search(driver.engine, driver.bench.embedder_for, SearchRequest("brew malt")).results
    assert hits[0].path == "brew.py"


def test_a_search_finds_the_same_with_and_without_the_index(driver: Driver) -> None:
    """The index is a way to the answer and not another answer (R52)."""
    request = SearchRequest("move part 7 of the machine")
    tune(driver.engine, TuningRules(least_chunks=25))
    plain = search(driver.engine, driver.bench.embedder_for, request)
    tune(driver.engine)

    assert search(driver.engine, driver.bench.embedder_for, request) == plain


def test_a_removed_repository_takes_its_index_along(driver: Driver, tmp_path: Path) -> None:
    """The index goes with the repository, also while others search."""
    tune(driver.engine)

    jobs.remove(driver.office, "default", str(tmp_path / "machine"))

    assert indexes(driver.engine) == {}


def test_what_a_removal_could_not_drop_is_dropped_by_the_workers(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal does not wait for a long reader; the next tuning tidies up."""
    tune(driver.engine)
    with reader(driver.engine):
        monkeypatch.setattr(tuning, "PATIENCE", "10ms")
        jobs.remove(driver.office, "default", str(tmp_path / "machine"))
        assert list(indexes(driver.engine)) == ["ix_chunks_vectors_1_1"]

    assert tune(driver.engine) == ["drop"]
    assert indexes(driver.engine) == {}


def test_a_new_model_gets_an_index_of_its_own(driver: Driver, tmp_path: Path) -> None:
    """The index of vectors that are gone is dropped (R50)."""
    tune(driver.engine)
    other = Driver(driver.engine, embedder=WilfulEmbedder(model="other", dimension=64))
    other.index(tmp_path / "machine")

    assert tune(driver.engine) == ["drop", "refresh", "build"]
    assert indexes(driver.engine) == {"ix_chunks_vectors_1_2": True}


def test_a_kill_in_the_middle_of_a_build_loses_nothing(driver: Driver, database_url: str) -> None:
    """The server goes on for a client that was killed, and nobody builds the same beside it (R33)."""
    with reader(driver.engine):
        builder = subprocess.Popen([sys.executable, "-c", BUILDER, database_url], stdout=subprocess.PIPE)
        eventually(lambda: waits(driver.engine))
        builder.kill()
        builder.communicate()
        assert tune(driver.engine) == []
        with driver.engine.connect() as connection:
            assert vectors.under_way(connection)

    eventually(lambda: indexes(driver.engine) == {"ix_chunks_vectors_1_1": True})
    assert tune(driver.engine) == []


def test_a_build_that_the_server_ended_is_begun_again(driver: Driver, database_url: str) -> None:
    """What a crash leaves is invalid: no search uses it, and the next tuning builds it anew (R33)."""
    with reader(driver.engine):
        builder = subprocess.Popen([sys.executable, "-c", BUILDER, database_url], stderr=subprocess.PIPE)
        eventually(lambda: waits(driver.engine))
        with driver.engine.begin() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM {BUILDS}"))  # noqa: S608 - constants only
        builder.communicate()
    assert indexes(driver.engine) == {"ix_chunks_vectors_1_1": False}
    with driver.engine.connect() as connection:
        assert vectors.indexed(connection, [1], 1) == {}

    assert tune(driver.engine) == ["drop", "build"]
    assert indexes(driver.engine) == {"ix_chunks_vectors_1_1": True}


class Leader:
    """Stands for the broker of the process that leads."""

    leader = True


def test_the_tuner_follows_a_job_and_ends_in_the_middle_of_a_build(driver: Driver) -> None:
    """Told to end, it has the server cancel the build, and leaves within its grace (R33)."""
    with reader(driver.engine):
        tuner = Tuner(Leader(), driver.engine, LOW)  # type: ignore[arg-type]
        tuner.start()
        eventually(lambda: waits(driver.engine))
        tuner.end()
        assert not tuner.is_alive()
    assert indexes(driver.engine) == {"ix_chunks_vectors_1_1": False}

    again = Tuner(Leader(), driver.engine, LOW)  # type: ignore[arg-type]
    again.start()
    eventually(lambda: indexes(driver.engine) == {"ix_chunks_vectors_1_1": True})
    again.end()


def test_two_builders_take_turns(driver: Driver) -> None:
    """Who finds the right to tune taken leaves; PostgreSQL builds one index of a table at a time anyway."""
    steps: list[str] = []
    threads = [Thread(target=lambda: steps.extend(tune(driver.engine))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(steps + tune(driver.engine)) == ["build", "refresh"]


def test_the_statistics_of_words_are_counted_after_a_job(driver: Driver) -> None:
    """A word of many chunks is known to be common once the job is done."""
    tune(driver.engine)
    with driver.engine.connect() as connection:
        assert lexicon.look_up(connection, [1], ["machine"]) == [("machin", [1], len(FILES))]


def test_a_downgrade_takes_the_indexes_along_and_an_upgrade_counts_anew(driver: Driver, database_url: str) -> None:
    """Repositories keep their chunks; totals are counted, and the workers build the indexes again (R74)."""
    tune(driver.engine)

    database.downgrade(database_url, "0003")
    assert indexes(driver.engine) == {}
    database.upgrade(database_url)

    with driver.engine.connect() as connection:
        row = connection.execute(text("SELECT files, chunks FROM penstock.repositories")).one()
    assert tuple(row) == (len(FILES), len(FILES))
    assert tune(driver.engine) == ["refresh", "build"]
