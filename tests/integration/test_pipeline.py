"""The four stages on a real database: what a job does to the index, and what it does not."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from actors.lease import LeasedMessage
from pipeline import jobs
from pipeline.errors import EmbedderUnavailable, InvalidStatus, ValidationError
from pipeline.records import JobRequest, Limits
from pipeline.search import SearchRequest, search
from pipeline.states import JobStatus, Stage
from tests.acceptance.working import eventually
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.inspecting import chunk_set, leftovers, sums

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from pipeline.records import Submission


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a small repository of twelve files."""
    folder = tmp_path / "shop"
    for number in range(12):
        file = folder / "src" / f"part{number:02}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f'def part_{number}(order):\n    """Work on step {number} of an order."""\n    return {number}\n'
        )
    return folder


def age(root: Path) -> None:
    """Make every file old enough for its time to be trusted."""
    for file in root.rglob("*.py"):
        os.utime(file, (1_700_000_000, 1_700_000_000))


def test_a_job_indexes_every_file_and_leaves_nothing_behind(engine: Engine, root: Path) -> None:
    """Every line is in the index, the sums agree, and no message, staged row or batch is left over (R15, R22)."""
    job = Driver(engine).index(root)
    assert (job.status, job.progress_percentage) == (JobStatus.COMPLETED, 100)
    assert (job.files_listed, job.files_indexed, job.chunks_written) == (12, 12, 12)
    assert leftovers(engine) == {}
    assert sums(engine, job.job_id) == []
    assert {path for path, *_ in chunk_set(engine)} == {f"src/part{number:02}.py" for number in range(12)}


def test_a_second_run_says_up_to_date(engine: Engine, root: Path) -> None:
    """Nothing is chunked or embedded when nothing changed, and the job says so in words (R05)."""
    age(root)
    driver = Driver(engine)
    driver.index(root)
    job = driver.index(root)
    assert job.progress_message == "Up to date: 12 files unchanged"
    assert (job.batches_total, job.chunks_created, job.status) == (0, 0, JobStatus.COMPLETED)


def test_content_decides_over_time(engine: Engine, root: Path) -> None:
    """A touched file is unchanged, an edited one is chunked again, and only its new text is embedded (R05)."""
    age(root)
    driver = Driver(engine, embedder=(embedder := WilfulEmbedder()))
    driver.index(root)
    embedder.seen.clear()
    (root / "src" / "part01.py").touch()
    (root / "src" / "part02.py").write_text("def refund(order):\n    return -order.total\n")
    job = driver.index(root)
    assert (job.files_indexed, job.files_unchanged, job.chunks_embedded) == (1, 11, 1)
    assert [passage.symbol for passage in embedder.seen] == ["refund"]


def test_force_redoes_every_file_but_embeds_nothing_twice(engine: Engine, root: Path) -> None:
    """force_reindex chunks all files again; their vectors are found by content (R05, R44)."""
    driver = Driver(engine, embedder=(embedder := WilfulEmbedder()))
    driver.index(root)
    before = chunk_set(engine)
    embedder.seen.clear()
    job = driver.index(root, force=True)
    assert (job.files_indexed, job.chunks_reused, embedder.seen) == (12, 12, [])
    assert chunk_set(engine) == before


def test_a_removed_file_disappears_and_a_renamed_one_is_not_embedded_again(engine: Engine, root: Path) -> None:
    """Removed files' chunks go when the scan is complete; a rename reuses the vectors (R43)."""
    age(root)
    driver = Driver(engine, embedder=(embedder := WilfulEmbedder()))
    driver.index(root)
    embedder.seen.clear()
    (root / "src" / "part00.py").unlink()
    (root / "src" / "part01.py").rename(root / "src" / "renamed.py")
    job = driver.index(root)
    assert (job.files_removed, job.files_indexed, job.files_unchanged, embedder.seen) == (2, 1, 10, [])
    paths = {path for path, *_ in chunk_set(engine)}
    assert "src/renamed.py" in paths
    assert not paths & {"src/part00.py", "src/part01.py"}


