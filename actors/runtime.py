"""What every doorman does: take the message, run its stage, say once what came of it, or have it mended."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Final, Protocol, cast

import structlog
from dramatiq.middleware import CurrentMessage, TimeLimit
from dramatiq.middleware.threading import Interrupt
from dramatiq.middleware.time_limit import TimeLimitExceeded

from actors import metering, watching
from actors.metering import Meter
from actors.watching import Deadlines, time_limits
from pipeline.errors import FileAtFault, LeaseLost
from pipeline.stages import mend
from pipeline.states import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from _typeshed import DataclassInstance

    from actors.lease import LeasedMessage
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench

MENDING_SECONDS: Final = 60.0
BATCH_LIMITS: Final = (Stage.CHUNK, Stage.WRITE)
"""The stages whose limit follows from PENSTOCK_BATCH_TIMEOUT_SECONDS."""

log = structlog.get_logger("penstock")


class StageFunction(Protocol):
    """A stage's checkpointed function; what it returns is its log line."""

    def __call__(self, bench: Workbench, subject: str, delivery: Delivery) -> DataclassInstance:
        """Work on one subject: a batch id, or the job id for the scan."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Bounds each message (R17): `interrupter` raises in its thread, and the parent sees its deadline pass later."""

    limits: Mapping[Stage, float] = field(default_factory=partial(time_limits, 30.0))
    deadlines: Deadlines = field(default_factory=Deadlines)
    interrupter: TimeLimit = field(default_factory=TimeLimit)

    @contextmanager
    def over(self, stage: Stage) -> Iterator[Callable[[], None]]:
        """Watch over the calling thread; yields what starts its time anew, to be called at each sign of progress."""
        renew = partial(self.begin, stage, self.limits[stage])
        renew()
        try:
            yield renew
        finally:
            self.deadlines.end()

    def begin(self, stage: Stage, seconds: float) -> None:
        """Give the calling thread so many seconds from now on."""
        self.interrupter.manager.add_timeout(get_ident(), seconds * 1_000)
        self.deadlines.begin(stage, seconds + watching.GRACE_SECONDS)

    def exceeded(self, stage: Stage) -> TimeoutError:
        """Return what a user is told when a stage took too long."""
        advice = "; PENSTOCK_BATCH_TIMEOUT_SECONDS sets the limit" if stage in BATCH_LIMITS else ""
        return TimeoutError(f"stage {stage} took longer than {self.limits[stage]:g} s{advice}")


@dataclass(frozen=True, slots=True)
class Runtime:
    """The workbench of this process, for its actors; `retire` asks the process to end once its messages are settled.

    What is said of a message is counted in the `meter`, too.
    """

    bench: Workbench
    watch: Watch = field(default_factory=Watch)
    meter: Meter = field(default_factory=Meter)
    retire: Callable[[], None] = lambda: None

    def perform(self, stage: Stage, work: StageFunction, subject: str) -> None:
        """Run a stage on the current message; whatever it raises is mended and the message settled."""
        message = cast("LeasedMessage", CurrentMessage.get_current_message())
        context: dict[str, object] = {"stage": str(stage), "job_id": message.job_id, "deliveries": message.deliveries}
        if stage is not Stage.SCAN:
            context["batch_id"] = int(subject)
        with structlog.contextvars.bound_contextvars(**context), self.watch.over(stage) as renew:
            message.on_progress = renew
            self._guarded(stage, lambda: self._run(stage, work, subject, message), subject, message)

    def _run(self, stage: Stage, work: StageFunction, subject: str, message: LeasedMessage) -> None:
        given_up = mend.give_up_on(self.bench, stage, subject, message)
        if given_up is not None:
            log.warning("batch.mended", action=given_up.action, reason=given_up.reason)
            self.meter.count_mended(given_up)
            return
        report = work(self.bench, subject, message)
        log.info(f"{stage}.done", **asdict(report))
        self.meter.count_report(stage, report)

    def _guarded(self, stage: Stage, run: Callable[[], None], subject: str, message: LeasedMessage) -> None:
        try:
            run()
        except LeaseLost as error:
            log.warning("lease.lost", reason=str(error))
            self.meter.add(metering.LEASES_LOST)
        except (Exception, Interrupt) as error:  # noqa: BLE001 - whatever a file does to a parser must not end the job
            self.watch.begin(stage, MENDING_SECONDS)
            told = self._told(stage, error)
            mended = mend.mend(self.bench, stage, subject, message, told)
            say = log.info if mended.action == "dropped" else log.warning
            say("batch.mended", action=mended.action, reason=mended.reason, error_type=type(told).__name__)
            self.meter.count_mended(mended)

    def _told(self, stage: Stage, error: BaseException) -> BaseException:
        """Return an error with words for a user in it, where Dramatiq and Python have none."""
        if isinstance(error, FileAtFault):
            return FileAtFault(error.index, self._told(stage, error.cause))
        if isinstance(error, TimeLimitExceeded):
            return self.watch.exceeded(stage)
        if isinstance(error, MemoryError):
            self._make_room(error)
            return MemoryError(f"stage {stage} needs more memory than PENSTOCK_WORKER_MEMORY_MB allows")
        return error

    def _make_room(self, error: MemoryError) -> None:
        """Drop what the stage had piled up, which the traceback keeps alive, and have the process replaced.

        Much of the memory does not go back to the system.
        """
        traceback.clear_frames(error.__traceback__)
        self.retire()
