"""States have one home and two witnesses: the database and the page that draws them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import Engine, text

from pipeline.states import MOVES, BatchStage, JobStatus
from tests.house.sources import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import StrEnum

EDGE: Final = re.compile(r"^ +(\S+) --> ([^\s:]+)(?:: (\w) \w+)?$", re.MULTILINE)
OUTSIDE: Final = "[*]"
CHECK: Final = text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name")

Edges = list[tuple[str, str, str]]


def _drawings() -> Sequence[Edges]:
    """Return the edges of the two drawings, the job's and the batch's: from, to, letter."""
    blocks = re.findall(r"```mermaid\n(.*?)```", read("docs/lifecycle.md"), re.DOTALL)
    return [EDGE.findall(block) for block in blocks]


def _named(edges: Edges) -> set[str]:
    return {end for edge in edges for end in edge[:2]} - {OUTSIDE}


@pytest.mark.parametrize(
    ("constraint", "states"), [("ck_indexing_jobs_status", JobStatus), ("ck_batches_stage", BatchStage)]
)
def test_the_database_knows_the_states_of_the_enum(engine: Engine, constraint: str, states: type[StrEnum]) -> None:
    """A migrated database checks for exactly the members of the enum (R10)."""
    with engine.connect() as connection:
        definition = connection.execute(CHECK, {"name": constraint}).scalar_one()
    assert set(re.findall(r"'(\w+)'", definition)) == set(map(str, states))


def test_the_drawing_shows_every_move_and_no_other() -> None:
    """The edges between states in docs/lifecycle.md are the moves that the code allows (R10)."""
    drawn = {(source, target) for source, target, _ in _drawings()[0] if OUTSIDE not in {source, target}}
    assert drawn == {(str(source), str(target)) for source, target in MOVES}


def test_the_drawing_begins_where_jobs_are_made_and_ends_where_they_stay() -> None:
    """A job enters as pending; the states with no way on are the ones that end (R10)."""
    edges = _drawings()[0]
    assert {target for source, target, _ in edges if source == OUTSIDE} == {JobStatus.PENDING}
    last = {source for source, target, _ in edges if target == OUTSIDE}
    assert last == {str(status) for status in JobStatus if not any(source is status for source, _ in MOVES)}


def test_each_letter_stands_for_one_kind_of_move() -> None:
    """The letters run from a on without a gap, and each leads to one state only."""
    targets: dict[str, set[str]] = {}
    for _, target, letter in _drawings()[0]:
        targets.setdefault(letter, set()).add(target)
    targets.pop("", None)
    assert "".join(sorted(targets)) == "abcdefghi"
    assert all(len(ends) == 1 for ends in targets.values())


def test_the_page_explains_every_state() -> None:
    """The table in docs/lifecycle.md has a row for every status, in the order of the enum."""
    rows = re.findall(r"^\| `(\w+)` \|", read("docs/lifecycle.md"), re.MULTILINE)
    assert rows == list(map(str, JobStatus))


def test_the_second_drawing_shows_the_stages_of_a_batch() -> None:
    """Every stage that a batch may be due for is in the second drawing, and nothing else."""
    assert _named(_drawings()[1]) == set(map(str, BatchStage))
