"""Words without their endings, about as Porter's algorithm leaves them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

SHORTEST: Final = 3
ENDINGS: Final = (
    ("sses", "ss"),
    ("ies", "y"),
    ("ss", "ss"),
    ("us", "us"),
    ("s", ""),
    ("ational", "ate"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("iveness", "ive"),
    ("ment", ""),
    ("ness", ""),
    ("able", ""),
    ("ible", ""),
    ("ally", "al"),
    ("ly", ""),
    ("ing", ""),
    ("ed", ""),
    ("er", ""),
    ("or", ""),
    ("ion", ""),
    ("e", ""),
)
VOWEL: Final = re.compile(r"[aeiouy]")
DOUBLE: Final = re.compile(r"([^aeiouylsz])\1$")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return a lower-case word's stem: `parsing`, `parsed`, `parser` and `parse` have one."""
    for ending, instead in ENDINGS:
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= SHORTEST and VOWEL.search(rest):
            word = rest + instead
    return DOUBLE.sub(r"\1", word)
