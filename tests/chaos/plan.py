"""What happens, and in which order: drawn from the seed alone, so that it is the same every time; only times differ."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.chaos.kinds import Kind

GAPS: Final = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 6.0)
"""Seconds between two faults."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come: after how many seconds, for how many; `seed` decides whom it hits among those who are there."""

    kind: Kind
    after: float
    seconds: float
    seed: int

    def random(self) -> Random:
        """Return this fault's own source of chance."""
        return Random(self.seed)  # noqa: S311 - no secret


def dice(*names: object) -> Random:
    """Return the source of chance of this name: independent of all others, and of time."""
    return Random("/".join(map(str, names)))  # noqa: S311 - no secret


def faults(seed: int, turn: int, kinds: Sequence[Kind]) -> Iterator[Planned]:
    """Yield the faults of a round, without end."""
    random = dice(seed, turn, "faults")
    weights = [kind.weight for kind in kinds]
    while True:
        kind = random.choices(kinds, weights)[0]
        yield Planned(kind, random.choice(GAPS), random.uniform(*kind.seconds), random.getrandbits(32))
