"""The embedder: takes a batch and runs the embed stage on it; nothing clever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dramatiq

from pipeline.stages.embed import embed
from pipeline.states import Stage

if TYPE_CHECKING:
    from actors.broker import LeaseBroker
    from actors.runtime import Runtime


def declare(broker: LeaseBroker, runtime: Runtime) -> None:
    """Declare the actor on a broker."""

    @dramatiq.actor(broker=broker, actor_name=Stage.EMBED, queue_name=Stage.EMBED)
    def embedder(batch_id: str) -> None:
        runtime.perform(Stage.EMBED, embed, batch_id)
