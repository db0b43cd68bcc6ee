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
    """Return the whole lines of `text` that fit into `most` characters, and how many they are; None when all fit.

    Where not even the first line fits, as much of it as does.
    """
    if len(text) <= most:
        return text, None
    whole = text[: most + 1].rpartition("\n")[0]
    return (whole, whole.count("\n") + 1) if whole else (text.partition("\n")[0][:most], 0)
