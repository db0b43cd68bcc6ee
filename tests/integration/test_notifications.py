"""Notifications: what is told to whom, when and how often, with real HTTP receivers (R63)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import text

from actors import notifier
from actors.broker import LeaseBroker
from actors.metering import NOTIFICATIONS
from actors.notifier import Notifier
from ops.notifying import services
from pipeline import jobs, notifying
from pipeline.errors import EmbedderUnavailable, ValidationError
from pipeline.notifying import Throttle
from pipeline.records import JobRequest, NotifyRules
from pipeline.states import NOTIFIABLE, JobStatus, Stage
from pipeline.store import counts, events, messages, progress
from pipeline.store.progress import Clock, Progress
from tests.acceptance.working import eventually
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.receiver import SECRET, Receiver, receiving
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

    from pipeline.embedders import Passage

    Lines = list[MutableMapping[str, Any]]

EACH: Final = NotifyRules(interval=0, least_seconds=0)
NOW: Final = text("UPDATE dramatiq.queue SET eta = clock_timestamp() WHERE state = 'queued'")
DUE: Final = text("UPDATE penstock.notification_outbox SET due_at = clock_timestamp()")
WAITING: Final = text("""
SELECT e.type FROM penstock.notification_outbox o JOIN penstock.job_events e ON e.id = o.event_id ORDER BY e.id
""")
YESTERDAY: Final = text("UPDATE penstock.job_events SET at = at - interval '25 hours'")
LONG_AGO: Final = text("UPDATE penstock.indexing_jobs SET started_at = started_at - interval '1 minute'")


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make rounds often, and try again soon."""
    monkeypatch.setattr(notifier, "ROUND_SECONDS", 0.02)
    monkeypatch.setattr(notifying, "FIRST_RETRY", 0.1)
    monkeypatch.setattr(notifying, "LONGEST_RETRY", 0.4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of twelve files."""
    return write(tmp_path / "shop", {f"part{n:02}.py": f"def part_{n}():\n    return {n}\n" for n in range(12)})


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker of all stages, whose batches hold four files."""
    return Driver(engine, embedder=WilfulEmbedder())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield somebody who is notified."""
    receiver = Receiver()
    with receiving(receiver):
        yield receiver


@contextmanager
def told(engine: Engine, *urls: str, rules: NotifyRules = EACH) -> Iterator[Lines]:
    """Have the leading worker notify these services, and yield what it logs."""
    broker = LeaseBroker(engine, middleware=[])
    broker.consume("chunk")
    eventually(lambda: broker.leader)
    thread = Notifier(broker, engine, rules, services(tuple(map(SecretStr, urls))))
    with structlog.testing.capture_logs() as lines:
        thread.start()
        try:
            yield lines
        finally:
            thread.end()
            thread.join(5)
            broker.close()
    assert not thread.is_alive(), "it waits for nobody"


def submit(driver: Driver, root: Path) -> UUID:
    """Submit a repository."""
    return jobs.submit(driver.office, JobRequest(repo_path=str(root))).job_id


def admit(driver: Driver, root: Path) -> UUID:
    """Submit a repository whose job begins to run."""
    job_id = submit(driver, root)
    with driver.engine.begin() as connection:
        driver.bench.admit(connection, messages.MessageOutbox())
    return job_id


def happen(engine: Engine, job_id: UUID, *kinds: str) -> None:
    """Note events of a job, each in a transaction of its own."""
    for kind in kinds:
        with engine.begin() as connection:
            events.record(connection, job_id, kind)


def waiting(engine: Engine) -> list[str]:
    """Return which events wait in the outbox."""
    with engine.connect() as connection:
        return list(connection.execute(WAITING).scalars())


def told_of(job_id: UUID, driver: Driver) -> list[str]:
    """Return the kinds of a job's events, oldest first."""
    with driver.engine.connect() as connection:
        return [event.type for event in events.of_job(connection, job_id)]


def logged(lines: Lines, event: str, entry: int = 1) -> list[str]:
    """Return of which events the log says that a service was told."""
    return [line["about"] for line in lines if line["event"] == event and line["entry"] == entry]


# --- answer ---------------------------------------------------------------------------------------------------------


def test_every_event_arrives(driver: Driver, root: Path, receiver: Receiver) -> None:
    """Each of a job's events, once, in words that name the repository and say what to do (R63)."""
    outage = [EmbedderUnavailable("the embedding server cannot be reached")]

    def fail_once(_passages: Sequence[Passage]) -> None:
        if outage:
            raise outage.pop()

    driver.embedder = WilfulEmbedder(before=fail_once)
    with told(driver.engine, receiver.url) as lines:
        job_id = submit(driver, root)
        driver.step(Stage.SCAN)
        jobs.pause(driver.office, job_id)
        jobs.resume(driver.office, job_id)
        while driver.step():
            with driver.engine.begin() as connection:
                connection.execute(NOW)
        jobs.cancel(driver.office, submit(driver, write(root.parent / "other", {"a.py": "x = 1\n"})))
        assert driver.index(write(root.parent / "empty", {"a.bin": "\0"})).status == JobStatus.FAILED
        eventually(lambda: not waiting(driver.engine))
    assert set(logged(lines, "notification.sent")) == set(NOTIFIABLE)
    assert len(receiver.titles) == len(logged(lines, "notification.sent"))
    texts = dict(zip(receiver.titles, receiver.bodies, strict=True))
    assert "Waiting: the embedding server cannot be reached." in texts["shop: indexing is blocked"]
    assert "files 12 indexed" in texts["shop: indexing is complete"]
    assert f"Go on: penstock resume {job_id}" in texts["shop: indexing is paused"]
    assert "no indexable files found" in texts["empty: indexing has failed"]
    assert f"{root} (project default), job {job_id}" in texts["shop: indexing has started"]
    assert receiver.titles.index("shop: indexing is at 75 %") < receiver.titles.index("shop: indexing is complete")


def test_a_dead_service_keeps_nothing_from_the_others(driver: Driver, root: Path, receiver: Receiver) -> None:
    """Three that are down, refuse and hang: a fourth gets each once, at once; the others when they are back (R63)."""
    down, refusing, hanging, over = Receiver(), Receiver(status=500), Receiver(), Event()
    hanging.before = over.wait
    with (
        receiving(refusing),
        receiving(hanging),
        told(driver.engine, down.url, refusing.url, hanging.url, receiver.url) as lines,
    ):
        kinds = told_of(driver.index(root).job_id, driver)
        eventually(lambda: len(receiver.titles) == len(kinds))
        eventually(lambda: refusing.attempts > len(kinds))
        over.set()
        refusing.status = 200
        with receiving(down):
            eventually(lambda: not waiting(driver.engine))
        hanging.before = lambda: None
    assert len(receiver.titles) == len(kinds)
    for url, each in enumerate((down, refusing, hanging), 1):
        assert set(each.titles) == set(receiver.titles)
        assert len(logged(lines, "notification.sent", url)) == len(kinds)
        assert len(logged(lines, "notification.failed", url)) <= len(kinds), "one line for each event"
    assert logged(lines, "notification.failed", 4) == []
    reasons = {line["reason"] for line in lines if line["event"] == "notification.failed"}
    assert any("error=500" in reason for reason in reasons)
    assert SECRET not in str(lines)
    with driver.engine.connect() as connection:
        counted = counts.totals(connection)
    failures = sum(str(line["event"]).startswith("notification.failed") for line in lines)
    assert counted[f"{NOTIFICATIONS.name}/sent"] == sum(line["event"] == "notification.sent" for line in lines)
    assert counted[f"{NOTIFICATIONS.name}/failed"] == failures


def test_a_service_that_hangs_for_ever_holds_a_few_threads(
    driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call has its time; after a few that never ended nothing more is sent, until one ends (R63)."""
    monkeypatch.setattr(notifier, "SEND_SECONDS", 0.05)
    over = Event()
    hanging = Receiver(before=over.wait)
    with receiving(hanging), told(driver.engine, hanging.url) as lines:
        happen(driver.engine, admit(driver, root), *["milestone"] * 6)
        eventually(lambda: len(logged(lines, "notification.failed")) == 8)
        reasons = [line["reason"] for line in lines if line["event"] == "notification.failed"]
        # One that is tried again before others are tried at all may be the third that hangs.
        assert sorted(set(reasons), key=reasons.index) == [
            "no answer within 0.05 s",
            "3 earlier notifications hang still",
        ]
        assert hanging.attempts == 3
        over.set()
        eventually(lambda: not waiting(driver.engine))


def test_nothing_piles_up_when_nobody_is_notified(driver: Driver, root: Path) -> None:
    """Without a service the outbox is emptied; an event that reached nobody for a day is dropped, and said (R63)."""
    driver.index(root)
    assert waiting(driver.engine)
    with told(driver.engine) as lines:
        eventually(lambda: not waiting(driver.engine))
    assert lines == []
    submit(driver, root)
    with driver.engine.begin() as connection:
        connection.execute(YESTERDAY)
    with told(driver.engine, Receiver().url) as lines:
        eventually(lambda: not waiting(driver.engine))
    assert logged(lines, "notification.given_up") == ["submitted"]


# --- how often --------------------------------------------------------------------------------------------------------


def take(engine: Engine, throttle: Throttle) -> list[str]:
    """Return which events a round would send."""
    with engine.begin() as connection:
        connection.execute(DUE)
        return [notification.kind for notification in throttle.take(connection).due]


def test_what_goes_back_and_forth_is_told_once_in_a_while(driver: Driver, root: Path) -> None:
    """The first at once, then the newest when the interval is over; its end supersedes all that waits (R63)."""
    throttle = Throttle(NotifyRules(events=frozenset(NOTIFIABLE) - {"submitted"}, interval=60, least_seconds=0))
    job_id = admit(driver, root)
    assert take(driver.engine, throttle) == ["started"]
    happen(driver.engine, job_id, "blocked")
    assert "blocked" in take(driver.engine, throttle)
    happen(driver.engine, job_id, *["unblocked", "blocked"] * 5, "unblocked", "paused", "milestone", "milestone")
    assert take(driver.engine, throttle) == ["started", "paused", "milestone"]
    happen(driver.engine, job_id, "milestone", "resumed", "blocked", "unblocked")
    assert "unblocked" not in take(driver.engine, throttle)
    assert waiting(driver.engine) == ["started", "milestone", "resumed", "unblocked"]
    jobs.cancel(driver.office, job_id)
    assert take(driver.engine, throttle) == ["cancelled"]
    assert waiting(driver.engine) == ["cancelled"]


def test_other_jobs_have_intervals_of_their_own(driver: Driver, root: Path) -> None:
    """What one job told holds back no other (R63)."""
    throttle = Throttle(NotifyRules(events=frozenset({"milestone"}), interval=60, least_seconds=0))
    for name in ("one", "two"):
        happen(driver.engine, admit(driver, write(root.parent / name, {"a.py": "x = 1\n"})), "milestone")
    assert take(driver.engine, throttle) == ["milestone", "milestone"]


def test_an_interval_ends(driver: Driver, root: Path) -> None:
    """What waited is told then, by the notifier itself (R63)."""
    receiver = Receiver()
    rules = NotifyRules(events=frozenset({"blocked", "unblocked"}), interval=0.5, least_seconds=0)
    with receiving(receiver), told(driver.engine, receiver.url, rules=rules):
        job_id = admit(driver, root)
        happen(driver.engine, job_id, "blocked")
        eventually(lambda: receiver.titles)
        happen(driver.engine, job_id, "unblocked")
        eventually(lambda: not waiting(driver.engine))
    assert receiver.titles == ["shop: indexing is blocked", "shop: indexing goes on"]


def test_a_job_of_a_moment_tells_only_its_end(driver: Driver, root: Path) -> None:
    """Neither its start nor milestones; and what has run for a while tells its start after all (R63)."""
    throttle = Throttle(NotifyRules(interval=60, least_seconds=30))
    job_id = admit(driver, root)
    happen(driver.engine, job_id, "milestone")
    assert take(driver.engine, throttle) == ["submitted"]
    with driver.engine.begin() as connection:
        connection.execute(LONG_AGO)
    assert take(driver.engine, throttle) == ["submitted", "started", "milestone"]
    jobs.cancel(driver.office, job_id)
    assert driver.index(root).status == JobStatus.COMPLETED
    assert [kind for kind in take(driver.engine, throttle) if kind != "submitted"] == ["cancelled", "completed"]


def test_nobody_is_interrupted_for_a_job_of_a_moment(
    driver: Driver, root: Path, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The desktop does not show that it completed, for its user saw that; it shows that one failed (R63)."""
    desktop(tmp_path, monkeypatch)
    with told(driver.engine, "desktop", receiver.url, rules=NotifyRules(least_seconds=30)):
        driver.index(root)
        driver.index(write(tmp_path / "a\n<b>", {"a.bin": "\0"}))
        eventually(lambda: not waiting(driver.engine))
    assert "shop: indexing is complete" in receiver.titles
    shown = (tmp_path / "shown").read_text()
    assert "a <b>: indexing has failed" in shown
    assert "a\n&lt;b&gt; (project" in shown
    assert "--urgency=critical" in shown
    assert "complete" not in shown


def desktop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine whose desktop writes down what it is asked to show."""
    program = folder / "bin" / "notify-send"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {folder}/shown\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


# --- milestones -------------------------------------------------------------------------------------------------------


def quarters(driver: Driver, job_id: UUID) -> list[object]:
    """Return the milestones of a job, as they were told."""
    with driver.engine.connect() as connection:
        return [row.detail["percent"] for row in events.of_job(connection, job_id) if row.type == "milestone"]


def test_milestones_are_passed_once_and_in_order(driver: Driver, root: Path) -> None:
    """Twice over, as if each message were delivered twice (R63)."""
    driver.times = 2
    job_id = driver.index(root).job_id
    assert quarters(driver, job_id) == [25, 50, 75]


def test_a_milestone_is_kept_with_the_progress_that_passed_it(driver: Driver, root: Path) -> None:
    """What is rolled back passed nothing; a leap tells only where it led (R63)."""
    job_id = admit(driver, root)
    listed = Progress(files_scanned=10, files_due=10)
    with driver.engine.begin() as connection:
        connection.execute(text("UPDATE penstock.indexing_jobs SET files_listed = 10, scan_completed = true"))
        connection.execute(text("UPDATE penstock.indexing_jobs SET batches_total = 2"))
        progress.advance(connection, job_id, listed, Clock(Stage.SCAN, 0))
    added = Progress(files_chunked=9, chunks_created=9, chunks_embedded=7)
    for end in ("rollback", "commit"):
        with driver.engine.connect() as connection:
            progress.advance(connection, job_id, added, Clock(Stage.EMBED, 0))
            getattr(connection, end)()
        assert quarters(driver, job_id) == ([] if end == "rollback" else [50])


def test_a_tree_that_did_not_change_passes_no_milestone(driver: Driver, root: Path) -> None:
    """It is up to date at once: nothing was on its way (R63)."""
    for file in root.iterdir():
        os.utime(file, (1, 1))
    driver.index(root)
    assert quarters(driver, driver.index(root).job_id) == []


# --- who is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("bogus://token-of-mine/x", "there is no such kind of service"),
        ("json://", "it is no complete json:// URL"),
        ("slack://token-of-mine", "invalid Slack"),
        ("macosx://", "not installed on this machine"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str, reason: str) -> None:
    """The error says which one, and why (R63)."""
    with pytest.raises(ValidationError) as refused:
        services((SecretStr("json://127.0.0.1"), SecretStr(url)))
    assert f"PENSTOCK_NOTIFY_URLS: entry 2 ({url.partition(':')[0]}) cannot be used" in str(refused.value)
    assert reason in str(refused.value)
    assert "token-of-mine" not in str(refused.value)


def test_a_machine_without_a_desktop_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word `desktop` stands for what this machine has (R63)."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValidationError, match="install notify-send"):
        services((SecretStr("desktop"),))
