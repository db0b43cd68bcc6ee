"""How well search finds: `python -m ops.bench.quality FOLDER`; docs/quality.md says what is measured, and how."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from ops.bench.quality import ollama_server
from ops.bench.quality.history import TASK as COMMIT
from ops.bench.quality.history import prepare_history
from ops.bench.quality.home import running
from ops.bench.quality.metrics import rows
from ops.bench.quality.preparing import prepare
from ops.bench.quality.reporting import as_json, misses, tables
from ops.bench.quality.sources import TABLE, packages
from ops.bench.quality.systems import INDEXED_WITH, MINILM, chosen, systems
from ops.bench.quality.tasks import MOST, few

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.bench.quality.home import Home
    from ops.bench.quality.preparing import Prepared
    from ops.bench.quality.records import Answered, Question
    from ops.bench.quality.sources import Package
    from ops.bench.quality.systems import System

WIDTH: Final = 140
CHECKOUT: Final = Path(__file__).parents[3]
MINILM_SECONDS: Final = 600
"""How long MiniLM may take for a batch: it is slow."""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.quality", description=__doc__)
    parser.add_argument("folder", type=Path, help="where archives, trees, questions and the index are kept")
    parser.add_argument("--set", choices=("develop", "held-out"), default="develop", help="which sources")
    parser.add_argument("--sources", type=Path, default=TABLE, metavar="TABLE", help="a table of other packages")
    parser.add_argument("--source", action="append", help="only these, by their names")
    parser.add_argument("--language", action="append", help="only sources in these languages")
    parser.add_argument("--history", type=Path, metavar="PATH", help="ask about commits of this git repository")
    parser.add_argument("--task", action="append", choices=[*MOST, COMMIT], help="only these tasks")
    parser.add_argument("--system", action="append", choices=list(systems()), help="only these systems")
    parser.add_argument("--compare", action="store_true", help="small sources only, and MiniLM beside our model")
    parser.add_argument("--ablate", action="store_true", help="the product without each of its signals in turn")
    parser.add_argument("--limit", type=int, default=max(MOST.values()), help="questions a task and source")
    parser.add_argument("--misses", type=int, default=0, metavar="N", help="show N questions that went wrong")
    parser.add_argument("--afresh", action="store_true", help="make the index anew")
    parser.add_argument("--json", action="store_true", help="print the rows and the rank of every answer as JSON")
    return parser.parse_args()


def main() -> None:
    """Ask, and print what came of it."""
    given = options()
    asked = chosen(given.system, compare=given.compare, ablate=given.ablate)
    answers = {system.name: found for system, found in zip(asked, answered(given, asked), strict=True)}
    found = rows(answers)
    if given.json:
        sys.stdout.write(as_json(found, answers) + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables(found):
        console.print(table)
    for miss in misses(answers, given.misses):
        console.print(miss, markup=False, highlight=False, soft_wrap=True)


def answered(given: argparse.Namespace, asked: Sequence[System]) -> list[list[Answered]]:
    """Return what each system answers to every question of the sources that the command line chooses."""
    folder = given.folder.resolve()
    prepared = [prepare(folder, package) for package in wanted(given)]
    if (repository := history_of(given)) is not None:
        prepared.append(prepare_history(folder, repository))
    questions = [few((each for each in one.questions if _asked(each, given)), given.limit) for one in prepared]
    with ExitStack() as stack:
        variables: dict[str, object] = {}
        if any(system.project == MINILM for system in asked):
            host = stack.enter_context(ollama_server.serving(folder / "minilm.sqlite"))
            variables = {"ollama_host": host, "ollama_timeout_seconds": MINILM_SECONDS}
        home = stack.enter_context(running(folder / "home", variables, afresh=given.afresh))
        for one, of_one in zip(prepared, questions, strict=True):
            _index(home, one, of_one, {system.project for system in asked})
        return [list(_answers(home, system, prepared, questions)) for system in asked]


def wanted(given: argparse.Namespace) -> list[Package]:
    """Return the packages that the command line chooses."""
    if given.task == [COMMIT]:
        return []
    found = [
        package
        for package in packages(given.sources)
        if (package.name in given.source if given.source else package.set == given.set)
        and (not given.language or package.language in given.language)
        and (package.small or not given.compare or given.source)
    ]
    if not found:
        raise SystemExit(f"no such source; {given.sources} lists them")
    return found


def history_of(given: argparse.Namespace) -> Path | None:
    """Return the repository whose commits are asked about: ours for all that is held out, or when the task is named."""
    if given.task and COMMIT not in given.task:
        return None
    everything = given.set == "held-out" and not (given.source or given.language or given.compare)
    ours = CHECKOUT if (CHECKOUT / ".git").exists() and (given.task or everything) else None
    return given.history or ours


def _asked(question: Question, given: argparse.Namespace) -> bool:
    return not given.task or question.task in given.task


def _index(home: Home, prepared: Prepared, questions: Sequence[Question], projects: set[str]) -> None:
    for tree in sorted({question.tree for question in questions}):
        for project in sorted(projects):
            began = time.monotonic()
            if home.index(prepared.trees[tree], prepared.stamp, project, INDEXED_WITH[project]):
                _say(f"indexed {prepared.package.name}, {tree}, for {project}, in {time.monotonic() - began:.1f} s")


def _answers(
    home: Home, system: System, prepared: Sequence[Prepared], questions: Sequence[Sequence[Question]]
) -> Iterator[Answered]:
    began = time.monotonic()
    for one, of_one in zip(prepared, questions, strict=True):
        for question in of_one:
            yield system.answer(home, one.trees[question.tree], question)
    _say(f"asked {system.name} {sum(map(len, questions)):,} questions in {time.monotonic() - began:.1f} s")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
