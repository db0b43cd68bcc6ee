"""What a seed draws is the same every time, and what is embedded again is told from what a fault explains."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.chaos import plan
from tests.chaos.embedded import COMMIT_SECONDS, Embedded
from tests.chaos.kinds import KINDS, named
from tests.chaos.trees import Tree

if TYPE_CHECKING:
    from pathlib import Path


def test_a_seed_draws_the_same_faults_every_time() -> None:
    """Two runs of a seed meet the same faults in the same order; another seed, or round, meets others."""
    first, again, later, other = (
        [(fault.kind.name, fault.seconds, fault.seed) for fault in islice(plan.faults(seed, turn, KINDS), 50)]
        for seed, turn in ((7, 1), (7, 1), (7, 2), (8, 1))
    )
    assert first == again
    assert first not in (later, other)


def test_every_kind_of_fault_is_drawn() -> None:
    """An hour's draws hold each kind."""
    drawn = {fault.kind.name for fault in islice(plan.faults(1, 1, KINDS), 1_500)}
    assert drawn == {kind.name for kind in KINDS}


def test_a_fault_that_nobody_knows_is_refused() -> None:
    """A misspelt name says which there are."""
    assert [kind.name for kind in named("kill-all,full-disk")] == ["kill-all", "full-disk"]
    with pytest.raises(LookupError, match="no fault is called kill-al; there are kill-worker"):
        named("kill-al")


def test_a_seed_changes_a_tree_in_the_same_way(tmp_path: Path) -> None:
    """Two trees of a seed hold the same files after the same changes."""
    contents = []
    for name in ("one", "other"):
        tree = Tree(tmp_path / name, 60, 4)
        tree.make()
        for edition in range(3):
            tree.change(plan.dice(7, edition))
        files = sorted(file for file in tree.root.rglob("*") if file.is_file())
        contents.append([(file.relative_to(tree.root), file.read_text(), file.stat().st_size) for file in files])
    assert contents[0] == contents[1]


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def ask(ledger: Embedded, *texts: str) -> None:
    """Send a request that is answered at once."""
    with ledger.request(list(texts)):
        pass


def test_what_is_embedded_again_without_a_reason_is_noticed() -> None:
    """A passage that comes again counts as repeated, and as unexplained when nothing disturbed it (R33)."""
    ledger = Embedded()
    ask(ledger, "a", "b")
    ask(ledger, "b", "c")
    assert (ledger.total, ledger.repeated, ledger.unexplained) == (4, 1, 1)


def test_what_was_in_flight_at_a_fault_is_explained() -> None:
    """A request that a fault met on the way is sent again with good reason, and so is one that was not committed."""
    ledger = Embedded()
    with ledger.request(["in flight"]), ledger.disturbed():
        pass
    ask(ledger, "in flight")
    ask(ledger, "just answered")
    with ledger.disturbed():
        time.sleep(0.01)
    ask(ledger, "just answered")
    assert (ledger.repeated, ledger.unexplained) == (2, 0)


def test_what_was_safe_before_a_fault_is_not_explained_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered long before a fault was committed: to embed it again is work done twice."""
    ledger, clock = Embedded(), Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    ask(ledger, "safe")
    clock.now += COMMIT_SECONDS + 1
    with ledger.disturbed():
        ask(ledger, "safe")
    assert (ledger.repeated, ledger.unexplained) == (1, 1)


def test_a_fault_that_is_not_lossy_explains_only_what_its_ends_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one worker is stopped, the others embed for good: what they did is not to be done again."""
    ledger, clock = Embedded(), Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    with ledger.disturbed(throughout=False):
        clock.now += 10
        ask(ledger, "meanwhile")
        clock.now += 10
    ask(ledger, "meanwhile")
    assert (ledger.repeated, ledger.unexplained) == (1, 1)


def test_nothing_counts_while_the_vector_space_is_in_doubt() -> None:
    """After a change of the dimension everything is embedded anew, which is no repetition."""
    ledger = Embedded()
    ask(ledger, "a")
    ledger.suspend()
    ask(ledger, "a")
    ledger.count_again()
    ask(ledger, "a")
    assert (ledger.total, ledger.repeated, ledger.exempt) == (2, 0, 1)
