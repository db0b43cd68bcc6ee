"""The scanner: takes a job and runs the scan stage on it; nothing clever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dramatiq

from pipeline.stages.scan import scan
from pipeline.states import Stage

if TYPE_CHECKING:
    from actors.broker import LeaseBroker
    from actors.runtime import Runtime


def declare(broker: LeaseBroker, runtime: Runtime) -> None:
    """Declare the actor on a broker."""

    @dramatiq.actor(broker=broker, actor_name=Stage.SCAN, queue_name=Stage.SCAN)
    def scanner(job_id: str) -> None:
        runtime.perform(Stage.SCAN, scan, job_id)