def test_every_message_may_be_worked_on_twice(engine: Engine, root: Path) -> None:
    """A second delivery of each message changes no row and no counter."""
    job = Driver(engine, times=2).index(root)
    assert (job.files_indexed, job.chunks_created, job.chunks_written) == (12, 12, 12)
    assert sums(engine, job.job_id) == []
    assert leftovers(engine) == {}


def test_the_window_bounds_what_is_in_flight(engine: Engine, root: Path) -> None:
    """No more batches than the window are between chunk and write, at any moment (R37)."""
    driver = Driver(engine, limits=Limits(batch_files=1, job_window=3))
    jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    seen = set()
    query = text("SELECT count(*) FROM penstock.batches WHERE stage IN ('chunk', 'embed', 'write')")
    while driver.step(Stage.SCAN, Stage.CHUNK, Stage.EMBED, Stage.WRITE):
        with engine.connect() as connection:
            seen.add(connection.execute(query).scalar_one())
    assert max(seen) == 3


def test_a_pause_stops_all_stages_and_a_resume_goes_on(engine: Engine, root: Path) -> None:
    """Nothing is written while a job is paused; resumed, it ends as if nothing had been (R30, R32)."""
    driver = Driver(engine)
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.drain(until=lambda: jobs.status(engine, job.job_id).batches_done == 1)
    jobs.pause(driver.office, job.job_id)
    before = chunk_set(engine)
    driver.drain()
    assert chunk_set(engine) == before
    jobs.resume(driver.office, job.job_id)
    driver.drain()
    assert jobs.status(engine, job.job_id).files_indexed == 12
    assert sums(engine, job.job_id) == []


@pytest.mark.parametrize("stage", [Stage.CHUNK, Stage.EMBED, Stage.WRITE])
def test_nothing_is_written_after_a_cancel(engine: Engine, root: Path, stage: Stage) -> None:
    """A worker that holds a batch when the job is cancelled rolls back; the index is marked partial (R30, R31)."""
    driver = Driver(engine)
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.drain(until=lambda: jobs.status(engine, job.job_id).batches_done == 1)
    jobs_left = [Stage.SCAN, Stage.CHUNK, Stage.EMBED, Stage.WRITE]
    driver.drain(*jobs_left[: jobs_left.index(stage)])
    message = driver.claim(stage)
    assert message is not None
    jobs.cancel(driver.office, job.job_id)
    before = chunk_set(engine), jobs.status(engine, job.job_id)
    driver.work(message)
    driver.drain()
    assert (chunk_set(engine), jobs.status(engine, job.job_id)) == before
    assert leftovers(engine) == {}
    assert jobs.indexed(engine)[0].index_state == "partial"


def test_a_cancelled_job_is_completed_by_a_later_one_without_redoing(engine: Engine, root: Path) -> None:
    """The run after a cancel does only what is left, as a new job linked to the first (R31, R32)."""
    age(root)
    driver = Driver(engine)
    first = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.drain(until=lambda: jobs.status(engine, first.job_id).batches_done == 1)
    jobs.cancel(driver.office, first.job_id)
    successor = jobs.resume(driver.office, first.job_id)
    driver.drain()
    job = jobs.status(engine, successor.job_id)
    assert (job.resumed_from, job.status) == (first.job_id, JobStatus.COMPLETED)
    assert job.files_unchanged == jobs.status(engine, first.job_id).files_indexed > 0
    assert jobs.indexed(engine)[0].index_state == "complete"


def test_a_finished_job_is_neither_paused_nor_cancelled(engine: Engine, root: Path) -> None:
    """Control of a finished job is refused with its state (R31)."""
    driver = Driver(engine)
    job = driver.index(root)
    for control in (jobs.pause, jobs.cancel, jobs.resume):
        with pytest.raises(InvalidStatus, match="completed"):
            control(driver.office, job.job_id)
    cancelled = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    jobs.cancel(driver.office, cancelled.job_id)
    with pytest.raises(InvalidStatus, match="cancelled"):
        jobs.cancel(driver.office, cancelled.job_id)


