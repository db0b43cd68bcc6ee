"""Pause, resume and cancel at the moments that matter, and what a resumed job does not do again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import text

from actors.lease import LeasedMessage
from pipeline import jobs
from pipeline.errors import InvalidStatus
from pipeline.records import JobRequest, Limits
from pipeline.stages import scan, workbench
from pipeline.states import MOVES, JobStatus, Stage
from pipeline.store import events, messages
from pipeline.store import jobs as job_store
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.inspecting import chunk_set, leftovers, sums
from tests.repositories import write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Connection, Engine

    from pipeline.jobs import Office

STATE: Final = text("SELECT status FROM penstock.indexing_jobs")
SET_STATE: Final = text("""
UPDATE penstock.indexing_jobs SET status = :status, paused_at = now(), blocked_since = now(), blocked_reason = 'away',
    cancelled_at = now(), completed_at = now(), error_message = 'broken',
    finished_at = CASE WHEN :status IN ('cancelled', 'completed', 'failed') THEN now() END,
    progress_percentage = CASE WHEN :status = 'completed' THEN 100 ELSE 50 END
""")
REASONS: Final[dict[JobStatus, dict[str, Any]]] = {
    JobStatus.FAILED: {"error_message": "broken"},
    JobStatus.BLOCKED: {"blocked_reason": "away"},
}
ROWS: Final = text("""
SELECT (SELECT jsonb_agg(to_jsonb(j)) FROM penstock.indexing_jobs j),
    (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.id) FROM penstock.batches b),
    (SELECT jsonb_agg(to_jsonb(e) ORDER BY e.id) FROM penstock.job_events e),
    (SELECT jsonb_agg(to_jsonb(o) ORDER BY o.path) FROM penstock.file_outcomes o),
    (SELECT jsonb_agg(to_jsonb(f) ORDER BY f.id) FROM penstock.files f),
    (SELECT count(*) FROM penstock.chunks), (SELECT count(*) FROM penstock.staged_chunks)
""")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of twelve files."""
    return write(tmp_path / "shop", {f"part{n:02}.py": f"def part_{n}():\n    return {n}\n" for n in range(12)})


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker of all stages, whose batches hold four files."""
    return Driver(engine, embedder=WilfulEmbedder())


def submit(driver: Driver, root: Path, *, force: bool = False) -> UUID:
    """Submit a repository."""
    return jobs.submit(driver.office, JobRequest(repo_path=str(root), force_reindex=force)).job_id


def rows(driver: Driver) -> tuple[object, ...]:
    """Return all that is stored of jobs and their repository, to be compared."""
    with driver.engine.connect() as connection:
        return tuple(connection.execute(ROWS).one())


@pytest.mark.parametrize("target", JobStatus)
@pytest.mark.parametrize("source", JobStatus)
def test_a_job_moves_as_drawn_and_no_other_way(
    driver: Driver, root: Path, source: JobStatus, target: JobStatus
) -> None:
    """Every pair of states: the move happens, with its event, if and only if the lifecycle has it (R10, R12, R64)."""
    job_id = submit(driver, root)
    with driver.engine.begin() as connection:
        connection.execute(SET_STATE, {"status": source})
        moved = job_store.move(connection, job_id, target, f"to {target}", **REASONS.get(target, {}))
        assert moved == ((source, target) in MOVES)
        assert connection.execute(STATE).scalar_one() == (target if moved else source)
        assert events.count(connection, job_id, f"to {target}") == moved


@pytest.mark.parametrize("control", [jobs.pause, jobs.cancel])
def test_a_slow_request_is_given_up(
    driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch, control: Callable[[Office, UUID], object]
) -> None:
    """The embedder asks while it waits; a job that rests ends the request, and nothing of it is kept (R30)."""
    monkeypatch.setattr(workbench, "HEED_SECONDS", 0.0)
    job_id = submit(driver, root)
    driver.drain(Stage.SCAN, Stage.CHUNK)

    def before(_passages: object) -> None:
        control(driver.office, job_id)

    driver.embedder = WilfulEmbedder(before=before)
    message = driver.claim(Stage.EMBED)
    assert message is not None
    driver.work(message)
    assert driver.mended == ["dropped"]
    with driver.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM penstock.embeddings")).scalar_one() == 0


class Late(LeasedMessage):
    """A message in whose last transaction, just before it is guarded by the job's row, a user cancels the job."""

    cancel: Callable[[], object]

    def complete(self, connection: Connection) -> None:
        """Complete, and be overtaken."""
        super().complete(connection)
        self.cancel()


