"""The broker within one process: sending, claiming, retrying, postponing, and what a lease guards."""

from __future__ import annotations

from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, cast
from uuid import UUID

import dramatiq
import pytest
from dramatiq.errors import QueueJoinTimeout
from dramatiq.middleware import CurrentMessage, Retries
from sqlalchemy import text

from actors.broker import LeaseBroker
from pipeline.errors import LeaseLost, ValidationError
from pipeline.states import Stage
from pipeline.store import messages, workers
from tests.integration.broker_tools import JOB, SOON, execute, rows, send, take, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from actors.lease import LeasedMessage


@pytest.fixture
def broker(engine: Engine) -> Iterator[LeaseBroker]:
    """Yield a broker with two threads, for which writing comes before chunking."""
    broker = LeaseBroker(engine, stages=("write", "chunk"), threads=2, middleware=[CurrentMessage(), Retries()])
    yield broker
    broker.close()


@pytest.fixture
def run(broker: LeaseBroker) -> Iterator[Callable[[], dramatiq.Worker]]:
    """Yield a function that starts a worker on the broker; it is stopped at the end."""
    started: list[dramatiq.Worker] = []

    def start() -> dramatiq.Worker:
        worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
        worker.start()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop()


# --- taking turns -----------------------------------------------------------------------------------------------------


def test_lanes_take_turns(engine: Engine, broker: LeaseBroker) -> None:
    """A job that has sent little does not wait for all that another has sent; each keeps its order (R16, R33)."""
    huge, small = UUID(int=1), UUID(int=2)
    send(engine, Stage.CHUNK, "a", "b", "c", "d", job_id=huge)
    send(engine, Stage.CHUNK, "y", "z", job_id=small)
    taken = [message.args[0] for _ in range(6) for message in broker.claim([Stage.CHUNK], 1)]
    assert taken == ["a", "y", "b", "z", "c", "d"]


def test_a_lane_that_is_not_due_gives_up_its_turn(engine: Engine, broker: LeaseBroker) -> None:
    """A job that waits for its embedding server does not hold up the others (R13, R16)."""
    send(engine, Stage.CHUNK, "later", job_id=UUID(int=1), delay=60)
    send(engine, Stage.CHUNK, "now", job_id=UUID(int=2))
    assert [message.args[0] for message in broker.claim([Stage.CHUNK], 2)] == ["now"]


def test_later_stages_go_before_any_lane(engine: Engine, broker: LeaseBroker) -> None:
    """What is in flight drains first, whoever's turn it is (R37)."""
    send(engine, Stage.WRITE, "written", job_id=UUID(int=1))
    send(engine, Stage.CHUNK, "chunked", job_id=UUID(int=2))
    for expected in ("written", "chunked"):
        assert [message.args[0] for message in broker.claim([Stage.WRITE, Stage.CHUNK], 1)] == [expected]


def test_two_consumers_share_a_lane_without_waiting_for_each_other(engine: Engine) -> None:
    """Rows that another process claims this moment are passed over."""
    send(engine, Stage.CHUNK, "a", "b", "c")
    with engine.begin() as first, engine.begin() as second:
        claims = [
            messages.claim(connection, [Stage.CHUNK], 2, worker) for worker, connection in enumerate((first, second))
        ]
    assert [len(claim) for claim in claims] == [2, 1]


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_rolled_back_transaction_sends_nothing(engine: Engine) -> None:
    """The message is part of the sender's transaction."""
    with engine.connect() as connection:
        messages.send(connection, Stage.CHUNK, "1", JOB)
        connection.rollback()
    assert rows(engine) == []


def test_sending_again_changes_nothing(engine: Engine, broker: LeaseBroker) -> None:
    """A message that waits or is worked on is not made a second time, so that a resume may send again (R33)."""
    send(engine, Stage.CHUNK, "1", "1")
    assert rows(engine) == [("queued", 0, None)]
    message = take(broker, Stage.CHUNK)
    send(engine, Stage.CHUNK, "1")
    assert rows(engine) == [("consumed", 1, None)]
    assert broker.execute(message.finish)


def test_sending_revives_a_rejected_message(engine: Engine, broker: LeaseBroker) -> None:
    """What was set aside is worked on again when it is sent again, with a fresh count of deliveries."""
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    broker.consume(Stage.CHUNK).nack(message)
    assert rows(engine) == [("rejected", 1, None)]
    send(engine, Stage.CHUNK, "1")
    assert rows(engine) == [("queued", 0, None)]


def test_a_message_sent_in_a_completing_transaction_may_be_its_own(engine: Engine, broker: LeaseBroker) -> None:
    """A stage may complete its message and send the same one afresh, in one transaction."""
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    with engine.begin() as connection:
        message.complete(connection)
        message.send(connection, Stage.CHUNK, "1", JOB)
    assert rows(engine) == [("queued", 0, None)]


