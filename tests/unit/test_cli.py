"""The command line without a database: its documentation, how a job looks while it is followed, and what it loads."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import pytest
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from ops.cli import app
from ops.cli.exits import OF_STATUS, Exit
from ops.cli.index import absolute
from ops.cli.jobs import parse_status
from ops.cli.output import Screen, ago, clean
from ops.cli.views import Bars, Lines, understands_taskbar
from pipeline import errors
from pipeline.describing import duration
from pipeline.errors import PenstockError, ValidationError
from pipeline.records import Job, StageProgress
from pipeline.states import TERMINAL, JobStatus, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typer._click import Command

CHECKOUT: Final = Path(__file__).parents[2]
MANUAL: Final = (CHECKOUT / "docs" / "cli.md").read_text()
HEAVY: Final = ("sqlalchemy", "pydantic", "numpy", "alembic", "dramatiq", "tree_sitter", "ollama", "psycopg")
NOW: Final = datetime(2026, 8, 15, 12, 0, tzinfo=UTC)


def job(status: JobStatus = JobStatus.RUNNING, **changes: object) -> Job:
    """Return a job that is half done."""
    values = dict.fromkeys(Job.model_fields, None) | dict.fromkeys(
        [name for name, field in Job.model_fields.items() if field.annotation is int], 0
    )
    stages = tuple(
        StageProgress(stage=stage, unit="files", done=5, total=10, busy_seconds=1, started_at=NOW, ended_at=None)
        for stage in Stage
    )
    values |= {
        "job_id": UUID(int=1), "status": status, "project_id": "default", "repo_path": "/r", "name": "r",
        "embedder": "local", "model": "m", "force_reindex": False, "created_at": NOW, "updated_at": NOW,
        "progress_percentage": 50.0, "progress_message": "Chunking files: 5/10", "stages": stages,
    }  # fmt: skip
    return Job.model_validate(values | changes)


# --- the manual -------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Command]]:
    """Yield every command with its full name."""
    for name, command in commands_of(get_command(app)).items():
        inner = commands_of(command)
        yield from ((f"{name} {each}", inner[each]) for each in inner)
        if not inner:
            yield name, command


def commands_of(command: Command) -> Mapping[str, Command]:
    """Return the commands of a group; of any other command, none."""
    return command.commands if isinstance(command, TyperGroup) else {}


COMMANDS: Final = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_manual(name: str) -> None:
    """A section a command, with every option and argument in it (R60)."""
    section = re.search(rf"^### `penstock {name}\b[^\n]*\n(.*?)(?=^##|\Z)", MANUAL, re.MULTILINE | re.DOTALL)
    assert section, f"docs/cli.md has no section on {name}"
    names = [flag for parameter in COMMANDS[name].params for flag in (*parameter.opts, *parameter.secondary_opts)]
    missing = [flag for flag in names if flag.startswith("--") and f"`{flag}" not in section[0] and flag != "--help"]
    assert missing == []


def test_the_manual_names_no_command_that_is_gone() -> None:
    """Every section has its command."""
    sections = set(re.findall(r"^### `penstock ([a-z ]+[a-z])", MANUAL, re.MULTILINE))
    assert sections == set(COMMANDS)


def test_the_manual_lists_every_exit_code() -> None:
    """The table is the enumeration (R60)."""
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", MANUAL, re.MULTILINE)} == set(Exit)


def test_every_command_and_option_explains_itself() -> None:
    """`--help` has a text for each of them."""
    for name, command in COMMANDS.items():
        assert command.help, name
        assert all(getattr(parameter, "help", None) for parameter in command.params), name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_that_work(name: str) -> None:
    """Each example is a line of this command that parses, each other command it names is there (R60)."""
    told = COMMANDS[name].epilog or ""
    examples = re.findall(r"^  (penstock .+)$", told, re.MULTILINE)
    assert examples
    for example in examples:
        _, *words = shlex.split(example)
        assert " ".join(words).startswith(name)
        COMMANDS[name].make_context(name, words[len(name.split()) :])
    others = told.partition("See also: ")[2].split(", ")
    assert {other.removeprefix("penstock ") for other in others} <= COMMANDS.keys() - {name}
    codes = re.findall(r"(\d+) ", told.partition("Exit codes: ")[2].partition("\n")[0])
    assert {Exit.OK, Exit.VALIDATION} <= {Exit(int(code)) for code in codes}


def test_the_overview_has_the_parts_of_the_manual() -> None:
    """Each command stands under the heading that it has in docs/cli.md (R60)."""
    for part, section in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", MANUAL, re.MULTILINE | re.DOTALL):
        named = dict.fromkeys(re.findall(r"^### `penstock (\w+)", section, re.MULTILINE))
        assert {name for name in named if panel_of(name) != part} == set()


def panel_of(name: str) -> str | None:
    """Return the part of the overview that a command, or a group of them, is in."""
    return getattr(commands_of(get_command(app))[name], "rich_help_panel", None)


def test_errors_end_with_a_named_code() -> None:
    """Every exit code of the error tree is one of ours, and every end of a job has one (R60)."""
    family = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PenstockError)]
    assert {each.exit_code for each in family} <= set(Exit)
    assert set(OF_STATUS) == TERMINAL


# --- what is typed ----------------------------------------------------------------------------------------------------


def test_help_and_version_load_nothing_heavy() -> None:
    """A command imports what it needs when it runs, so that the help is quick."""
    code = f"import sys, ops.cli; print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_command_at_all_prints_the_help() -> None:
    """So does `-h`; both end well."""
    for arguments in ([], ["-h"], ["--help"]):
        result = CliRunner().invoke(app, arguments, prog_name="penstock")
        assert (result.exit_code, "Usage: penstock" in result.output) == (0, True)


@pytest.mark.parametrize("slip", ["bogus", "index --bogus", "db", "db bogus", "search", "--bogus"])
def test_a_slip_of_the_hand_is_refused(slip: str) -> None:
    """Unknown commands and options, and missing arguments, end with the code of bad input (R60)."""
    assert CliRunner().invoke(app, slip.split(), prog_name="penstock").exit_code == Exit.VALIDATION


def test_a_path_is_made_absolute_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dots and links are resolved; an empty path is left for the head to refuse (R06)."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    assert [absolute(path) for path in (".", "..", "../link/b", "./foo..bar")] == [
        str(tmp_path / path) for path in ("a", ".", "a/b", "a/foo..bar")
    ]
    assert absolute("") == ""


def test_links_in_a_circle_are_left_to_the_head(tmp_path: Path) -> None:
    """The path is handed on as it is, and refused there (R06)."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert absolute(str(tmp_path / "loop")) == str(tmp_path / "loop")


