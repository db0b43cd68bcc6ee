"""Pairs to learn from and to be judged by: what people wrote about a definition, and the definition without it.

Definitions are the product's own chunks, so that the model learns what it will be asked about.
"""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import tarfile
import zipfile
from bisect import bisect_right
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ops.bench.quality.definitions import bare, definitions
from ops.model.descriptions import LEAST_WORDS, LONGEST_QUERY, summary
from pipeline.chunking import chunk
from pipeline.embedders import Passage
from pipeline.languages import language_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pipeline.records import Chunk

LANGUAGES: Final = frozenset(
    "c cpp csharp go java javascript kotlin markdown php python ruby rust tsx typescript".split()
)
LARGEST_FILE: Final = 150_000
LONGEST_LINES: Final = 160
LONGEST_REMARKS: Final = 600
LEAST_OF_A_HEADING: Final = 3
SHORTEST_SECTION: Final = 80

PASSED_OVER: Final = re.compile(
    r"(^|/)(tests?|testing|__tests__|specs?|examples?|docs?|vendor|third_party|thirdparty|node_modules|min|umd|locales?"
    r"|migrations|_vendor|debian|benchmarks?|fixtures|testdata)(/|$)"
    r"|\.min\.|_pb2|\.pb\.go|zz_generated|\.d\.ts$|bundle|_test\.go$|test_[^/]*\.py$|\.(spec|test)\."
)
_DOCUMENTS = re.compile(r"(^|(?<=/))docs?/")
_HISTORY = re.compile(r"(change|history|news|release)[^/]*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """What somebody wrote about a definition, and the chunk that it begins in; `source` is the archive's name.

    The query is the first sentence, `remarks` what follows it, and neither is in the passage. `name` is the
    definition's own. Of a section of prose the query is the heading. A chunk that nothing is written about has none.
    """

    source: str
    language: str
    kind: str
    query: str
    passage: Passage
    remarks: str = ""
    name: str = ""


def pairs_of(archive: Path, most: int) -> list[Pair]:
    """Return up to `most` pairs of an archive's source files, and half as many chunks besides; the same each time."""
    files = sorted((path, read()) for path, read in members(archive) if _is_read(path))
    random.Random(1).shuffle(files)  # noqa: S311 - of no secret
    found: dict[bytes, Pair] = {}
    asked = 0
    for path, content in files:
        for pair in _pairs_in(archive.name, language_of(PurePath(path).name, b""), content):
            told = f"{pair.query}\n{pair.passage.content}".encode("utf-8", "replace")
            found.setdefault(hashlib.blake2b(told, digest_size=16).digest(), pair)
            asked += bool(pair.query)
        if asked >= most:
            break
    others = [pair for pair in found.values() if not pair.query]
    random.Random(1).shuffle(others)  # noqa: S311
    return [pair for pair in found.values() if pair.query][:most] + others[: most // 2]


def members(archive: Path, largest: int = LARGEST_FILE) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the path of each file that is not too large, and what reads it."""
    if archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                if not info.is_dir() and info.file_size < largest:
                    yield info.filename, lambda info=info: bundle.read(info)  # type: ignore[misc]
        return
    with _tar(archive) as bundle:
        for member in bundle:
            content = bundle.extractfile(member) if member.isfile() and member.size < largest else None
            if content:
                yield member.name.partition("/")[2], content.read


def _tar(archive: Path) -> tarfile.TarFile:
    if archive.suffix != ".deb":
        return tarfile.open(archive)
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    return tarfile.open(fileobj=BytesIO(subprocess.run(command, check=True, capture_output=True).stdout))  # noqa: S603


def _is_read(path: str) -> bool:
    language = language_of(PurePath(path).name, b"")
    return language in LANGUAGES and not _passed_over(path, language)


def _passed_over(path: str, language: str) -> bool:
    if language != "markdown":
        return bool(PASSED_OVER.search(path))
    return bool(PASSED_OVER.search(_DOCUMENTS.sub("", path)) or _HISTORY.search(path))


def _pairs_in(source: str, language: str, content: bytes) -> Iterator[Pair]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return
    if "\0" in text or len(text) > LONGEST_LINES * max(1, text.count("\n")):
        return
    if language == "markdown":
        for piece in chunk(text, language):
            yield from _section(source, piece)
    else:
        yield from _definitions(source, language, text)


def _definitions(source: str, language: str, text: str) -> Iterator[Pair]:
    """Yield the definitions that are described with their chunks, and the other chunks, all without descriptions."""
    plain = bare(text, language, definitions(text, language))
    pieces = chunk(plain.text, language)
    starts = [piece.start_line for piece in pieces]
    described = set()
    for found, said in plain.described:
        at = bisect_right(starts, plain.row(found.named) + 1) - 1
        query = summary(said.text)
        if query and at >= 0 and len(pieces[at].content.partition("\n")[2].split()) >= LEAST_WORDS:
            described.add(at)
            passage = Passage(pieces[at].symbol, pieces[at].content)
            remarks = said.plain.partition(query)[2][:LONGEST_REMARKS]
            yield Pair(source, language, found.kind, query, passage, remarks, found.name)
    for at, piece in enumerate(pieces):
        if at not in described:
            yield Pair(source, language, piece.kind, "", Passage(piece.symbol, piece.content))


def _section(source: str, piece: Chunk) -> Iterator[Pair]:
    """Yield what a section of prose can be found by: its heading, or its first sentence where that says little."""
    heading, _, rest = piece.content.lstrip().partition("\n")
    if piece.kind != "section" or not heading.startswith("#"):
        return
    above, _, _ = piece.symbol.rpartition(".")
    query, passage = heading.strip("# ")[:LONGEST_QUERY], Passage(above, rest)
    if len(query.split()) < LEAST_OF_A_HEADING:
        first, _, rest = rest.strip().partition("\n\n")
        query, passage = summary(first) or "", Passage(piece.symbol, rest)
    if query and len(rest) >= SHORTEST_SECTION:
        yield Pair(source, "markdown", piece.kind, query, passage)
