"""Refuses texts and numbers that the database could not hold, before anything is stored (R06, R53)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.errors import UNSTORABLE, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST: Final = 1_000
FARTHEST: Final = 10_000


def texts(**named: str | Iterable[str] | None) -> None:
    """Raise ValidationError for a text with a NUL or a lone surrogate, or of more than 1,000 characters."""
    for name, given in named.items():
        for text in (given,) if isinstance(given, str) else given or ():
            if UNSTORABLE.search(text):
                raise ValidationError(f"{name} {text!r} holds a NUL or a character that is no Unicode text")
            if len(text) > LONGEST:
                raise ValidationError(f"{name} has {len(text):,} characters, at most {LONGEST:,} are allowed")


def offset(number: int) -> None:
    """Raise ValidationError for an offset that is negative or beyond 10,000."""
    if not 0 <= number <= FARTHEST:
        raise ValidationError(f"offset {number} is not between 0 and {FARTHEST:,}")
