"""What every stage works with: the pool, the limits, the embedders; the batch that is due; the window of a job."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.errors import BatchMoved, JobStopped, LeaseLost
from pipeline.states import WORKING, BatchStage, Stage
from pipeline.store import batches, jobs, progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy import Connection, Engine

    from pipeline.embedders import Embedder
    from pipeline.mirroring import Mirrors
    from pipeline.records import Limits
    from pipeline.stages.delivery import Delivery, Outbox
    from pipeline.store.batches import Batch


@dataclass(frozen=True, slots=True)
class Workbench:
    """The tools of a worker process; `embedder_for` takes a provider and a model name."""

    engine: Engine
    limits: Limits
    embedder_for: Callable[[str, str], Embedder]
    mirrors: Mirrors

    def heed(self, job_id: UUID, held: Delivery | None = None) -> Heed:
        """Return what long work on a job calls in between; work that waits for others holds its message meanwhile."""
        return Heed(self.engine, job_id, held)

    def let_in(self, connection: Connection, job_id: UUID, outbox: Outbox) -> None:
        """Fill a job's window with its next batches and send their chunk messages (R37)."""
        for batch_id in batches.let_in(connection, job_id, self.limits.job_window):
            outbox.send(connection, Stage.CHUNK, str(batch_id), job_id)

    def admit(self, connection: Connection, outbox: Outbox) -> None:
        """Start the oldest pending jobs while there are places (R16)."""
        for job_id in jobs.admit(connection, self.limits.max_running_jobs):
            self.send_unfinished(connection, job_id, outbox)

    def send_unfinished(self, connection: Connection, job_id: UUID, outbox: Outbox) -> None:
        """Send whatever a job is waiting for: what is queued or worked on already is not sent twice."""
        job = jobs.get(connection, job_id)
        if job is not None and not job.scan_completed:
            outbox.send(connection, Stage.SCAN, str(job_id), job_id)
        for batch_id, stage in batches.in_flight(connection, job_id):
            outbox.send(connection, stage, str(batch_id), job_id)
        self.let_in(connection, job_id, outbox)


HEED_SECONDS: Final = 0.4
"""How often long work asks whether its job still runs."""


class Heed:
    """Call it often during long work on a job: raises JobStopped soon after the job was paused, cancelled or ended.

    A delivery that is `held` meanwhile does not exceed its time limit; LeaseLost when it was taken over.
    """

    def __init__(self, engine: Engine, job_id: UUID, held: Delivery | None = None) -> None:
        self._engine = engine
        self._job_id = job_id
        self._held = held
        self._asked_at = -math.inf

    def __call__(self) -> None:
        """Ask the database, unless it was asked a moment ago."""
        if time.monotonic() - self._asked_at < HEED_SECONDS:
            return
        with self._engine.begin() as connection:
            if not progress.is_working(connection, self._job_id):
                raise JobStopped(f"job {self._job_id} is not running any more")
            if self._held and not self._held.progressed(connection):
                raise LeaseLost(f"work on job {self._job_id} was taken over")
        self._asked_at = time.monotonic()


def due(connection: Connection, subject: str, stage: BatchStage) -> Batch:
    """Return a message's batch; raises BatchMoved when it is not due for this stage, JobStopped when its job rests."""
    batch = batches.load(connection, int(subject))
    if batch.stage != stage:
        raise BatchMoved(f"batch {subject} is due for {batch.stage}, not for {stage}")
    if batch.status not in WORKING:
        raise JobStopped(f"job {batch.job_id} is {batch.status}")
    return batch
