"""Embedders that count, refuse or fail on demand, around the local one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.embedders import Embedded, unheeding
from pipeline.embedders.local import LocalEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pipeline.embedders import Passage


@dataclass
class WilfulEmbedder:
    """Embeds as the local embedder does, counts what it was asked, and first lets `before` raise what it likes.

    Passages that hold `rejected` fail alone; `model` and `dimension` can be changed to be another vector space.
    """

    model: str = LocalEmbedder.model
    name: str = "local"
    batch_size: int = 16
    dimension: int = 256
    rejected: str = "\0"
    before: Callable[[Sequence[Passage]], None] = lambda _passages: None
    seen: list[Passage] = field(default_factory=list)

    def embed(self, passages: Sequence[Passage], heed: Callable[[], None] = unheeding) -> Embedded:
        """Count and embed; see the class."""
        self.before(passages)
        self.seen += passages
        answer = LocalEmbedder().embed(passages, heed)
        failed = {at: "it was rejected" for at, passage in enumerate(passages) if self.rejected in passage.content}
        return Embedded(answer.vectors[:, : self.dimension], failed)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a query as the local embedder does."""
        return np.asarray(LocalEmbedder().embed_query(query)[: self.dimension])