@pytest.mark.parametrize("stage", [Stage.CHUNK, Stage.EMBED, Stage.WRITE])
def test_a_cancel_during_the_last_transaction_undoes_it(driver: Driver, root: Path, stage: Stage) -> None:
    """Whatever a stage was about to commit when the job was cancelled is rolled back (R30)."""
    job_id = submit(driver, root)
    order = list(Stage)
    driver.drain(*order[: order.index(stage)])
    message = driver.claim(stage)
    assert message is not None
    late = Late(message.lease)
    cancelled: list[object] = []

    def cancel() -> None:
        if not cancelled:
            with driver.engine.begin() as connection:
                assert job_store.move(connection, job_id, JobStatus.CANCELLED, "cancelled")
            cancelled.append(rows(driver))

    late.cancel = cancel
    driver.work(late)
    assert driver.mended == ["dropped"]
    assert cancelled == [rows(driver)]


def test_a_cancel_ends_a_scan_while_it_lists(driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that takes minutes stops within a moment, and nothing is written after the cancel (R30)."""
    monkeypatch.setattr(workbench, "HEED_SECONDS", 0.0)
    for number in range(3):
        write(root / f"folder{number}", {"a.py": "a = 1\n"})
    job_id = submit(driver, root)
    message = driver.claim(Stage.SCAN)
    assert message is not None
    asked: list[object] = []

    def cancelling(heed: workbench.Heed) -> None:
        asked.append(heed)
        if len(asked) == 2:
            jobs.cancel(driver.office, job_id)
            asked.append(rows(driver))
        original(heed)

    original = workbench.Heed.__call__
    monkeypatch.setattr(workbench.Heed, "__call__", cancelling)
    driver.work(message)
    assert driver.mended == ["dropped"]
    assert rows(driver) == asked[2]
    assert len(asked) == 3, "it went on listing"


def test_a_pause_need_not_wait_for_a_large_removal(driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gone goes in portions; a pause between two stops it, and a resume removes the rest (R30, R43)."""
    monkeypatch.setattr("pipeline.stages.scan.PORTION", 2)
    driver.index(root)
    for number in range(7):
        (root / f"part{number:02}.py").unlink()
    job_id = submit(driver, root)
    remove, portions = scan._remove, []  # noqa: SLF001 - the place between two portions

    def pausing(work: scan.Scan, paths: Sequence[str]) -> int:
        portions.append(paths)
        if len(portions) == 3:
            jobs.pause(driver.office, job_id)
        return remove(work, paths)

    monkeypatch.setattr(scan, "_remove", pausing)
    driver.step(Stage.SCAN)
    job = jobs.status(driver.engine, job_id)
    assert (job.status, job.files_removed) == (JobStatus.PAUSED, 4)
    jobs.resume(driver.office, job_id)
    driver.drain()
    job = jobs.status(driver.engine, job_id)
    assert (job.status, job.files_removed) == (JobStatus.COMPLETED, 7)
    assert sums(driver.engine, job_id) == []


def test_a_forced_job_that_is_resumed_does_not_start_over(driver: Driver, root: Path) -> None:
    """What it had indexed anew before the cancel is unchanged to its successor; the rest is still forced (R32)."""
    driver.index(root)
    job_id = submit(driver, root, force=True)
    driver.drain(until=lambda: jobs.status(driver.engine, job_id).batches_done == 1)
    done = jobs.status(driver.engine, job_id).files_indexed
    jobs.cancel(driver.office, job_id)
    successor = jobs.resume(driver.office, job_id)
    driver.drain()
    job = jobs.status(driver.engine, successor.job_id)
    assert job.resumed_from == job_id
    assert 0 < done < 12
    assert (job.status, job.files_unchanged, job.files_indexed) == (JobStatus.COMPLETED, done, 12 - done)


def test_a_cancelled_job_leaves_no_staged_rows(driver: Driver, root: Path) -> None:
    """What a canceller that died did not drop, the caretaker drops (R31)."""
    job_id = submit(driver, root)
    driver.drain(Stage.SCAN, Stage.CHUNK)
    with driver.engine.begin() as connection:
        job_store.move(connection, job_id, JobStatus.CANCELLED, "cancelled")
    assert leftovers(driver.engine).get("staged chunks")
    with driver.engine.begin() as connection:
        jobs.tidy(connection)
    assert "staged chunks" not in leftovers(driver.engine)


def test_a_rest_is_not_counted_as_running(engine: Engine, root: Path) -> None:
    """A job that was paused for an hour has not run for an hour: no time-out, no false estimate (R03, R17)."""
    driver = Driver(engine, limits=Limits(batch_files=4, job_seconds=600))
    job_id = submit(driver, root)
    driver.step(Stage.SCAN)
    jobs.pause(driver.office, job_id)
    moments = ("created_at", "started_at", "running_since", "paused_at")
    earlier = ", ".join(f"{name} = {name} - interval '1 hour'" for name in moments)
    long_ago = text(f"UPDATE penstock.indexing_jobs SET {earlier}")  # noqa: S608 - constants
    with engine.begin() as connection:
        connection.execute(long_ago)
    jobs.resume(driver.office, job_id)
    jobs.sweep(driver.bench, messages.MessageOutbox())
    driver.drain()
    job = jobs.status(engine, job_id)
    assert job.status == JobStatus.COMPLETED
    assert job.duration_seconds is not None
    assert job.duration_seconds < 600


def test_a_job_that_ran_too_long_in_two_parts_is_ended(engine: Engine, root: Path) -> None:
    """The time before a pause counts, too (R17)."""
    driver = Driver(engine, limits=Limits(batch_files=4, job_seconds=600))
    job_id = submit(driver, root)
    driver.step(Stage.SCAN)
    before = text("UPDATE penstock.indexing_jobs SET running_since = running_since - interval '9 minutes'")
    for _ in range(2):
        with engine.begin() as connection:
            connection.execute(before)
        jobs.pause(driver.office, job_id)
        jobs.resume(driver.office, job_id)
        jobs.sweep(driver.bench, messages.MessageOutbox())
    jobs.sweep(driver.bench, messages.MessageOutbox())
    job = jobs.status(engine, job_id)
    assert (job.status, job.error_type) == (JobStatus.FAILED, "TimeLimitExceeded")


def test_a_clock_set_back_stalls_nothing(driver: Driver, root: Path) -> None:
    """What was due in a moment lies an hour ahead of a clock that was set back: the caretaker brings it back (R33)."""
    job_id = submit(driver, root)
    driver.step(Stage.SCAN)
    with driver.engine.begin() as connection:
        connection.execute(text("UPDATE dramatiq.queue SET eta = eta + interval '1 hour'"))
        connection.execute(text("UPDATE penstock.indexing_jobs SET notified_at = notified_at + interval '1 hour'"))
    assert not driver.step()
    jobs.sweep(driver.bench, messages.MessageOutbox())
    driver.drain()
    assert jobs.status(driver.engine, job_id).status == JobStatus.COMPLETED


def test_an_ended_job_refuses_every_control(driver: Driver, root: Path) -> None:
    """The error names the state (R31)."""
    job_id = driver.index(root).job_id
    for control in (jobs.pause, jobs.cancel, jobs.resume):
        with pytest.raises(InvalidStatus, match="completed"):
            control(driver.office, job_id)


def test_pausing_at_every_step_changes_nothing_in_the_index(driver: Driver, root: Path) -> None:
    """A job that is paused and resumed after each message that advanced it ends as an undisturbed one (R32, R33)."""
    driver.index(root)
    expected = chunk_set(driver.engine)
    job_id = submit(driver, root, force=True)
    before, pauses = 0.0, 0
    while driver.step():
        job = jobs.status(driver.engine, job_id)
        if job.status == JobStatus.RUNNING and job.progress_percentage > before:
            jobs.pause(driver.office, job_id)
            jobs.resume(driver.office, job_id)
            before, pauses = job.progress_percentage, pauses + 1
    assert pauses > 6
    job = jobs.status(driver.engine, job_id)
    assert (job.status, job.files_indexed) == (JobStatus.COMPLETED, 12)
    assert chunk_set(driver.engine) == expected
    assert sums(driver.engine, job_id) == []
    assert leftovers(driver.engine) == {}
