"""Keeps the pairs of the sources that a table names; what was extracted once is read again."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from ops.model.collect import collect
from ops.model.pairs import pairs_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ops.model.collect import Source
    from ops.model.pairs import Pair

MOST_READ: Final = 1_500


def pairs_from(folder: Path, wanted: Iterable[Source]) -> list[Pair]:
    """Return the pairs of these sources, whose archives are fetched into the folder."""
    archives = [path for _, path in collect(folder, tuple(wanted))]
    (folder / "pairs").mkdir(exist_ok=True)
    with ProcessPoolExecutor() as pool:
        return [pair for file in pool.map(partial(_extracted, folder / "pairs"), archives) for pair in _read(file)]


def _extracted(folder: Path, archive: Path) -> Path:
    file = folder / f"{archive.name}.pickle"
    if not file.exists():
        file.write_bytes(pickle.dumps(pairs_of(archive, MOST_READ)))
    return file


def _read(file: Path) -> list[Pair]:
    pairs: list[Pair] = pickle.loads(file.read_bytes())  # noqa: S301 - our own
    return pairs
