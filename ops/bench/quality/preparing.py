"""What is made once of a source and kept: its trees on disk, and its questions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pipeline
from ops.bench.quality.records import BARE, WHOLE, Place, Question
from ops.bench.quality.sources import archives, lay_out, read, stamp
from ops.bench.quality.tasks import Survey, questions
from ops.model import descriptions, pairs

if TYPE_CHECKING:
    from ops.bench.quality.sources import Package

HERE: Final = Path(__file__).parent
MAKING: Final = (
    *(HERE / f"{name}.py" for name in ("definitions", "messages", "sources", "stemming", "tasks")),
    Path(descriptions.__file__),
    Path(pairs.__file__),
    Path(pipeline.__file__).parent / "grammars",
)
"""What decides which questions there are: when one of these changes, they are made anew."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source that can be asked about: its trees by their names, what names their content, its questions."""

    package: Package
    trees: dict[str, Path]
    stamp: str
    questions: tuple[Question, ...]


def prepare(folder: Path, package: Package) -> Prepared:
    """Return a source's trees and questions, made when they are not there as they would be made now."""
    found = archives(folder, package)
    trees = {name: folder / "trees" / package.label / name for name in (WHOLE, BARE)}
    kept = folder / "questions" / f"{package.label}.json"
    now = stamp(package, [(path.name, path.stat().st_size) for path in found], *MAKING)
    if not kept.exists() or (known := json.loads(kept.read_text()))["stamp"] != now:
        made = _make(package, found, trees)
        known = {"stamp": now, "questions": [asdict(question) for question in made]}
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(known))
    return Prepared(package, trees, now, tuple(map(_question, known["questions"])))


def _make(package: Package, found: list[Path], trees: dict[str, Path]) -> list[Question]:
    survey = Survey(read(package, found))
    lay_out(survey.tree.files, trees[WHOLE])
    lay_out({path: each.text for path, each in survey.bare.items()}, trees[BARE])
    return questions(survey)


def _question(fields: dict[str, Any]) -> Question:
    return Question(**fields | {"answers": tuple(Place(**place) for place in fields["answers"])})
