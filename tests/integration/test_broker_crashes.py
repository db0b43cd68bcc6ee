"""The broker beside real processes that are killed, and a real server that is."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import make_url, text

from ops import database, postgres
from pipeline.states import Stage
from pipeline.store import workers
from pipeline.store.engine import connect
from tests.integration.broker_actors import EFFECTS
from tests.integration.broker_tools import SOON, execute, send, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

CHECKOUT: Final = Path(__file__).parents[2]
RELAYS: Final = 1_000
"""Each is handed on through four stages: four times the messages of a job of 15,000 files, which has 240 batches."""
LEADER: Final = text("""
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = CAST(x'706e7374'::integer AS oid) AND objid = 0
  AND datname = current_database() AND pg_locks.database = pg_stat_activity.datid
""")
LEFT: Final = text("""
SELECT (SELECT count(*) FROM dramatiq.queue), (SELECT count(*) FROM penstock.workers),
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'worker %'),
       (SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
        WHERE l.locktype = 'advisory' AND d.datname = current_database())
""")


class Worker:
    """A worker process."""

    def __init__(self, engine: Engine, threads: int, stale: int) -> None:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        command = [sys.executable, "-m", "tests.integration.broker_actors", url, f"--threads={threads}"]
        command += [f"--stale={stale}"]
        self.process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)

    @property
    def name(self) -> str:
        """The name of its sessions."""
        return f"worker {self.process.pid}"

    def says(self, word: str) -> None:
        """Wait until it says the word."""
        assert self.process.stdout is not None
        assert word in (line.strip() for line in self.process.stdout)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        with self.process:
            self.process.kill()

    def end(self) -> int:
        """End it as an operator does, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SOON)


@contextmanager
def working(
    engine: Engine, count: int = 1, *, threads: int = 1, stale: int = workers.STALE_SECONDS
) -> Iterator[list[Worker]]:
    """Yield running worker processes; those that are left are killed at the end."""
    workers = [Worker(engine, threads, stale) for _ in range(count)]
    try:
        for worker in workers:
            worker.says("ready")
        yield workers
    finally:
        for worker in workers:
            worker.kill()


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """Return the engine of a database with a table for the effects."""
    execute(engine, EFFECTS)
    return engine


def effects(engine: Engine) -> dict[str, int]:
    """Return the deliveries with which each subject had its effect; an effect that came twice fails."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT stage || ' ' || subject, deliveries FROM effects")).all()
    assert max(Counter(key for key, _ in rows).values(), default=1) == 1
    return {str(key): int(deliveries) for key, deliveries in rows}


def left(engine: Engine) -> Sequence[int]:
    """Return what is left: messages, workers, their sessions, and advisory locks."""
    with engine.connect() as connection:
        return tuple(connection.execute(LEFT).one())


def test_a_killed_worker_gives_its_message_back(shop: Engine) -> None:
    """A kill -9 within the open transaction: it is rolled back, and another worker does it, within 10 s (R33)."""
    with working(shop) as (first,):
        send(shop, Stage.SCAN, "hang")
        first.says("hanging")
        with working(shop):
            first.kill()
            killed = monotonic()
            assert until(lambda: effects(shop)) == {"scan hang": 2}
            assert monotonic() - killed < 10


def test_a_message_that_kills_its_worker_takes_no_bystander(shop: Engine) -> None:
    """Only the poisonous message's deliveries are counted; those that were waiting stay as they were (R34)."""
    bystanders = [f"plain {number}" for number in range(20)]
    send(shop, Stage.SCAN, *bystanders[:10], "kill", *bystanders[10:])
    with working(shop, stale=1) as (victim,):
        assert victim.process.wait(SOON) == -signal.SIGKILL
    with working(shop, stale=1):
        until(lambda: len(effects(shop)) == 21)
    assert effects(shop) == {"scan kill": 2} | dict.fromkeys((f"scan {name}" for name in bystanders), 1)


def test_a_hung_leader_is_given_up(shop: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still loses the lead and its waiting work; nobody waits for what it has locked (R33)."""
    monkeypatch.setattr(workers, "STALE_SECONDS", 1)
    monkeypatch.setattr(workers, "HUNG_SECONDS", 1)
    with working(shop, threads=2) as (hung,):
        send(shop, Stage.SCAN, "hang 1", "hang 2")
        hung.says("hanging")
        hung.says("hanging")
        assert until(lambda: leader(shop)) == hung.name
        hung.process.send_signal(signal.SIGSTOP)
        until(lambda: reap(shop))
        assert until(lambda: leader(shop) is None)
        with working(shop):
            until(lambda: len(effects(shop)) == 2)


def reap(engine: Engine) -> int:
    """Give back what dead processes hold, as every worker does all the time."""
    with engine.begin() as connection:
        return workers.reap(connection)


def leader(engine: Engine) -> str | None:
    """Return the name of the caretaker's sessions."""
    with engine.connect() as connection:
        return connection.scalars(LEADER).one_or_none()


def test_the_lead_moves_when_the_leader_is_killed(shop: Engine) -> None:
    """One process is the caretaker, and after its death another."""
    with working(shop, 2) as workers:
        first = until(lambda: leader(shop))
        (victim,) = (worker for worker in workers if worker.name == first)
        (other,) = (worker for worker in workers if worker.name != first)
        victim.kill()
        assert until(lambda: (now := leader(shop)) != first and now) == other.name


def test_thousands_of_messages_are_done_once_and_nothing_is_left(shop: Engine) -> None:
    """Two processes drain 4,000 messages, and leave neither message, lock, session nor worker behind (R33, R70)."""
    send(shop, Stage.SCAN, *(f"relay {number}" for number in range(RELAYS)))
    with working(shop, 2, threads=2) as workers:
        until(lambda: left(shop)[0] == 0)
        assert [worker.end() for worker in workers] == [0, 0]
    assert effects(shop) == {f"{stage} relay {number}": 1 for stage in Stage for number in range(RELAYS)}
    assert until(lambda: left(shop) == (0, 0, 0, 0))


def test_a_restart_of_the_server_loses_nothing(own_server: Path) -> None:
    """After an immediate stop of PostgreSQL the work goes on within 10 s; each effect comes once (R33)."""
    engine = connect(make_url(postgres.ensure(own_server)).render_as_string(hide_password=False))
    database.upgrade(postgres.ensure(own_server))
    execute(engine, EFFECTS)
    send(engine, Stage.SCAN, *(f"relay {number}" for number in range(500)))
    with working(engine, 2, threads=2) as workers:
        until(lambda: len(effects(engine)) > 200)
        postgres.stop(own_server, "immediate")
        postgres.ensure(own_server)
        before = until(lambda: len(effects(engine)))
        restarted = monotonic()
        until(lambda: len(effects(engine)) > before)
        assert monotonic() - restarted < 10
        until(lambda: left(engine)[0] == 0)
        assert [worker.end() for worker in workers] == [0, 0]
    assert len(effects(engine)) == 500 * len(Stage)
    engine.dispose()


@pytest.fixture
def own_server() -> Iterator[Path]:
    """Yield the home of a server that this test may crash."""
    with tempfile.TemporaryDirectory(prefix="penstock-crash-") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        yield home
        postgres.stop(home, "immediate")