@pytest.mark.parametrize("argument", ["a\0b", "a\ud800b"])
def test_arguments_that_cannot_be_stored_are_refused_at_once(broker: LeaseBroker, argument: str) -> None:
    """A NUL or a lone surrogate in an argument is the sender's error, not an endless retry (R41)."""
    actor = dramatiq.actor(lambda _argument: None, broker=broker, actor_name="any")
    began = monotonic()
    with pytest.raises(ValidationError, match="send an id"):
        actor.send(argument)
    assert monotonic() - began < 1


# --- running ----------------------------------------------------------------------------------------------------------


def test_ordinary_actors_work(broker: LeaseBroker, run: Callable[[], dramatiq.Worker]) -> None:
    """An actor's own send() and the broker's join() do what Dramatiq says of them."""
    seen: list[int] = []
    actor = dramatiq.actor(seen.append, broker=broker, actor_name="note")
    run()
    for number in range(20):
        actor.send(number)
    broker.join("default", timeout=10_000)
    assert sorted(seen) == list(range(20))


def test_join_gives_up_in_time_and_flush_drops_everything(broker: LeaseBroker) -> None:
    """join() raises after its time-out; a flushed queue is joined at once."""
    actor = dramatiq.actor(lambda: None, broker=broker, actor_name="never", queue_name="other")
    actor.send()
    with pytest.raises(QueueJoinTimeout):
        broker.join("other", timeout=50)
    broker.flush_all()
    broker.join("other", timeout=50)


def test_a_failed_attempt_is_made_again(broker: LeaseBroker, run: Callable[[], dramatiq.Worker]) -> None:
    """Dramatiq's retries pass through the lease; a retry is no crash, so its count of deliveries is fresh (R34)."""
    counts: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=1, max_backoff=1)
    def fails_twice() -> None:
        counts.append(cast("LeasedMessage", CurrentMessage.get_current_message()).deliveries)
        if len(counts) < 3:
            message = "a NUL \0 and a lone \ud800 are no reason to lose a message"
            raise RuntimeError(message)

    fails_twice.send()
    run()
    broker.join("default", timeout=10_000)
    assert counts == [1, 1, 1]


def test_an_exhausted_message_is_set_aside_with_its_reason(
    engine: Engine, broker: LeaseBroker, run: Callable[[], dramatiq.Worker]
) -> None:
    """NUL bytes and lone surrogates in an exception's text do not block the acknowledgement (R41)."""

    @dramatiq.actor(broker=broker, max_retries=0)
    def fails() -> None:
        message = "a \0 b \ud800 c"
        raise RuntimeError(message)

    fails.send()
    run()
    broker.join("default", timeout=10_000)
    ((state, _, error),) = rows(engine)
    assert state == "rejected"
    assert error is not None
    assert "RuntimeError" in error


def test_a_failure_without_retries_is_not_lost(engine: Engine) -> None:
    """Without Dramatiq's retries the message comes back by itself, and its deliveries count."""
    broker = LeaseBroker(engine, middleware=[])
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    message.stuff_exception(RuntimeError("no"))
    broker.consume(Stage.CHUNK).ack(message)
    assert rows(engine) == [("queued", 1, "RuntimeError('no')")]
    assert take(broker, Stage.CHUNK).deliveries == 2
    broker.close()


def test_a_delayed_message_runs_when_it_is_due(engine: Engine, broker: LeaseBroker) -> None:
    """It is not handed out early, and within the poll interval after it is due."""
    send(engine, Stage.CHUNK, "1", delay=0.5)
    sent = monotonic()
    take(broker, Stage.CHUNK)
    assert 0.5 <= monotonic() - sent < 2.5


def test_news_wakes_an_idle_consumer(engine: Engine, broker: LeaseBroker) -> None:
    """An idle process hears of a message; it does not wait for its next look (R72)."""
    consumer = broker.consume(Stage.CHUNK, timeout=10_000)
    assert next(consumer) is None
    began = monotonic()
    for number in range(10):
        send(engine, Stage.CHUNK, str(number))
        message = until(lambda: next(consumer))
        with engine.begin() as connection:
            message.complete(connection)
        consumer.ack(message)
    assert monotonic() - began < 3


# --- holding ----------------------------------------------------------------------------------------------------------


def test_no_more_is_held_than_is_run(engine: Engine, broker: LeaseBroker) -> None:
    """With two threads two messages are held, over all queues; the others stay free for other processes (R34)."""
    send(engine, Stage.CHUNK, "1", "2", "3")
    send(engine, Stage.WRITE, "4", "5")
    chunks, writes = broker.consume(Stage.CHUNK, prefetch=100, timeout=50), broker.consume(Stage.WRITE, timeout=50)
    first = until(lambda: next(chunks))
    until(lambda: next(writes))
    assert [next(chunks), next(writes)] == [None, None]
    assert [state for state, *_ in rows(engine)].count("consumed") == 2
    chunks.ack(first)
    until(lambda: next(writes))


