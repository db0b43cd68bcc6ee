"""The writer: takes a batch and runs the write stage on it; nothing clever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dramatiq

from pipeline.stages.write import write
from pipeline.states import Stage

if TYPE_CHECKING:
    from actors.broker import LeaseBroker
    from actors.runtime import Runtime


def declare(broker: LeaseBroker, runtime: Runtime) -> None:
    """Declare the actor on a broker."""

    @dramatiq.actor(broker=broker, actor_name=Stage.WRITE, queue_name=Stage.WRITE)
    def writer(batch_id: str) -> None:
        runtime.perform(Stage.WRITE, write, batch_id)
