"""Runs commands in this process, on a database of one's own, and checks how they end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from typer.testing import CliRunner

from ops.cli import app
from ops.cli.exits import Exit
from ops.records import Submitted

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from typer.testing import Result

NOBODY_LISTENS: Final = "127.0.0.1:9"
"""The port of the discard service, which no machine runs any more."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where commands are typed."""

    runner: CliRunner

    def __call__(self, *arguments: str, code: Exit = Exit.OK) -> Result:
        """Run a command, check its exit code, and return what it printed."""
        result = self.runner.invoke(app, arguments, prog_name="penstock")
        assert result.exit_code == code, result.output
        return result

    def submit(self, root: Path, *options: str) -> Submitted:
        """Submit a job in the background and return what the command printed."""
        printed = self("index", str(root), "--background", "--json", *options)
        return Submitted.model_validate_json(printed.stdout)

    def error(self, *arguments: str, code: Exit) -> tuple[str, str]:
        """Run a command that fails, and return the code and the message of its JSON object."""
        return error_in(self(*arguments, "--json", code=code))


def error_in(printed: Result) -> tuple[str, str]:
    """Return the code and the message of the JSON object of an error."""
    error = json.loads(printed.stdout)["error"]
    return error["code"], error["message"]


def open_terminal(database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal in an empty folder below `folder`, with settings for this database."""
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PENSTOCK_HOME", str(folder / "home"))
    monkeypatch.setenv("PENSTOCK_MIN_FREE_DISK_GB", "0")
    return Terminal(CliRunner())


def make_shop(folder: Path) -> Path:
    """Make a repository of two files, one of which cannot be indexed."""
    root = folder / "shop"
    root.mkdir()
    (root / "adding.py").write_text("def add(a, b):\n    return a + b\n")
    (root / "blob.py").write_bytes(b"\0\1\2")
    return root