def test_later_stages_go_first(engine: Engine, broker: LeaseBroker) -> None:
    """A process that serves several queues empties them in the order of its stages, each in the order of sending."""
    send(engine, Stage.CHUNK, "1", "2")
    send(engine, Stage.WRITE, "3", "4")
    consumers = [broker.consume(stage, timeout=50) for stage in (Stage.CHUNK, Stage.WRITE)]
    for consumer in consumers:
        broker.hands.serve(consumer.queue)
    taken = []
    for _ in range(4):
        message = until(lambda: next(consumers[0]))
        taken.append(message.args[0])
        consumers[0].ack(message)
    assert taken == ["3", "4", "1", "2"]


def test_what_was_not_begun_is_given_back_untouched(
    engine: Engine, broker: LeaseBroker, run: Callable[[], dramatiq.Worker]
) -> None:
    """A worker that is stopped takes no message any more, and gives back those that it had not begun."""
    begun, ending = Event(), Event()

    @dramatiq.actor(broker=broker, queue_name="chunk", actor_name="chunk")
    def chunk(_subject: str) -> None:
        begun.set()
        ending.wait(SOON)

    send(engine, Stage.CHUNK, "1")
    worker = run()
    assert begun.wait(SOON)
    broker.hands.shut()
    send(engine, Stage.CHUNK, "2")
    assert rows(engine) == [("consumed", 1, None), ("queued", 0, None)]
    ending.set()
    worker.stop()
    assert rows(engine) == [("queued", 0, None)]


def test_a_stolen_message_rolls_the_effect_back(engine: Engine, broker: LeaseBroker) -> None:
    """When another worker took the message over, the stage's transaction writes nothing (R33)."""
    execute(engine, "CREATE TABLE effects (subject text)")
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    execute(engine, "UPDATE dramatiq.queue SET claim = nextval('dramatiq.claims')")
    with pytest.raises(LeaseLost):
        do(engine, message)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM effects")) == 0
    with pytest.raises(LeaseLost), engine.begin() as connection:
        message.postpone(connection, 1, "the server rests")


def do(engine: Engine, message: LeasedMessage) -> None:
    """Have an effect as a stage has it: in one transaction with the completion of its message."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO effects VALUES ('1')"))
        message.complete(connection)


def test_a_retry_does_not_make_a_completed_message_again(engine: Engine, broker: LeaseBroker) -> None:
    """A failure after the commit, or a commit whose answer was lost, ends in no second message."""
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    with engine.begin() as connection:
        message.complete(connection)
    message.stuff_exception(RuntimeError("after the commit"))
    broker.enqueue(message, delay=0)
    broker.consume(Stage.CHUNK).ack(message)
    assert rows(engine) == []


def test_a_postponed_message_is_as_good_as_new(engine: Engine, broker: LeaseBroker) -> None:
    """It is given back in the stage's transaction, and due after the delay, with a fresh count of deliveries (R13)."""
    send(engine, Stage.CHUNK, "1")
    message = take(broker, Stage.CHUNK)
    with engine.begin() as connection:
        message.postpone(connection, 0.2, "the server rests")
    broker.consume(Stage.CHUNK).ack(message)
    assert rows(engine) == [("queued", 0, "the server rests")]
    assert take(broker, Stage.CHUNK).deliveries == 1


def test_a_claim_whose_answer_was_lost_comes_back(
    engine: Engine, broker: LeaseBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server counts as ours, though it never arrived here, is given back uncounted."""
    monkeypatch.setattr(workers, "STRAY_SECONDS", 1)
    consumer = broker.consume(Stage.CHUNK, timeout=100)
    kept = broker.consume(Stage.WRITE, timeout=100)
    send(engine, Stage.WRITE, "held")
    held = until(lambda: next(kept))
    send(engine, Stage.CHUNK, "lost")
    broker.claim(["chunk"], 1)
    message = until(lambda: next(consumer))
    assert (message.args, message.deliveries) == (("lost",), 1)
    assert broker.execute(held.finish)


def test_a_message_delivered_too_often_is_rejected(engine: Engine) -> None:
    """The back-stop against a message that kills whoever takes it (R34)."""
    send(engine, Stage.CHUNK, "1")
    execute(engine, "UPDATE dramatiq.queue SET state = 'consumed', worker = -1, deliveries = 20")
    with engine.begin() as connection:
        assert workers.reap(connection) == 1
    ((state, _, error),) = rows(engine)
    assert (state, error) == ("rejected", "its worker process died")
    with engine.begin() as connection:
        assert messages.drop_rejected(connection, days=7) == 0
        assert messages.drop_rejected(connection, days=0) == 1
