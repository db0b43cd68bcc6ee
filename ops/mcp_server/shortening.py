"""Fits the passages of an answer into a number of characters, by whole lines, fairly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def shares(lengths: Sequence[int], budget: int) -> list[int]:
    """Return how many characters each text may have: what short ones leave over, long ones share."""
    granted = [0] * len(lengths)
    left = budget
    for done, index in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        granted[index] = min(lengths[index], left // (len(lengths) - done))
        left -= granted[index]
    return granted


def shorten(text: str, most: int) -> tuple[str, int | None]:
    """Return the whole lines of `text` that fit into `most` characters, and how many; None when all do.

    The first line is kept in any case, cut where it must be.
    """
    if len(text) <= most:
        return text, None
    kept = text[: most + 1].rpartition("\n")[0] or text.partition("\n")[0][:most]
    return kept, kept.count("\n") + 1