def test_lost_staging_rows_are_chunked_again(engine: Engine, root: Path) -> None:
    """A server crash empties the staging table; its batches go back and nothing is counted twice (R33)."""
    driver = Driver(engine)
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.drain(Stage.SCAN)
    driver.drain(Stage.CHUNK)
    driver.step(Stage.EMBED)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE penstock.staged_chunks"))
    driver.drain()
    assert "back to chunk" in driver.mended
    assert jobs.status(engine, job.job_id).files_indexed == 12
    assert sums(engine, job.job_id) == []


def test_a_passage_that_cannot_be_embedded_fails_its_file_alone(engine: Engine, root: Path) -> None:
    """The file ends failed with the reason, the rest is indexed, and the next run tries it again (R34, R51)."""
    (root / "src" / "odd.py").write_text("def odd():\n    return 'REJECT'\n")
    driver = Driver(engine, embedder=(embedder := WilfulEmbedder(rejected="REJECT")))
    job = driver.index(root)
    assert (job.status, job.files_indexed, job.files_failed) == (JobStatus.COMPLETED, 12, 1)
    assert [(note.path, note.reason) for note in jobs.notes(engine, job.job_id)] == [("src/odd.py", "it was rejected")]
    assert sums(engine, job.job_id) == []
    embedder.rejected = "\0"
    assert driver.index(root).files_indexed == 1


def test_a_batch_that_keeps_failing_is_halved_until_the_poison_is_alone(engine: Engine, root: Path) -> None:
    """One file that makes its stage raise ends failed; every other file is indexed (R34)."""
    (root / "src" / "a_poison.py").write_text("def poison():\n    return 'BOOM'\n")

    def explode(passages: object) -> None:
        if "BOOM" in str(passages):
            message = "the parser fell over"
            raise RuntimeError(message)

    driver = Driver(engine, embedder=WilfulEmbedder(before=explode), limits=Limits(max_failures=1, batch_files=16))
    job = driver.index(root)
    assert (job.status, job.files_indexed, job.files_failed) == (JobStatus.COMPLETED, 12, 1)
    assert jobs.notes(engine, job.job_id)[0].reason == "RuntimeError: the parser fell over"
    assert "split" in driver.mended
    assert sums(engine, job.job_id) == []
    assert leftovers(engine) == {}


def test_when_every_file_fails_the_job_fails(engine: Engine, root: Path) -> None:
    """A job in which every file failed is failed, never completed (R15)."""
    job = Driver(engine, embedder=WilfulEmbedder(rejected="return")).index(root)
    assert job.status == JobStatus.FAILED
    assert job.error_message == "all 12 files failed; the first: src/part00.py: it was rejected"


def test_another_model_embeds_everything_anew(engine: Engine, root: Path) -> None:
    """A changed model re-embeds all files, also after an interrupted attempt; vectors are never mixed (R50)."""
    age(root)
    Driver(engine).index(root)
    other = Driver(engine, embedder=WilfulEmbedder(model="other", dimension=128))
    job = other.index(root)
    assert (job.files_indexed, job.chunks_embedded) == (12, 12)
    with engine.connect() as connection:
        models = connection.execute(text("SELECT DISTINCT model_id FROM penstock.chunks")).scalars().all()
    assert len(models) == 1


def test_going_back_from_another_model_leaves_no_vector_of_it(engine: Engine, root: Path) -> None:
    """A model change that was cancelled half-way is undone file by file; what is right already is not redone (R50)."""
    age(root)
    first, other = Driver(engine), Driver(engine, embedder=WilfulEmbedder(model="other", dimension=128))
    first.index(root)
    attempt = jobs.submit(other.office, JobRequest(repo_path=str(root)))
    other.drain(until=lambda: jobs.status(engine, attempt.job_id).batches_done == 1)
    jobs.cancel(other.office, attempt.job_id)
    changed = jobs.status(engine, attempt.job_id).files_indexed
    job = first.index(root)
    assert (job.files_indexed, job.files_unchanged) == (changed, 12 - changed)
    with engine.connect() as connection:
        models = connection.execute(text("SELECT DISTINCT model_id FROM penstock.chunks")).scalars().all()
    assert len(models) == 1


