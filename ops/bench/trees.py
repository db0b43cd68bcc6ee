"""Grows trees of source files of any size out of real ones, for benchmarks that need many chunks with real geometry."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count, islice
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SUFFIXES: Final = frozenset(".c .cc .cpp .go .h .hpp .java .js .kt .php .py .rb .rs .scala .ts .tsx".split())
SIZES: Final = range(500, 60_000)
CHARACTERS: Final = 665
"""Of a file, for one chunk: roughly, over all languages."""
WORD: Final = re.compile(r"[A-Za-z]{4,}")
CHANGED: Final = 0.4
"""The share of a file's words that a copy of it replaces by words of another file."""
FOLDER_FILES: Final = 200


def grow(sources: Sequence[Path], target: Path, chunks: int, *, first: int = 0) -> None:
    """Write source files for about so many chunks below `target`: real ones, then copies of them in other words.

    A copy keeps the form of its file, and takes two fifths of its vocabulary from another one. So its vectors lie apart
    from the original's, in the region of real code: neither duplicates nor noise. The same folders make the same
    tree; `first` is how many chunks others got before, whose files are not used again.
    """
    real = real_files(sources)
    if not real:
        message = f"no source files below {', '.join(map(str, sources))}: name a folder with code"
        raise SystemExit(message)
    with ProcessPoolExecutor(2) as pool:
        list(
            pool.map(partial(_write, real, target), _plan(real, first * CHARACTERS, chunks * CHARACTERS), chunksize=64)
        )


def real_files(sources: Sequence[Path]) -> list[Path]:
    """Return the source files below some folders, without copies."""
    found = sorted(path for source in sources for path in source.rglob("*") if _fits(path))
    return list({path.read_bytes(): path for path in reversed(found)}.values())


def _fits(path: Path) -> bool:
    return path.suffix in SUFFIXES and path.is_file() and path.stat().st_size in SIZES


def _plan(real: Sequence[Path], first: int, characters: int) -> Iterator[int]:
    """Yield the numbers of the files to write: after those of the `first` characters, until there are so many."""
    sizes = [path.stat().st_size for path in real]
    written = 0
    for number in count():
        if written >= first + characters:
            return
        if written >= first:
            yield number
        written += sizes[number % len(real)]


def _write(real: Sequence[Path], target: Path, number: int) -> None:
    source = real[number % len(real)]
    text = source.read_text(errors="replace")
    if number >= len(real):
        text = _reworded(text, real, Random(number))  # noqa: S311 - no secret
    folder = target / f"{number // FOLDER_FILES:05}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{source.stem}_{number}{source.suffix}").write_text(text)


def _reworded(text: str, real: Sequence[Path], random: Random) -> str:
    """Return a text with two fifths of its distinct words replaced by words of another file."""
    others = sorted(set(WORD.findall(random.choice(real).read_text(errors="replace"))))
    mine = sorted(set(WORD.findall(text)))
    chosen = islice(random.sample(mine, len(mine)), int(len(mine) * CHANGED))
    mapping = {word: random.choice(others) for word in chosen} if others else {}
    return WORD.sub(lambda match: mapping.get(match[0], match[0]), text)