def test_queued_is_pending() -> None:
    """Every state has its name, `queued` is an alias, anything else is refused (R10)."""
    assert [parse_status(status) for status in JobStatus] == list(JobStatus)
    assert parse_status("queued") == JobStatus.PENDING
    with pytest.raises(ValidationError, match="blocked"):
        parse_status("asleep")


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.44, "9.4 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_spans_of_time_read_as_people_say_them(seconds: float, text: str) -> None:
    """No span shows 60 of anything."""
    assert duration(seconds) == text


def test_moments_read_as_ages() -> None:
    """From never to days."""
    now = datetime.now(UTC)
    assert ago(None) == "never"
    assert ago(now + timedelta(seconds=5)) == "0.0 s ago"
    assert ago(now - timedelta(days=3)) == "3 days ago"


def test_nothing_that_steers_a_terminal_is_printed() -> None:
    """Controls become a visible mark; tabs, newlines and all other text stay."""
    assert clean("a\x1b[31m\x07\r\x9b\x7f\tß\n漢") == "a�[31m����\tß\n漢"


def test_lines_are_few() -> None:
    """News come at most every two seconds, milestones at once; that it rests is told by its events (R60)."""
    written: list[str] = []
    news = ((0.0, 1, "a"), (1.0, 2, "b"), (1.5, 26, "c"), (3.0, 27, "c"), (4.0, 28, "d"), (9.0, 28, "d"))
    now = 0.0
    lines = Lines(written.append, clock=lambda: now)
    for now, percent, message in news:  # noqa: B007 - the clock reads it
        lines.show(job(progress_percentage=percent, progress_message=message))
    lines.show(job(JobStatus.BLOCKED, progress_percentage=28, progress_message="Waiting: the server is away"))
    assert [line.split("%")[1].strip() for line in written] == ["a", "c", "d"]


def test_bars_show_every_stage_and_the_words() -> None:
    """Counts, the whole job and what is left, from one record (R23, R24)."""
    screen = Screen(stderr=True)
    bars = Bars(screen)
    bars.show(job(estimated_remaining_seconds=75))
    picture = Console(width=120, record=True, file=StringIO())
    for part in bars.get_renderables():
        picture.print(part)
    shown = picture.export_text()
    assert all(stage in shown for stage in Stage)
    assert "5/10 files" in shown
    assert "about 1 min 15 s left" in shown
    assert "Chunking files: 5/10" in shown


@pytest.mark.parametrize(
    ("environment", "understands"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "linux"}, False),
        ({}, False),
        ({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app", "TERM_PROGRAM_VERSION": "3.5.14"}, False),
        ({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app", "TERM_PROGRAM_VERSION": "3.6.6"}, True),
    ],
)
def test_progress_is_sent_to_terminals_that_take_it_as_such(environment: dict[str, str], *, understands: bool) -> None:
    """Others would print it, or show each step as a notification (R60)."""
    assert understands_taskbar(environment) is understands
