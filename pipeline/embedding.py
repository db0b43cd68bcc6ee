"""What is embedded of a chunk, what it is called by, and how its words are found again: no I/O."""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.embedders import Passage


def content_hash(symbol: str, content: str) -> bytes:
    """Return the 16 bytes that a passage's vector is stored under: equal passages have one vector a model (R44)."""
    return blake2b(f"{symbol}\n{content}".encode(), digest_size=16).digest()


def requests(passages: Iterable[tuple[bytes, Passage]], size: int) -> Iterator[tuple[tuple[bytes, Passage], ...]]:
    """Cut passages into requests of at most `size`."""
    remaining = iter(passages)
    while request := tuple(islice(remaining, size)):
        yield request
