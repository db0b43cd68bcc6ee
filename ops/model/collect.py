"""Fetches the archives that sources.csv names, by the registries' own clients: pip, npm and apt-get."""

from __future__ import annotations

import csv
import glob
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES: Final = Path(__file__).with_name("sources.csv")
WHEELS: Final = ("--quiet", "--no-deps", "--only-binary", ":all:")


@dataclass(frozen=True, slots=True)
class Source:
    """A package at a version, under a licence that permits this; `use` is train or develop."""

    registry: str
    name: str
    version: str
    licence: str
    use: str

    @property
    def command(self) -> list[str]:
        """What fetches its archive into the current folder; of Debian's sources the upstream part, in today's version.

        Where a language's libraries are installed as source, the built package (deb) holds it as well.
        """
        match self.registry:
            case "pypi":
                return [sys.executable, "-m", "pip", "download", *WHEELS, f"{self.name}=={self.version}"]
            case "npm":
                return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
            case "deb":
                return ["apt-get", "download", "--quiet", f"{self.name}={self.version}"]
            case _:
                return ["apt-get", "source", "--download-only", "--quiet", "--only-source", self.name]

    def archives(self, place: Path) -> list[Path]:
        """Return what of it lies in a folder; of Debian's sources only the upstream version that the table names."""
        kinds = ["*.whl", "*.tgz", "*.deb"]
        if self.registry == "debian":
            kinds = [f"{glob.escape(f'{self.name}_{self.version}')}.orig*.tar.{kind}" for kind in ("gz", "xz", "bz2")]
        return sorted(path for kind in kinds for path in place.glob(kind)) if place.is_dir() else []


def sources(table: Path = SOURCES) -> tuple[Source, ...]:
    """Return the sources of a table."""
    with table.open(newline="") as lines:
        return tuple(Source(**row) for row in csv.DictReader(lines))


def collect(folder: Path, wanted: tuple[Source, ...]) -> Iterator[tuple[Source, Path]]:
    """Fetch what is not there yet, each into a folder of its own, and yield its archives; say what cannot be had."""
    for source in wanted:
        place = folder / source.registry / source.name.replace("/", "__")
        if not source.archives(place):
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(source.command, cwd=place, check=False, stdout=subprocess.DEVNULL)  # noqa: S603 - our table
        found = source.archives(place)
        if not found:
            others = ", ".join(sorted(path.name for path in place.iterdir())) or "nothing"
            sys.stderr.write(f"not to be had: {source.registry} {source.name} {source.version}; there is {others}\n")
        for archive in found:
            yield source, archive
