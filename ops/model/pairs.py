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
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

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
KINDS: Final = frozenset({"function", "method", "class", "struct", "interface", "enum", "type", "variable", "block"})
LARGEST_FILE: Final = 150_000
LONGEST_LINES: Final = 160
LEAST_WORDS: Final = 4
MOST_WORDS: Final = 60
LONGEST_QUERY: Final = 300
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
_DEFINED = re.compile(r"\s*(?:async\s+)?(?:def|class)\b")
_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"|#.*")
_DOCSTRING = re.compile(
    r"\s*[rRuUbB]{0,2}(?:\"\"\"(.*?)\"\"\"|'''(.*?)'''|\"([^\"\n]{12,})\")[ \t]*(?:\n|$)", re.DOTALL
)
_COMMENT = re.compile(r"/\*|//|#(?:[\s#]|$)")
_MARKER = re.compile(r"^(?:/\*+!?|///?!?<?|#+|\*+/|\*(?!/))\s?|\s*\*+/$")
_MARKUP = re.compile(r"<[^>]{1,60}>|\{@\w+\s+|\}|:\w+:`~?|`")
_END_OF_SUMMARY = re.compile(
    r"\n\s*\n|\n\s*(?:@|:param|:return|:arg|Args:|Returns|Parameters\s*\n|>>>|\\param|- parameter)"
)
_TAG = re.compile(r"^\s*(?:@(?:brief|description|desc|summary)|\\brief)\s*")
_SENTENCE = re.compile(r"(.{15,}?[.!?])(?:\s|$)")
_NO_DESCRIPTION = re.compile(
    r"https?:|copyright|licen[sc]e|todo|fixme|deprecated|eslint|@internal|generated|nolint|spdx|istanbul|see above"
    r"|@override|frozen_string|coding:|inheritdoc|[;{}]\s*$|=>|==|\breturn\b.*;",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """What somebody wrote about a definition, and the definition without it; `source` is the archive's name.

    The query is the first sentence, `remarks` what follows it. Of a section of prose the query is the heading.
    """

    source: str
    language: str
    kind: str
    query: str
    passage: Passage
    remarks: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """What is written about a definition, on which of its lines (from 0); `code` is the first after a comment."""

    text: str
    lines: tuple[int, ...]
    code: int = 0


def pairs_of(archive: Path, most: int) -> list[Pair]:
    """Return up to `most` pairs of an archive's source files, the same ones each time."""
    found: dict[bytes, Pair] = {}
    for path, read in members(archive):
        language = language_of(PurePath(path).name, b"")
        if language in LANGUAGES and not _passed_over(path, language):
            for pair in _pairs_in(archive.name, language, read()):
                digest = hashlib.blake2b(pair.passage.content.encode("utf-8", "replace"), digest_size=16).digest()
                found.setdefault(digest, pair)
    pairs = list(found.values())
    random.Random(1).shuffle(pairs)  # noqa: S311 - of no secret
    return pairs[:most]


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
    for piece in chunk(text, language):
        if language == "markdown":
            yield from _section(source, piece)
        elif piece.kind in KINDS and (divided := without_description(piece, language)):
            written, code = divided
            query = summary(written)
            if query and len(code.partition("\n")[2].split()) >= LEAST_WORDS:
                remarks = " ".join(_MARKUP.sub("", written).split()).partition(query)[2]
                yield Pair(source, language, piece.kind, query, Passage(piece.symbol, code), remarks[:LONGEST_REMARKS])


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


def without_description(piece: Chunk, language: str) -> tuple[str, str] | None:
    """Return what is written about a definition and its code without that; None when nothing is."""
    found = description(piece.content, language)
    if found is None:
        return None
    lines = piece.content.split("\n")
    code = lines[found.code :] if found.code else [line for at, line in enumerate(lines) if at not in found.lines]
    return found.text, "\n".join(code)


def description(content: str, language: str) -> Description | None:
    """Return what is written about a definition and where; None when nothing is."""
    lines = content.split("\n")
    return _docstring(lines) if language == "python" else _comment(lines)


def _docstring(lines: list[str]) -> Description | None:
    first = next((at for at, line in enumerate(lines) if _DEFINED.match(line)), None)
    if first is None:
        return None
    depth, last = 0, first
    for last in range(first, len(lines)):
        bare = _LITERAL.sub("", lines[last])
        depth += sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
        if depth <= 0 and bare.rstrip().endswith(":"):
            break
    found = _DOCSTRING.match("\n".join(lines[last + 1 :]))
    if found is None:
        return None
    height = len(found[0].removesuffix("\n").split("\n"))
    return Description(next(filter(None, found.groups()), ""), tuple(range(last + 1, last + 1 + height)))


def _comment(lines: list[str]) -> Description | None:
    comment, places, inside = [], [], False
    for at, line in enumerate(map(str.strip, lines)):
        if inside or _COMMENT.match(line):
            comment.append(_MARKER.sub("", _MARKER.sub("", line)))
            places.append(at)
            inside = (inside or line.startswith("/*")) and "*/" not in line
        elif line and not line.startswith(("@", "#[")):
            return Description("\n".join(comment), tuple(places), at) if comment else None
    return None


def summary(written: str) -> str | None:
    """Return the first sentence of a description, None when it describes nothing."""
    first = _TAG.sub("", _END_OF_SUMMARY.split(_MARKUP.sub("", written).strip())[0])
    if first.lstrip().startswith("@"):
        return None
    paragraph = " ".join(first.split()).strip("=- *#/")
    sentence = _SENTENCE.match(paragraph)
    text = (sentence[1] if sentence else paragraph)[:LONGEST_QUERY]
    words = len(re.findall(r"[A-Za-z]{2,}", text))
    said = LEAST_WORDS <= words <= MOST_WORDS and not _NO_DESCRIPTION.search(text)
    return text if said and sum(map(str.isascii, text)) >= 0.9 * len(text) else None
