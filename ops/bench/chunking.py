"""Measures the speed of chunking, in megabytes per second of CPU time and language: `python -m ops.bench.chunking`."""

from __future__ import annotations

import sys
import sysconfig
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from pipeline.chunking import chunk
from pipeline.grammars import parse
from pipeline.grammars.tables import GRAMMARS
from pipeline.languages import language_of
from pipeline.tokenizing import words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_BYTES: Final = 1_000_000
HEAD_BYTES: Final = 4_000
MEGABYTE: Final = 1_000_000


class Speed(NamedTuple):
    """How one language fared: sizes in bytes, speeds in MB per CPU-second (`parse` is 0 without a grammar)."""

    language: str
    files: int
    size: int
    chunks: int
    chunk: float
    parse: float
    words: float


def read_texts(root: Path) -> dict[str, list[str]]:
    """Return the UTF-8 texts below a folder by language; binary and large files are left out."""
    texts: dict[str, list[str]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            content = path.read_bytes()
            try:
                texts[language_of(path.name, content[:HEAD_BYTES])].append(content.decode())
            except UnicodeDecodeError:
                continue
    return texts


def measure(language: str, texts: Sequence[str]) -> Speed:
    """Chunk, parse and tokenise the texts of one language, after a warm-up."""
    size = sum(len(text.encode()) for text in texts)
    chunk(texts[0], language)
    chunks = sum(len(chunk(text, language)) for text in texts)
    return Speed(
        language,
        len(texts),
        size,
        chunks,
        size / _cpu_seconds(lambda text: chunk(text, language), texts) / MEGABYTE,
        size / _cpu_seconds(lambda text: parse(text.encode(), language), texts) / MEGABYTE
        if language in GRAMMARS
        else 0.0,
        size / _cpu_seconds(words, texts) / MEGABYTE,
    )


def _cpu_seconds(work: Callable[[str], object], texts: Sequence[str]) -> float:
    started = time.process_time()
    for text in texts:
        work(text)
    return max(time.process_time() - started, 1e-9)


def main(arguments: Sequence[str]) -> None:
    """Print a row for every language below the folder named by the first argument (default: the standard library)."""
    root = Path(arguments[0] if arguments else sysconfig.get_path("stdlib"))
    table = Table("language", "files", "MB", "chunks", "chunk MB/s", "parse MB/s", "words MB/s", title=str(root))
    for language, texts in sorted(read_texts(root).items()):
        speed = measure(language, texts)
        table.add_row(
            speed.language,
            str(speed.files),
            f"{speed.size / MEGABYTE:.2f}",
            str(speed.chunks),
            f"{speed.chunk:.1f}",
            f"{speed.parse:.1f}" if speed.parse else "-",
            f"{speed.words:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
