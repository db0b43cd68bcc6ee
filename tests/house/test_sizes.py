"""The building inspector measures: small functions, small modules, SQL in one room."""

from __future__ import annotations

import ast
from statistics import median, quantiles
from typing import Final

import pytest

from tests.house.sources import STOREYS, body_lines, modules

MEDIAN_LINES: Final = 7
NINETIETH_LINES: Final = 25
LONGEST_LINES: Final = 60
MODULE_LINES: Final = 350
RUNS_SQL: Final = {"copy", "exec_driver_sql", "execute", "executemany"}
BROKER: Final = {"self", "self._broker"}
"""The broker has an `execute` of its own, which runs a function of the store."""
SQL_ROOMS: Final = ("pipeline/store/", "ops/", "actors/lease.py")
"""Beside the store: `ops/` makes and migrates databases, and a lease's process listens on a connection of its own."""


@pytest.mark.parametrize("storey", STOREYS)
def test_most_functions_of_a_storey_are_small(storey: str) -> None:
    """Half of a storey's functions have at most 7 lines, nine tenths at most 25."""
    sizes = [body_lines(function) for module in modules(storey) for function in module.functions()]
    assert median(sizes) <= MEDIAN_LINES
    assert quantiles(sizes, n=10)[8] <= NINETIETH_LINES


def test_no_function_is_longer_than_a_screen() -> None:
    """No function's body exceeds 60 lines, its docstring aside."""
    long = {
        f"{module.path}:{function.lineno} {function.name}": lines
        for module in modules(*STOREYS)
        for function in module.functions()
        if (lines := body_lines(function)) > LONGEST_LINES
    }
    assert not long


def test_no_module_is_a_heap() -> None:
    """No module exceeds 350 lines."""
    counted = {module.path: len(module.text.splitlines()) for module in modules(*STOREYS, "migrations")}
    assert not {path: lines for path, lines in counted.items() if lines > MODULE_LINES}


def test_statements_run_in_the_store_only() -> None:
    """Only the store executes SQL, beside those who make databases or listen to one."""
    strays = [
        f"{module.path}:{node.lineno}"
        for module in modules(*STOREYS)
        if not module.path.startswith(SQL_ROOMS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in RUNS_SQL and ast.unparse(node.value) not in BROKER
    ]
    assert not strays


def test_doormen_stay_small() -> None:
    """An actor's module opens, calls its stage and hands on: at most 60 lines."""
    doormen = {"actors/scanner.py", "actors/chunker.py", "actors/embedder.py", "actors/writer.py"}
    sizes = {module.path: len(module.text.splitlines()) for module in modules("actors") if module.path in doormen}
    assert sizes.keys() == doormen
    assert max(sizes.values()) <= LONGEST_LINES
