"""The tables of a run, for a terminal and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.bench.quality.metrics import Answers, Interval, Row

MEASURES = ("mrr", "recall_1", "recall_10", "ndcg", "early")


def as_json(rows: Sequence[Row], answers: Answers) -> str:
    """Return the rows, and the rank that each system gave each question, as JSON."""
    asked = next(iter(answers.values()))
    ranks = [
        asdict(each.question) | {"ranks": {name: found[at].rank for name, found in answers.items()}}
        for at, each in enumerate(asked)
    ]
    return json.dumps({"rows": [_row(row) for row in rows], "questions": ranks}, indent=1)


def _row(row: Row) -> dict[str, object]:
    intervals = {name: getattr(row, name)._asdict() for name in (*MEASURES, "ahead")}
    return asdict(row) | {
        name: {key: round(value, 4) for key, value in each.items()} for name, each in intervals.items()
    }


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Yield a table with every measure over all sources, and one with MRR@10 a language and a source."""
    yield _overall([row for row in rows if row.scope == "all"])
    for task in dict.fromkeys(row.task for row in rows):
        yield _by_part(task, [row for row in rows if row.task == task and row.scope != "all"])


def _overall(rows: Sequence[Row]) -> Table:
    measures = ("MRR@10", "95 %", "R@1", "R@10", "NDCG@10", "100 lines")
    table = Table("task", "system", "queries", *measures, "against the first", "95 %", title="Mean over sources")
    for row in rows:
        table.add_row(
            row.task,
            row.system,
            str(row.queries),
            f"{row.mrr.value:.3f}",
            _bounds(row.mrr),
            *(f"{getattr(row, name).value:.3f}" for name in MEASURES[1:]),
            *((f"{row.ahead.value:+.3f}", _bounds(row.ahead)) if row.system != rows[0].system else ("", "")),
            end_section=row.system == rows[-1].system,
        )
    return table


def _by_part(task: str, rows: Sequence[Row]) -> Table:
    systems = list(dict.fromkeys(row.system for row in rows))
    table = Table("", "queries", *systems, title=f"MRR@10 of {task}")
    values = {(row.scope, row.name, row.system): row for row in rows}
    parts = dict.fromkeys((row.scope, row.name) for row in rows)
    for (scope, name), after in zip(parts, [*list(parts)[1:], ("", "")], strict=True):
        found = [values[scope, name, system] for system in systems]
        shown = (f"{row.mrr.value:.3f}" for row in found)
        table.add_row(name, str(found[0].queries), *shown, end_section=scope != after[0])
    return table


def _bounds(interval: Interval) -> str:
    return f"{interval.low:.3f}…{interval.high:.3f}"


def misses(answers: Answers, most: int) -> Iterator[str]:
    """Yield what the first system did not find at the first place: the question, what is right, what came first."""
    system, found = next(iter(answers.items()))
    for each in [each for each in found if each.rank != 1][:most]:
        first = each.hits[0] if each.hits else "nothing"
        yield (
            f"{each.question.source} {each.question.task} {each.question.query!r}\n"
            f"    right: {', '.join(f'{place.path}:{place.first}' for place in each.question.answers)}"
            f" ({system}: {each.rank or 'not found'}); first: {first}"
        )
