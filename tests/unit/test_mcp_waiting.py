"""What wakes an agent that waits for a job, and what does not."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import anyio
import pytest

from ops.mcp_server.waiting import LOOK_SECONDS, STALL_SECONDS, News, Vigil, watch
from pipeline.errors import DatabaseError
from pipeline.records import Job
from pipeline.states import JobStatus

STALLED: Final = "Waiting: no worker online for stage scan"
AWAY: Final = DatabaseError("the database does not answer")


def job(status: JobStatus, stall: str | None = None) -> Job:
    """Return the record of a job that is in a state; what else it holds does not matter here."""
    empty = dict.fromkeys(Job.model_fields, None)
    counters = {name: 0 for name in Job.model_fields if name.startswith(("files", "bytes", "chunks", "batches"))}
    now = datetime.now(UTC)
    texts = dict.fromkeys(("project_id", "repo_path", "name", "embedder", "model", "progress_message"), "x")
    known = {"job_id": uuid4(), "created_at": now, "updated_at": now, "progress_percentage": 0.0}
    others = {"force_reindex": False, "stages": (), "passages_truncated": 0}
    return Job.model_validate(empty | counters | texts | known | others | {"status": status, "stall_reason": stall})


@pytest.mark.parametrize("status", JobStatus)
def test_every_change_but_admission_is_news(status: JobStatus) -> None:
    """From pending to running nobody is woken; a pause, an outage and every end wake (R10)."""
    vigil = Vigil(job(JobStatus.PENDING))
    assert vigil.over(job(status)) == (status not in {JobStatus.PENDING, JobStatus.RUNNING})


@pytest.mark.parametrize(("status", "over"), [(JobStatus.BLOCKED, False), (JobStatus.RUNNING, True)])
def test_a_blocked_job_is_waited_for_until_it_goes_on(status: JobStatus, *, over: bool) -> None:
    """Who asks about a job that is blocked already is woken when it no longer is (R13)."""
    assert Vigil(job(JobStatus.BLOCKED)).over(job(status)) == over


def test_a_standstill_is_news_when_it_lasts() -> None:
    """Workers that are starting make no news; a job that still stands still after five seconds does."""
    now = 100.0
    vigil = Vigil(job(JobStatus.RUNNING), clock=lambda: now)
    assert not vigil.over(job(JobStatus.RUNNING, STALLED))
    now += STALL_SECONDS - 1
    assert not vigil.over(job(JobStatus.RUNNING, STALLED))
    assert not vigil.over(job(JobStatus.RUNNING))
    now += 2
    assert not vigil.over(job(JobStatus.RUNNING, STALLED)), "it begins anew"
    now += STALL_SECONDS
    assert vigil.over(job(JobStatus.RUNNING, STALLED))


def test_a_standstill_that_was_known_is_no_news() -> None:
    """Who was told that a job stands still may wait for it all the same."""
    now = 100.0
    vigil = Vigil(job(JobStatus.PENDING, STALLED), clock=lambda: now)
    now += 2 * STALL_SECONDS
    assert not vigil.over(job(JobStatus.PENDING, STALLED))


@dataclass
class Answers:
    """What a look gives, one after the other, the last for ever; each look makes news, so that none is waited for."""

    answers: list[Job | DatabaseError]
    shown: list[Job] = field(default_factory=list)

    def watched(self, seconds: float) -> Job:
        """Watch for so long at most."""
        return anyio.run(self._watch, seconds)

    async def _watch(self, seconds: float) -> Job:
        news, rest = News(), iter(self.answers)

        async def look() -> Job:
            news.tell()
            answer = next(rest, self.answers[-1])
            if isinstance(answer, DatabaseError):
                raise answer
            return answer

        return await watch(look, news, time.monotonic() + seconds, self._show)

    async def _show(self, job: Job) -> None:
        self.shown.append(job)


def test_a_database_that_goes_away_meanwhile_is_waited_for() -> None:
    """A restart of the server costs a waiting agent nothing (R33)."""
    end = job(JobStatus.COMPLETED)
    answers = Answers([job(JobStatus.RUNNING), AWAY, AWAY, end])
    assert answers.watched(30) == end
    assert len(answers.shown) == 3


def test_a_database_that_stays_away_is_an_error_at_the_deadline() -> None:
    """What was true before the outage is not told as if it were still."""
    with pytest.raises(DatabaseError):
        Answers([job(JobStatus.RUNNING), AWAY]).watched(0.2)


def test_a_wait_without_news_looks_all_the_same() -> None:
    """An announcement that was lost delays the answer by a look at most (R26)."""
    answers = iter([job(JobStatus.RUNNING), job(JobStatus.PAUSED)])

    async def look() -> Job:
        return next(answers)

    async def show(_: Job) -> None:
        pass

    async def quiet() -> Job:
        return await watch(look, News(), time.monotonic() + 60, show)

    began = time.monotonic()
    assert anyio.run(quiet).status == JobStatus.PAUSED
    assert time.monotonic() - began < 10 * LOOK_SECONDS
