"""Turns code and prose into the lower-case words by which text is searched and embedded."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import chain
from typing import Final

WORD_LENGTH: Final = 64
BLOB_LENGTH: Final = 256
"""A run of letters and digits that is longer than this is no identifier but data: only its start is kept."""
CACHED_IDENTIFIERS: Final = 1 << 16

_IDENTIFIER = re.compile(r"\w+")
_SPACED = bytes(code if chr(code).isalnum() or code == ord("_") else ord(" ") for code in range(256))
_PART = re.compile(
    r"[A-Za-z]\d+[a-z](?![a-z])"  # i18n, k8s, e2e
    r"|[A-Z]{2,}s(?![a-z])"  # IDs, URLs
    r"|[A-Z]+(?=[A-Z][a-z])"  # HTTP in HTTPServer
    r"|[A-Z]?[a-z]+\d*"  # Server, utf8
    r"|[A-Z]+\d*"  # HTTP2, URL
    r"|\d+"
)
_HASH = re.compile(r"0[xX][0-9a-fA-F_]{5,}[uUlL]*|(?=(?:\D*\d){3})(?=.*[a-fA-F])[0-9a-fA-F]{8,}")
_HEX = re.compile(r"0[xX][0-9a-fA-F]+")
_MEANINGFUL_DIGITS = range(2, 6)
"""Numbers with so many digits are status codes, ports, sizes and years; others say nothing."""


def words(text: str) -> list[str]:
    """Return the words of a text in order, duplicates included.

    Identifiers are split where their case changes and at underscores, and those of several parts are followed by the
    joined whole: `getUserName` gives get, user, name, getusername. Long numbers and hashes are dropped.
    """
    return list(chain.from_iterable(map(_parts, identifiers(text))))


def subwords(text: str) -> list[str]:
    """Return the words of a text in order, as `words` does, without the joined wholes."""
    return list(chain.from_iterable(map(subwords_of, identifiers(text))))


def joined(text: str) -> str:
    """Return the words of a text in one: what `get_user_name`, `getUserName` and "get user name" have in common."""
    return "".join(subwords(text))[:WORD_LENGTH]


def identifiers(text: str) -> list[str]:
    """Return the runs of letters, digits and underscores of a text, in order."""
    if text.isascii():  # four times as fast as the pattern, which means the same
        return text.encode().translate(_SPACED).decode().split()
    return _IDENTIFIER.findall(unicodedata.normalize("NFC", text))


@lru_cache(maxsize=CACHED_IDENTIFIERS)
def _parts(identifier: str) -> tuple[str, ...]:
    if len(identifier) > BLOB_LENGTH:
        return (identifier[:WORD_LENGTH].lower(),)
    if _HASH.fullmatch(identifier):
        return ()
    if _HEX.fullmatch(identifier):
        return (identifier.lower(),)
    spans = [match.span() for match in _PART.finditer(_shape(identifier))]
    parts = [identifier[start:end].lower() for start, end in spans]
    whole = ["".join(parts)[:WORD_LENGTH]] if len(parts) > 1 else []
    return (*(part[:WORD_LENGTH] for part in parts if _says_something(part)), *whole)


@lru_cache(maxsize=CACHED_IDENTIFIERS)
def subwords_of(identifier: str) -> tuple[str, ...]:
    """Return the words of an identifier."""
    parts = _parts(identifier)
    return parts[:-1] if len(parts) > 1 else parts


def _shape(identifier: str) -> str:
    """Return the identifier with every letter replaced by an ASCII letter of its case, every digit by an ASCII one."""
    if identifier.isascii():
        return identifier
    return "".join(map(_shape_of, identifier))


def _shape_of(character: str) -> str:
    if character.isascii():
        return character
    if character.isdecimal():
        return "0"
    return "A" if character.isupper() else "a"


def _says_something(part: str) -> bool:
    return not part.isdecimal() or len(part) in _MEANINGFUL_DIGITS
