"""The chunker: takes a batch and runs the chunk stage on it; nothing clever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dramatiq

from pipeline.stages.chunk import chunk
from pipeline.states import Stage

if TYPE_CHECKING:
    from actors.broker import LeaseBroker
    from actors.runtime import Runtime


def declare(broker: LeaseBroker, runtime: Runtime) -> None:
    """Declare the actor on a broker."""

    @dramatiq.actor(broker=broker, actor_name=Stage.CHUNK, queue_name=Stage.CHUNK)
    def chunker(batch_id: str) -> None:
        runtime.perform(Stage.CHUNK, chunk, batch_id)
