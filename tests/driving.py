"""Drives the pipeline without worker processes: claims messages and runs their stages here, in a chosen way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from actors.lease import LeasedMessage
from pipeline import jobs
from pipeline.embedders import choosing
from pipeline.errors import LeaseLost
from pipeline.jobs import Office
from pipeline.mirroring import Mirrors
from pipeline.records import JobRequest, Limits
from pipeline.stages import mend
from pipeline.stages.chunk import chunk
from pipeline.stages.embed import embed
from pipeline.stages.scan import scan
from pipeline.stages.workbench import Workbench
from pipeline.stages.write import write
from pipeline.states import Stage
from pipeline.store import messages

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy import Engine

    from pipeline.embedders import Embedder
    from pipeline.records import Job

STAGES: Final = {Stage.SCAN: scan, Stage.CHUNK: chunk, Stage.EMBED: embed, Stage.WRITE: write}
SMALL: Final = Limits(batch_files=4, job_window=3)


@dataclass
class Driver:
    """A worker of all stages in this process; `times` is how often each message is worked on."""

    engine: Engine
    embedder: Embedder = field(default_factory=lambda: choosing.choose("local", "", choosing.EmbedderConfig()))
    limits: Limits = SMALL
    times: int = 1
    mirrors: Mirrors = field(default_factory=lambda: Mirrors(Path("/nowhere")))
    mended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bench = Workbench(self.engine, self.limits, lambda _name, _model: self.embedder, self.mirrors)
        self.office = Office(self.engine, messages.MessageOutbox(), self.embedder.name, self.embedder.model)

    def index(self, root: Path | str, *, force: bool = False, include: tuple[str, ...] = ()) -> Job:
        """Submit a repository, run every stage to the end, and return the job."""
        job = jobs.submit(self.office, JobRequest(repo_path=str(root), force_reindex=force, include=include))
        self.drain()
        return jobs.status(self.engine, job.job_id)

    def begin(self, root: Path) -> UUID:
        """Submit a repository that nobody works on yet, and return the job's id."""
        return jobs.submit(self.office, JobRequest(repo_path=str(root))).job_id

    def drain(self, *stages: Stage, until: Callable[[], bool] = lambda: False) -> int:
        """Work on messages of these stages (all, later ones first) until none is due; return how many there were."""
        done = 0
        while not until() and self.step(*stages):
            done += 1
        return done

    def step(self, *stages: Stage) -> bool:
        """Work on one message; False when none is due."""
        message = self.claim(*stages)
        if message is None:
            return False
        for _ in range(self.times):
            self.work(message)
        return True

    def claim(self, *stages: Stage) -> LeasedMessage | None:
        """Take one message, as a worker does."""
        order = stages or (Stage.WRITE, Stage.EMBED, Stage.CHUNK, Stage.SCAN)
        with self.engine.begin() as connection:
            leases = messages.claim(connection, order, 1, 0)
        return LeasedMessage(leases[0]) if leases else None

    def work(self, message: LeasedMessage) -> None:
        """Run the stage of a message, and mend what it raises."""
        stage, subject = Stage(message.actor_name), str(message.args[0])
        try:
            if mend.give_up_on(self.bench, stage, subject, message) is None:
                STAGES[stage](self.bench, subject, message)
        except LeaseLost:
            self.mended.append("lease lost")
        except Exception as error:  # noqa: BLE001 - as the actors do
            self.note(stage, subject, message, error)

    def note(self, stage: Stage, subject: str, message: LeasedMessage, error: Exception) -> None:
        """Have an error mended, and remember what was done."""
        try:
            self.mended.append(mend.mend(self.bench, stage, subject, message, error).action)
        except LeaseLost:
            self.mended.append("lease lost")
