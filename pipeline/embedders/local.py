"""The embedder that needs no service and no download: words, their stems and their meaning, hashed into one space."""

from __future__ import annotations

import threading
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.embedders import Embedded
from pipeline.embedders.vocabulary import CONCEPTS, stem, weight
from pipeline.tokenizing import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pipeline.embedders import Passage

MODEL: Final = "penstock-hash-1"
DIMENSION: Final = 256
BATCH_SIZE: Final = 512
SYMBOL_GAIN: Final = 3.4
SIGNATURE_GAIN: Final = 1.4
BODY_GAIN: Final = 1.0
STEM_SHARE: Final = 100
CONCEPT_SHARE: Final = 100
SPELLING_SHARE: Final = 150
GRAM: Final = 4
LONGEST_PIECE: Final = 64
ROW_LENGTH: Final = 400
"""The length of a stored row, whose 256 components then fit int8."""


class LocalEmbedder:
    """A static model: a text is the weighted sum of its words' vectors; safe to call from several threads."""

    name: Final = "local"
    model: Final = MODEL
    batch_size: Final = BATCH_SIZE

    def __init__(self, capacity: int = 40_000) -> None:
        """Keep the vectors of at most `capacity` words, 256 bytes each."""
        self._words = WordVectors(capacity)

    def embed(self, passages: Sequence[Passage]) -> Embedded:
        """Embed n passages; never fails, and a passage's vector does not depend on its neighbours."""
        vectors = np.empty((len(passages), DIMENSION), np.float32)
        for row, passage in zip(vectors, passages, strict=True):
            row[:] = self._vector(weighed(passage), passage.content)
        return Embedded(vectors)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a search query; shape (256,), float32, unit length."""
        return self._vector({word: count**0.5 for word, count in Counter(words(query)).items()}, query)

    def _vector(self, weights: dict[str, float], text: str) -> NDArray[np.float32]:
        """Return the unit vector of weighted words, or of whatever stands between the blanks of a text without any."""
        weights = weights or {piece[:LONGEST_PIECE]: 1.0 for piece in text.split()} or {"": 1.0}
        rows, gains = self._words.look_up(weights)
        gains *= np.fromiter(weights.values(), np.float32, len(weights))
        total: NDArray[np.float32] = np.add.reduce(rows * gains[:, None], axis=0)
        vector: NDArray[np.float32] = total / np.sqrt(np.square(total).sum())
        return vector


def weighed(passage: Passage) -> dict[str, float]:
    """Return each word's weight: √count in the symbol, the first line and the rest, times the gain of the field."""
    signature, _, body = passage.content.partition("\n")
    total: dict[str, float] = {}
    for text, gain in ((passage.symbol, SYMBOL_GAIN), (signature, SIGNATURE_GAIN), (body, BODY_GAIN)):
        for word, count in Counter(words(text)).items():
            total[word] = total.get(word, 0.0) + gain * count**0.5
    return total


class WordVectors:
    """A bounded table of word vectors, each made at its first use and the same in every process."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows = np.zeros((capacity, DIMENSION), np.int8)
        self._gains = np.zeros(capacity, np.float32)
        self._places: dict[str, int] = {}
        self._lock = threading.Lock()

    def look_up(self, wanted: Iterable[str]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Return the rows, shape (n, 256), and the weights, shape (n,), of n words."""
        wanted = list(wanted)
        if len(wanted) > self._capacity:
            return np.stack([*map(word_vector, wanted)]), np.array([*map(weight, wanted)], np.float32)
        with self._lock:
            places = [self._places.get(word, -1) for word in wanted]
            if -1 in places:
                places = self._learn(wanted)
            return self._rows[places], self._gains[places]

    def _learn(self, wanted: list[str]) -> list[int]:
        """Return the places of words that may be new; when the table is full it is begun afresh."""
        if len(self._places) + len(wanted) > self._capacity:
            self._places.clear()
        return [self._place(word) for word in wanted]

    def _place(self, word: str) -> int:
        place = self._places.get(word)
        if place is None:
            place = self._places[word] = len(self._places)
            self._rows[place] = word_vector(word)
            self._gains[place] = weight(word)
        return place


def word_vector(word: str) -> NDArray[np.int8]:
    """Return a word's vector, shape (256,): its stem, what it means, and how it is spelled.

    Whole numbers up to the last step, so that every machine gets the same.
    """
    root, padded = stem(word), f"<{word}>"
    grams = [padded[at : at + GRAM] for at in range(max(1, len(padded) - GRAM + 1))]
    features = [f"stem {root}", *grams]
    shares = [STEM_SHARE, *[round(SPELLING_SHARE / len(grams) ** 0.5)] * len(grams)]
    if root in CONCEPTS:
        features.append(f"concept {CONCEPTS[root]}")
        shares.append(CONCEPT_SHARE)
    bits = np.unpackbits(np.frombuffer(b"".join(map(digest, features)), np.uint8)).reshape(-1, DIMENSION)
    total = 2 * (np.asarray(shares, np.int32) @ bits) - sum(shares)  # the bits as signs
    vector: NDArray[np.int8] = np.rint(total * (ROW_LENGTH / float(total @ total) ** 0.5)).astype(np.int8)
    return vector


@lru_cache(maxsize=1 << 14)
def digest(feature: str) -> bytes:
    """Return a feature's 256 pseudo-random bits."""
    return blake2b(feature.encode("utf-8", "replace"), digest_size=DIMENSION // 8).digest()
