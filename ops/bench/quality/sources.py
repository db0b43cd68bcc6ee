"""The trees that are searched: which packages they are, and how they get below the bench's folder."""

from __future__ import annotations

import csv
import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from ops.model.collect import Source, collect
from ops.model.pairs import members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TABLE: Final = Path(__file__).with_name("sources.csv")
LARGEST_FILE: Final = 1_000_000
"""As the product has it."""
FAMILIES: Final = {"tsx": "typescript", "jsx": "javascript"}
SIBLINGS: Final = {"c": {"c", "cpp"}, "cpp": {"c", "cpp"}, "javascript": {"javascript", "typescript"}}
"""Languages that one package may be written in: a C header says little of which it is."""
NOT_SOURCE: Final = (".dist-info/", ".data/", "__pycache__/", "site-packages/", ".git/", "node_modules/")


class Package(NamedTuple):
    """A row of sources.csv: what is searched, and in which set.

    Of a large package some `folders` only; `.` is what lies at its top, and one after a `-` is left out.
    """

    registry: str
    name: str
    version: str
    licence: str
    set: str
    small: bool
    language: str
    folders: tuple[str, ...]

    @property
    def label(self) -> str:
        """A name that is also that of its folder."""
        return self.name.replace("/", "__")

    def writes(self, language: str) -> bool:
        """Return whether questions are asked about files of this language."""
        found = FAMILIES.get(language, language)
        return found == self.language or found in SIBLINGS.get(self.language, ())


@dataclass(frozen=True, slots=True)
class Tree:
    """The text files of a package by their paths, in order."""

    package: Package
    files: Mapping[str, str]


def packages(table: Path = TABLE) -> tuple[Package, ...]:
    """Return the rows of a table."""
    with table.open(newline="") as lines:
        return tuple(_package(row) for row in csv.DictReader(lines))


def _package(row: dict[str, str]) -> Package:
    small, folders = row.pop("small") == "yes", tuple(row.pop("folders").split())
    return Package(**row, small=small, folders=folders)


def archives(folder: Path, package: Package) -> list[Path]:
    """Return what a package is made of: archives, which are fetched when they are not there, or a folder."""
    if package.registry == "stdlib":
        return [Path(sysconfig.get_path("stdlib"))]
    source = Source(package.registry, package.name, package.version, package.licence, package.set)
    return [path for _, path in collect(folder / "archives", (source,))]


def read(package: Package, found: list[Path]) -> Tree:
    """Return the text files of a package."""
    files = {}
    for path, content in sorted(each for place in found for each in _contents(place)):
        if _wanted(package, path) and b"\0" not in content:
            try:
                files[path] = content.decode()
            except UnicodeDecodeError:
                continue
    return Tree(package, files)


def _contents(place: Path) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        for path in place.rglob("*.py"):
            yield str(path.relative_to(place)), path.read_bytes()
    else:
        for name, content in members(place, LARGEST_FILE):
            yield name, content()


def _wanted(package: Package, path: str) -> bool:
    left_out = [folder.removeprefix("-") for folder in package.folders if folder.startswith("-")]
    return (
        (not package.folders or any(_lies_in(path, folder) for folder in package.folders))
        and not any(_lies_in(path, folder) for folder in left_out)
        and not any(part in f"/{path}" for part in NOT_SOURCE)
    )


def _lies_in(path: str, folder: str) -> bool:
    return "/" not in path if folder == "." else PurePath(path).is_relative_to(folder)


def lay_out(files: Mapping[str, str], folder: Path) -> None:
    """Write files below a folder; what else is there goes, and what has not changed keeps its time."""
    for old in folder.rglob("*"):
        if old.is_file() and str(old.relative_to(folder)) not in files:
            old.unlink()
    for path, text in files.items():
        place = folder / path
        if not place.exists() or place.read_bytes() != text.encode():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text.encode())


def stamp(*parts: object) -> str:
    """Return a short name for all that these parts say; of a file its content counts, of a folder its code."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(part.rglob("*.*")) if part.is_dir() else [part]:
                if file.suffix != ".pyc":
                    digest.update(str(file.relative_to(part)).encode() + file.read_bytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()
