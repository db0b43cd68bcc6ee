"""The embedder port: what every provider offers, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Passage:
    """What is embedded of a chunk: its symbol path ("" when it has none) and its text."""

    symbol: str
    content: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer to one request of n passages.

    `vectors` has shape (n, dimension), float32, rows of unit length; a row named in `failed` is all zeros and must not
    be stored. `failed` maps a position to the reason; `truncated` counts the passages that were cut to fit.
    """

    vectors: NDArray[np.float32]
    failed: Mapping[int, str] = field(default_factory=dict)
    truncated: int = 0


def unheeding() -> None:
    """Heed nothing: the call is never given up."""


class Embedder(Protocol):
    """A provider of vectors for passages and for queries; safe to call from several threads."""

    @property
    def name(self) -> str:
        """The provider: `local` or `ollama`."""

    @property
    def model(self) -> str:
        """The model's name; with the provider and the dimension it identifies a vector space."""

    @property
    def batch_size(self) -> int:
        """The largest number of passages that one request should hold."""

    def embed(self, passages: Sequence[Passage], heed: Callable[[], None] = unheeding) -> Embedded:
        """Embed n passages in one request.

        `heed` is called at least every 0.5 s until the answer is there. What it raises ends the call at once and comes
        through unchanged; a server is told to stop by closing its connection (R30).

        Raises EmbedderUnavailable when the provider is away, ModelMissing when it lacks the model. Faults of single
        passages are in the answer's `failed`, by position.
        """

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a search query; shape (dimension,), float32, unit length. Raises as `embed` does."""