def test_a_job_that_needs_nothing_from_an_absent_embedder_completes(engine: Engine, root: Path, tmp_path: Path) -> None:
    """Two blocked jobs share their texts: when the first has embedded them, the second ends, too (R13, R15)."""

    def refuse(_passages: object) -> None:
        message = "the server is away"
        raise EmbedderUnavailable(message)

    shutil.copytree(root, tmp_path / "copy")
    limits = Limits(unavailable_retry=0.5)
    driver = Driver(engine, embedder=(embedder := WilfulEmbedder(before=refuse)), limits=limits)
    both = [jobs.submit(driver.office, JobRequest(repo_path=str(path))) for path in (root, tmp_path / "copy")]
    driver.drain(Stage.SCAN)
    driver.drain(Stage.CHUNK)
    driver.drain(Stage.EMBED, until=lambda: {status(engine, job) for job in both} == {JobStatus.BLOCKED})
    embedder.before = lambda _passages: None
    eventually(lambda: driver.drain() == 0 and {status(engine, job) for job in both} == {JobStatus.COMPLETED})


def status(engine: Engine, job: Submission) -> JobStatus:
    """Return the state that a job is in."""
    return jobs.status(engine, job.job_id).status


def test_a_wrong_setting_ends_the_job_and_not_every_file(engine: Engine, root: Path) -> None:
    """What no other file could do better is no poison: the job fails at once, with the reason (R14)."""

    def refuse(_passages: object) -> None:
        message = "there is no such model"
        raise ValidationError(message)

    job = Driver(engine, embedder=WilfulEmbedder(before=refuse)).index(root)
    assert (job.status, job.error_message, job.files_failed) == (JobStatus.FAILED, "there is no such model", 0)
    assert leftovers(engine) == {}


def test_a_root_that_became_a_link_is_refused(engine: Engine, root: Path, tmp_path: Path) -> None:
    """What was checked at submission is what is scanned (R06, R40)."""
    driver = Driver(engine)
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    root.rename(tmp_path / "elsewhere")
    root.symlink_to(tmp_path / "elsewhere")
    driver.drain()
    assert "symbolic link" in (jobs.status(engine, job.job_id).error_message or "")


def test_time_limits_end_a_job(engine: Engine, root: Path) -> None:
    """A job that ran too long fails by name of the limit; without a limit nothing happens (R17)."""
    driver = Driver(engine)
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.step(Stage.SCAN)
    jobs.sweep(driver.bench, driver.office.outbox)
    assert status(engine, job) == JobStatus.RUNNING
    hasty = Driver(engine, limits=Limits(job_seconds=0.000_001))
    jobs.sweep(hasty.bench, hasty.office.outbox)
    assert "INDEXING_JOB_TIMEOUT_SECONDS" in (jobs.status(engine, job.job_id).error_message or "")


def test_a_job_is_not_blocked_for_ever(engine: Engine, root: Path) -> None:
    """BLOCKED_TIMEOUT_SECONDS ends a job whose embedder stays away, with the reason that it waited for (R13)."""

    def refuse(_passages: object) -> None:
        message = "the server is away"
        raise EmbedderUnavailable(message)

    limits = Limits(unavailable_retry=60, blocked_seconds=0.000_001)
    driver = Driver(engine, embedder=WilfulEmbedder(before=refuse), limits=limits)
    job = driver.index(root)
    assert job.status == JobStatus.BLOCKED
    jobs.sweep(driver.bench, driver.office.outbox)
    ended = jobs.status(engine, job.job_id)
    assert (ended.status, ended.error_type) == (JobStatus.FAILED, "TimeLimitExceeded")
    assert "the server is away; this lasted longer" in (ended.error_message or "")


