"""The vectors of the stand-in for Ollama: bags of hashed words, as good or as bad as a test wants them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.ollama_standin import Fault

WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\s\w]")
SPOILED: Final = {"nan": float("nan"), "infinite": float("inf"), "zero": 0.0}


def tokenized(text: str) -> list[str]:
    """Return the tokens of a text."""
    return WORD.findall(text)


def vector(tokens: list[str], dimension: int, width: int) -> NDArray[np.float64]:
    """Return a bag of hashed words, cut to `width`, at unit length and rounded: similar texts get near vectors."""
    total = np.zeros(dimension, np.float64)
    for word, count in Counter(token.lower() for token in tokens).items() or (("", 1),):
        total += count**0.5 * word_vector(word, dimension)
    total = total[:width]
    return np.asarray(np.round(total / np.linalg.norm(total), 6), np.float64)


@lru_cache(maxsize=20_000)
def word_vector(word: str, dimension: int) -> NDArray[np.int8]:
    """Return a word's pseudo-random signs, the same in every process."""
    bits = np.frombuffer(hashlib.shake_128(word.encode()).digest(-(-dimension // 8)), np.uint8)
    return np.unpackbits(bits)[:dimension].astype(np.int8) * 2 - 1


def spoiled(rows: list[list[float]], texts: list[str], fault: Fault | None) -> list[list[float]]:
    """Return the vectors as the fault wants them."""
    if fault is None:
        return rows
    if fault.kind == "fewer":
        return rows[:-1]
    marked = [fault.marker in text for text in texts]
    if fault.kind == "dimension":
        return [row[: len(row) // 2] if mark else row for row, mark in zip(rows, marked, strict=True)]
    if fault.kind not in SPOILED:
        return rows
    return [[SPOILED[fault.kind]] * len(row) if mark else row for row, mark in zip(rows, marked, strict=True)]
