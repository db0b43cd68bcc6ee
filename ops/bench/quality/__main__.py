"""How well search finds: `python -m ops.bench.quality FOLDER`; docs/quality.md says what is measured, and how."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from ops.bench.quality.home import running
from ops.bench.quality.metrics import rows
from ops.bench.quality.preparing import prepare
from ops.bench.quality.reporting import as_json, misses, tables
from ops.bench.quality.sources import packages
from ops.bench.quality.systems import systems
from ops.bench.quality.tasks import MOST, few

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.bench.quality.home import Home
    from ops.bench.quality.preparing import Prepared
    from ops.bench.quality.records import Answered, Question
    from ops.bench.quality.sources import Package
    from ops.bench.quality.systems import System

WIDTH: Final = 140


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.quality", description=__doc__)
    parser.add_argument("folder", type=Path, help="where archives, trees, questions and the index are kept")
    parser.add_argument("--set", choices=("develop", "held-out"), default="develop", help="which sources")
    parser.add_argument("--source", action="append", help="only these, by their names")
    parser.add_argument("--language", action="append", help="only sources in these languages")
    parser.add_argument("--task", action="append", choices=list(MOST), help="only these tasks")
    parser.add_argument("--system", action="append", choices=list(systems()), help="only these systems")
    parser.add_argument("--limit", type=int, default=max(MOST.values()), help="questions a task and source")
    parser.add_argument("--misses", type=int, default=0, metavar="N", help="show N questions that went wrong")
    parser.add_argument("--json", action="store_true", help="print the rows and the rank of every answer as JSON")
    return parser.parse_args()


def main() -> None:
    """Ask, and print what came of it."""
    given = options()
    given.folder = given.folder.resolve()
    chosen = [systems()[name] for name in given.system or systems()]
    prepared = [prepare(given.folder, package) for package in wanted(given)]
    questions = [_chosen(each, given) for each in prepared]
    with running(given.folder / "home") as home:
        for each, asked in zip(prepared, questions, strict=True):
            _index(home, each, asked, chosen)
        answers = {system.name: list(_answers(home, system, prepared, questions)) for system in chosen}
    found = rows(answers)
    if given.json:
        sys.stdout.write(as_json(found, answers) + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables(found):
        console.print(table)
    for miss in misses(answers, given.misses):
        console.print(miss, markup=False, highlight=False, soft_wrap=True)


def wanted(given: argparse.Namespace) -> list[Package]:
    """Return the packages that the command line chooses."""
    found = [
        package
        for package in packages()
        if (package.name in given.source if given.source else package.set == given.set)
        and (not given.language or package.language in given.language)
    ]
    if not found:
        raise SystemExit("no source is called so; ops/bench/quality/sources.csv lists them")
    return found


def _chosen(prepared: Prepared, given: argparse.Namespace) -> list[Question]:
    return few((each for each in prepared.questions if each.task in (given.task or MOST)), given.limit)


def _index(home: Home, prepared: Prepared, questions: Sequence[Question], chosen: Sequence[System]) -> None:
    for tree in sorted({question.tree for question in questions}):
        for project in dict.fromkeys(system.project for system in chosen):
            began = time.monotonic()
            if home.index(prepared.trees[tree], prepared.stamp, project):
                _say(f"indexed {prepared.package.name}, {tree}, in {time.monotonic() - began:.1f} s")


def _answers(
    home: Home, system: System, prepared: Sequence[Prepared], questions: Sequence[Sequence[Question]]
) -> Iterator[Answered]:
    began = time.monotonic()
    for each, asked in zip(prepared, questions, strict=True):
        for question in asked:
            yield system.answer(home, question, each.trees[question.tree])
    _say(f"asked {system.name} {sum(map(len, questions)):,} questions in {time.monotonic() - began:.1f} s")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
