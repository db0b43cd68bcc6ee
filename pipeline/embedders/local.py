"""The embedder that needs no service and no download: words, their stems and their meaning, hashed into one space."""

from __future__ import annotations

import threading
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.embedders import Embedded, unheeding
from pipeline.embedders.vocabulary import CONCEPTS, stem, weight
from pipeline.tokenizing import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
LONGEST_SPELLED: Final = 14
"""Longer words are joined identifiers, whose parts count already: how they are spelled adds cost and no meaning."""
BLOCK: Final = 1_024
SLICE: Final = 100_000
"""Characters that are embedded between two looks at whether to go on: some 0.03 s of work, 0.1 s on a slow machine."""
ROW_LENGTH: Final = 400
"""The length of a stored row, whose 256 components then fit int8."""


class LocalEmbedder:
    """A static model: a text is the weighted sum of its words' vectors; safe to call from several threads."""

    name: Final = "local"
    model: Final = MODEL
    batch_size: Final = BATCH_SIZE

    def __init__(self, capacity: int = 150_000) -> None:
        """Keep the vectors of at most `capacity` words, 256 bytes each."""
        self._words = WordVectors(capacity)

    def embed(self, passages: Sequence[Passage], heed: Callable[[], None] = unheeding) -> Embedded:
        """Embed n passages, and call `heed` in between; a passage's vector does not depend on its neighbours."""
        vectors = np.empty((len(passages), DIMENSION), np.float32)
        for start, stop in slices(passages):
            if start:
                heed()
            self._fill(vectors[start:stop], passages[start:stop])
        return Embedded(vectors)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a search query; shape (256,), float32, unit length."""
        return self._vector({word: count**0.5 for word, count in Counter(words(query)).items()}, query)

    def _fill(self, vectors: NDArray[np.float32], passages: Sequence[Passage]) -> None:
        """Write the vectors of n passages into an array of shape (n, 256)."""
        weights = [weighed(passage) for passage in passages]
        self._words.learn(chain.from_iterable(weights))
        for row, weight_of, passage in zip(vectors, weights, passages, strict=True):
            row[:] = self._vector(weight_of, passage.content)

    def _vector(self, weights: dict[str, float], text: str) -> NDArray[np.float32]:
        """Return the unit vector of weighted words, or of whatever stands between the blanks of a text without any."""
        weights = weights or {piece[:LONGEST_PIECE]: 1.0 for piece in text.split()} or {"": 1.0}
        rows, gains = self._words.look_up(weights)
        gains *= np.fromiter(weights.values(), np.float32, len(weights))
        total: NDArray[np.float32] = np.add.reduce(rows * gains[:, None], axis=0)
        vector: NDArray[np.float32] = total / np.sqrt(np.square(total).sum())
        return vector


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
            return word_vectors(wanted), np.array([*map(weight, wanted)], np.float32)
        with self._lock:
            self._learn(wanted)
            places = [self._places[word] for word in wanted]
            return self._rows[places], self._gains[places]

    def learn(self, wanted: Iterable[str]) -> None:
        """Make the vectors of many words at once, which is cheaper, as far as there is room for them."""
        with self._lock:
            self._learn(list(islice(dict.fromkeys(wanted), self._capacity)))

    def _learn(self, wanted: list[str]) -> None:
        """Make the vectors of words that are new; when the table is full it is begun afresh."""
        new = [word for word in wanted if word not in self._places]
        if not new:
            return
        if len(self._places) + len(new) > self._capacity:
            self._places.clear()
            new = wanted
        start = len(self._places)
        self._places.update(zip(new, range(start, start + len(new)), strict=True))
        self._rows[start : start + len(new)] = word_vectors(new)
        self._gains[start : start + len(new)] = [*map(weight, new)]


def word_vectors(wanted: Sequence[str]) -> NDArray[np.int8]:
    """Return the vectors of n words, shape (n, 256), made in blocks that bound the memory."""
    blocks = [_word_vectors(wanted[at : at + BLOCK]) for at in range(0, len(wanted), BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty((0, DIMENSION), np.int8)


def _word_vectors(wanted: Sequence[str]) -> NDArray[np.int8]:
    """Add up the signs of each word's features; in whole numbers, so that every machine gets the same."""
    starts: list[int] = []
    features: list[str] = []
    shares: list[int] = []
    for word in wanted:
        starts.append(len(features))
        for feature, share in features_of(word):
            features.append(feature)
            shares.append(share)
    bits = np.unpackbits(np.frombuffer(b"".join(map(digest, features)), np.uint8)).reshape(-1, DIMENSION)
    signed = (2 * bits.astype(np.int16) - 1) * np.asarray(shares, np.int16)[:, None]
    total = np.add.reduceat(signed, starts, axis=0, dtype=np.int16).astype(np.int32)  # a word adds up to some 1,400
    lengths = np.sqrt(np.square(total).sum(axis=1, keepdims=True, dtype=np.int64))
    vectors: NDArray[np.int8] = np.rint(total * (ROW_LENGTH / lengths)).astype(np.int8)
    return vectors


def features_of(word: str) -> list[tuple[str, int]]:
    """Return what a word's vector is made of, each with its share: its stem, how it is spelled, and what it means."""
    root, padded = stem(word), f"<{word}>"
    if len(word) > LONGEST_SPELLED:
        return [(f"stem {root}", STEM_SHARE)]
    grams = [padded[at : at + GRAM] for at in range(max(1, len(padded) - GRAM + 1))]
    spelling = round(SPELLING_SHARE / len(grams) ** 0.5)
    meaning = [(f"concept {CONCEPTS[root]}", CONCEPT_SHARE)] if root in CONCEPTS else []
    return [(f"stem {root}", STEM_SHARE), *((gram, spelling) for gram in grams), *meaning]


@lru_cache(maxsize=1 << 14)
def digest(feature: str) -> bytes:
    """Return a feature's 256 pseudo-random bits."""
    return blake2b(feature.encode("utf-8", "replace"), digest_size=DIMENSION // 8).digest()
