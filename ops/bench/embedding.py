"""How many passages of about 1,000 characters the local embedder takes per second of CPU time, cold and warm."""

from __future__ import annotations

import sys
import sysconfig
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.embedders import Passage
from pipeline.embedders.local import BATCH_SIZE, LocalEmbedder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PASSAGES: Final = 4_096
CHARACTERS: Final = 1_000


def passages() -> Iterator[Passage]:
    """Cut the standard library's source into passages of whole lines."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py")):
        lines: list[str] = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            lines.append(line)
            if sum(map(len, lines)) >= CHARACTERS:
                yield Passage(path.stem, "\n".join(lines))
                lines.clear()


def rate(embedder: LocalEmbedder, given: Sequence[Passage]) -> float:
    """Return passages per second of CPU time."""
    started = time.process_time()
    for at in range(0, len(given), BATCH_SIZE):
        embedder.embed(given[at : at + BATCH_SIZE])
    return len(given) / (time.process_time() - started)


def main() -> None:
    """Print both rates."""
    given = tuple(islice(passages(), PASSAGES))
    embedder = LocalEmbedder()
    embedder.embed(given[:1])
    for name in ("cold", "warm"):
        sys.stdout.write(f"local, {name}: {rate(embedder, given):,.0f} passages a CPU-second of {len(given):,}\n")


if __name__ == "__main__":
    main()
