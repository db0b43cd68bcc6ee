"""The repositories of a run: generated trees of several sizes, which change between two jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.repositories import add_oddities, generate, git, source_file

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

SHARE: Final = (0.05, 0.3, 1.0)
"""How many of the files change."""
FRESH: Final = 2**31


@dataclass
class Tree:
    """A repository's files; `seed` is its own, so that no two trees have a text in common."""

    root: Path
    files: int
    seed: int
    odd: bool = False
    made: int = 0
    edition: int = 0
    """Counts the changes."""

    def make(self) -> None:
        """Write the first files."""
        generate(self.root, self.files, seed=self.seed)
        self.made = self.files
        if self.odd:
            git(self.root, "init", "--quiet")
            add_oddities(self.root)

    def change(self, random: Random) -> int:
        """Rewrite, add, delete, rename and touch some files, and return how many."""
        self.edition += 1
        files = sorted(self.root.glob("src/**/*.*"))
        chosen = random.sample(files, round(random.choice(SHARE) * len(files)))
        for file in chosen:
            random.choice((self._rewrite, self._rewrite, self._replace, self._rename, self._touch))(file, random)
        return len(chosen)

    def _rewrite(self, file: Path, random: Random) -> None:
        file.write_text(source_file(0, random.randrange(FRESH))[1])

    def _replace(self, file: Path, random: Random) -> None:
        """Delete a file and write another."""
        file.unlink()
        path, text = source_file(self.made, self.seed)
        self.made += 1
        new = self.root / path
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text)
        del random

    def _rename(self, file: Path, random: Random) -> None:
        file.rename(file.with_stem(f"{file.stem.partition('__')[0]}__{random.randrange(FRESH)}"))

    def _touch(self, file: Path, random: Random) -> None:
        os.utime(file, ns=(0, random.randrange(FRESH) * 1_000))
