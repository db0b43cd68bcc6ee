"""The life of a worker process: its place in the list, the lead, its service connection, and its idle hours."""

from __future__ import annotations

from threading import Event
from time import monotonic
from typing import TYPE_CHECKING

import dramatiq
import pytest
from sqlalchemy import event, make_url, text

from actors.broker import LeaseBroker
from pipeline.states import Stage
from pipeline.store import workers
from pipeline.store.engine import connect
from tests.integration.broker_tools import execute, rows, send, take, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

END_THE_SERVICE_CONNECTION = """
SELECT pg_terminate_backend(pid) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
WHERE d.datname = current_database() AND l.locktype = 'advisory'
"""


@pytest.fixture
def broker(engine: Engine) -> Iterator[LeaseBroker]:
    """Yield a broker with two threads."""
    broker = LeaseBroker(engine, stages=("write", "chunk"), threads=2, middleware=[])
    yield broker
    broker.close()


def test_exactly_one_process_leads(database_url: str) -> None:
    """One of two brokers is the caretaker; when it leaves, the other one is."""
    engines = [connect(database_url) for _ in range(2)]
    brokers = [LeaseBroker(engine, middleware=[]) for engine in engines]
    for broker in brokers:
        broker.consume("chunk")
    leader = until(lambda: next((broker for broker in brokers if broker.leader), None))
    (other,) = (broker for broker in brokers if broker is not leader)
    assert not other.leader
    leader.close()
    until(lambda: other.leader)
    other.close()
    for engine in engines:
        engine.dispose()


def test_a_process_given_up_for_dead_goes_on_under_a_new_id(engine: Engine, broker: LeaseBroker) -> None:
    """Its old claims are void, and it works on."""
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    old = broker.worker_id
    execute(engine, "DELETE FROM penstock.workers")
    until(lambda: broker.worker_id != old)
    until(lambda: rows(engine) == [("queued", 1, None)] or rows(engine)[0][2] == "its worker process died")
    assert not broker.execute(message.finish)
    assert take(broker, Stage.CHUNK).deliveries == 2


def test_the_service_connection_is_made_again(engine: Engine, broker: LeaseBroker) -> None:
    """A lost service connection costs neither the worker's id nor its claims."""
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    old = broker.worker_id
    until(lambda: broker.leader)
    execute(engine, END_THE_SERVICE_CONNECTION)
    until(lambda: not broker.leader)
    until(lambda: broker.leader)
    assert broker.worker_id == old
    assert broker.execute(message.finish)


def test_the_list_of_workers_tells_who_is_busy(engine: Engine, broker: LeaseBroker) -> None:
    """A process is listed while it lives, with what it serves and holds (R73)."""
    send(engine, Stage.CHUNK, "1")
    take(broker, Stage.CHUNK)
    with engine.connect() as connection:
        (worker,) = workers.listed(connection)
    assert (worker.worker_id, worker.stages, worker.threads, worker.busy) == (
        broker.worker_id,
        ("write", "chunk"),
        2,
        1,
    )
    broker.close()
    with engine.connect() as connection:
        assert workers.listed(connection) == ()


def test_an_idle_process_is_nearly_silent(database_url: str, server_url: str) -> None:
    """A process that serves four queues runs fewer than four statements a second, and leaves no connection behind."""
    quiet, watch = connect(database_url), connect(server_url)
    statements: list[str] = []
    event.listen(quiet, "before_cursor_execute", lambda *told: statements.append(told[2]))
    broker = LeaseBroker(quiet, threads=4)
    for stage in Stage:
        dramatiq.actor(lambda _subject: None, broker=broker, actor_name=stage, queue_name=stage)
    worker = dramatiq.Worker(broker, worker_threads=4)
    worker.start()
    until(lambda: len(statements) > 12)  # it has started, and goes its rounds
    before, began = len(statements), monotonic()
    Event().wait(5)
    rate = (len(statements) - before) / (monotonic() - began)
    worker.stop()
    broker.close()
    quiet.dispose()
    until(lambda: sessions(watch, database_url) == 0)
    watch.dispose()
    assert 0 < rate < 4


def sessions(engine: Engine, url: str) -> int:
    """Return how many sessions the database of `url` has."""
    count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name")
    with engine.connect() as connection:
        return int(connection.execute(count, {"name": make_url(url).database}).scalar_one())
