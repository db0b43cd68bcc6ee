"""The scanner: takes a job and runs the scan stage on it; nothing clever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import dramatiq

from pipeline.stages.scan import scan
from pipeline.states import Stage

if TYPE_CHECKING:
    from actors.broker import LeaseBroker
    from actors.runtime import Runtime

TIME_LIMIT: Final = 3_600_000
"""Milliseconds after which a scan is given up and tried again (R17)."""


def declare(broker: LeaseBroker, runtime: Runtime) -> None:
    """Declare the actor on a broker."""

    @dramatiq.actor(broker=broker, actor_name=Stage.SCAN, queue_name=Stage.SCAN, time_limit=TIME_LIMIT)
    def scanner(job_id: str) -> None:
        runtime.perform(Stage.SCAN, scan, job_id)
