"""What every doorman does: take the message, run its stage, say once what came of it, or have it mended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol, cast

import structlog
from dramatiq.middleware import CurrentMessage
from dramatiq.middleware.threading import Interrupt

from pipeline.errors import LeaseLost
from pipeline.stages import mend
from pipeline.states import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

    from actors.lease import LeasedMessage
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench

log = structlog.get_logger("penstock")


class StageFunction(Protocol):
    """A stage's checkpointed function; what it returns is its log line."""

    def __call__(self, bench: Workbench, subject: str, delivery: Delivery) -> DataclassInstance:
        """Work on one subject: a batch id, or the job id for the scan."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The workbench of this process, for its actors."""

    bench: Workbench

    def perform(self, stage: Stage, work: StageFunction, subject: str) -> None:
        """Run a stage on the current message; whatever it raises is mended and the message settled."""
        message = cast("LeasedMessage", CurrentMessage.get_current_message())
        about: dict[str, object] = {"job_id": subject} if stage is Stage.SCAN else {"batch_id": int(subject)}
        with structlog.contextvars.bound_contextvars(stage=str(stage), deliveries=message.deliveries, **about):
            self._guarded(stage, lambda: self._run(stage, work, subject, message), subject, message)

    def _run(self, stage: Stage, work: StageFunction, subject: str, message: LeasedMessage) -> None:
        given_up = mend.give_up_on(self.bench, stage, subject, message)
        if given_up is not None:
            log.warning("batch.mended", action=given_up.action, reason=given_up.reason)
            return
        log.info(f"{stage}.done", **asdict(work(self.bench, subject, message)))

    def _guarded(self, stage: Stage, run: Callable[[], None], subject: str, message: LeasedMessage) -> None:
        try:
            run()
        except LeaseLost as error:
            log.warning("lease.lost", reason=str(error))
        except (Exception, Interrupt) as error:  # noqa: BLE001 - whatever a file does to a parser must not end the job
            mended = mend.mend(self.bench, stage, subject, message, error)
            say = log.info if mended.action == "dropped" else log.warning
            say("batch.mended", action=mended.action, reason=mended.reason, error_type=type(error).__name__)
