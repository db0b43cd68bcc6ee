"""What the house tests read: the project's own files."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
STOREYS: Final = ("pipeline", "actors", "ops")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file: its path from the root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    def functions(self) -> Iterator[Function]:
        """Yield every function and method, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Return the Python files under some folders of the root, in the order of their paths."""
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return tuple(_module(file) for file in files)


def _module(file: Path) -> Module:
    text = file.read_text()
    return Module(str(file.relative_to(ROOT)), text, ast.parse(text))


def body_lines(function: Function) -> int:
    """Return how many lines a function's body has, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@cache
def files_of_the_project() -> tuple[Path, ...]:
    """Return every file that git tracks or would track, by its absolute path."""
    options = ("--cached", "--others", "--exclude-standard", "-z")
    listing = subprocess.run(["git", "ls-files", *options], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(file for name in listing.split("\0") if name and (file := ROOT / name).is_file())


def documents() -> tuple[Path, ...]:
    """Return every Markdown file of the project."""
    return tuple(file for file in files_of_the_project() if file.suffix == ".md")


def read(name: str) -> str:
    """Return the text of a file, by its path from the root."""
    return (ROOT / name).read_text()
