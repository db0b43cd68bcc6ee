"""Words without their endings, about as Porter's algorithm leaves them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

SHORTEST: Final = 3
PLURALS: Final = (("sses", "ss"), ("ies", "y"), ("ss", "ss"), ("us", "us"), ("is", "is"), ("s", ""))
"""The first that fits is taken."""
ENDINGS: Final = (
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
"""Each that fits is taken, in this order."""
VOWEL: Final = re.compile(r"[aeiouy]")
DOUBLE: Final = re.compile(r"([^aeiouylsz])\1$")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return a lower-case word's stem: `parsing`, `parsed`, `parser` and `parse` have one."""
    plural = next(((end, instead) for end, instead in PLURALS if word.endswith(end)), ("", ""))
    for ending, instead in (plural, *ENDINGS):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= SHORTEST and VOWEL.search(rest):
            word = rest + instead
    return DOUBLE.sub(r"\1", word)