def test_an_empty_repository_fails_unless_it_had_content(engine: Engine, tmp_path: Path) -> None:
    """No indexable file is a failure; when everything was removed it completes and says so (R09)."""
    root = tmp_path / "empty"
    root.mkdir()
    driver = Driver(engine)
    assert (driver.index(root).error_message or "").startswith("no indexable files found")
    (root / "a.py").write_text("x = 1\n")
    driver.index(root)
    (root / "a.py").unlink()
    job = driver.index(root)
    assert (job.status, job.progress_message) == (
        JobStatus.COMPLETED,
        "Completed: no indexable files found any more; 1 removed",
    )


def test_a_repository_above_the_limit_is_refused_with_its_size(engine: Engine, root: Path) -> None:
    """The scan fails the job and names the size and the limit (R08)."""
    job = Driver(engine, limits=Limits(max_repository_bytes=100)).index(root)
    assert job.status == JobStatus.FAILED
    assert "MAX_REPO_SIZE_GB" in (job.error_message or "")


def test_jobs_beyond_the_limit_wait_their_turn(engine: Engine, tmp_path: Path) -> None:
    """Later jobs stay pending and start by themselves, oldest first (R16)."""
    driver = Driver(engine, limits=Limits(max_running_jobs=1))
    submitted = []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(f"{name} = 1\n")
        submitted.append(jobs.submit(driver.office, JobRequest(repo_path=str(tmp_path / name))).job_id)
    driver.drain(Stage.SCAN)
    states = [jobs.status(engine, job_id).status for job_id in submitted]
    assert states == [JobStatus.RUNNING, JobStatus.PENDING, JobStatus.PENDING]
    driver.drain()
    ended = [jobs.status(engine, job_id).completed_at for job_id in submitted]
    assert None not in ended
    assert ended == sorted(ended, key=str)


class Witnessed(LeasedMessage):
    """A message whose stage is looked at from outside just before it commits."""

    look: Callable[[], object]
    seen: object = None

    def complete(self, connection: Connection) -> None:
        """Look, then complete."""
        self.seen = self.look()
        super().complete(connection)


def test_a_search_sees_the_old_chunks_of_a_file_or_the_new_ones(engine: Engine, root: Path) -> None:
    """Until the writer's commit every other session sees the whole of what was, and then the whole of what is (R35)."""
    driver = Driver(engine)
    driver.index(root)
    before = chunk_set(engine)
    for number in range(10):
        (root / "src" / f"part{number:02}.py").write_text(f"def other_{number}():\n    return 'other'\n")
    (root / "src" / "part11.py").write_bytes(b"\0")
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.drain(Stage.SCAN, Stage.CHUNK, Stage.EMBED)
    while (message := driver.claim(Stage.WRITE)) is not None:
        witnessed = Witnessed(message.lease)
        witnessed.look = lambda: chunk_set(engine)
        driver.work(witnessed)
        assert witnessed.seen == before
        assert chunk_set(engine) != before
        before = chunk_set(engine)
        driver.drain(Stage.CHUNK, Stage.EMBED)
    assert jobs.status(engine, job.job_id).status == JobStatus.COMPLETED


def test_a_search_finds_a_function_by_its_meaning_while_the_job_runs(engine: Engine, root: Path) -> None:
    """What is written is searchable at once, and the answer says how much that is (R52)."""
    driver = Driver(engine)
    job = jobs.submit(driver.office, JobRequest(repo_path=str(root)))
    driver.drain(until=lambda: jobs.status(engine, job.job_id).batches_done == 1)
    found = search(engine, driver.bench.embedder_for, SearchRequest("work on a step of an order"))
    assert found.index_state == "partial"
    assert 0 < found.coverage < 1
    assert found.results[0].symbol.startswith("part_")
    driver.drain()
    assert search(engine, driver.bench.embedder_for, SearchRequest("order")).coverage == 1
