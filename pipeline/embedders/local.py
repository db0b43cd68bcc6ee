"""The embedder that needs no service and no download: the static model that comes with Penstock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.embedders import Embedded, unheeding
from pipeline.embedders.static_model import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pipeline.embedders import Passage

MODEL: Final = "penstock-code-3"
DIMENSION: Final = 256
BATCH_SIZE: Final = 512
SLICE: Final = 100_000
"""Characters that are embedded between two looks at whether to go on: some 0.03 s of work, 0.1 s on a slow machine."""


class LocalEmbedder:
    """A static model: a text is the weighted sum of its words' vectors; safe to call from several threads."""

    name: Final = "local"
    model: Final = MODEL
    batch_size: Final = BATCH_SIZE

    def embed(self, passages: Sequence[Passage], heed: Callable[[], None] = unheeding) -> Embedded:
        """Embed n passages, and call `heed` in between; a passage's vector does not depend on its neighbours."""
        model = load()
        vectors = np.empty((len(passages), DIMENSION), np.float32)
        for start, stop in slices(passages):
            if start:
                heed()
            for at in range(start, stop):
                vectors[at] = model.of_passage(passages[at])
        return Embedded(vectors)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a search query; shape (256,), float32, unit length."""
        return load().of_query(query)


def slices(passages: Sequence[Passage]) -> Iterator[tuple[int, int]]:
    """Cut n passages into runs that take a moment each; yield the first and the last position, exclusive."""
    start = length = 0
    for at, passage in enumerate(passages):
        if length > SLICE:
            yield start, at
            start, length = at, 0
        length += len(passage.content)
    if start < len(passages):
        yield start, len(passages)
