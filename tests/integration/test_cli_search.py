"""The command line's index: searched, listed, removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ops.cli.exits import Exit
from ops.cli.search import SNIPPET_LINES
from ops.records import JobInFull, Removed, Repositories
from pipeline.records import SearchResults
from tests.commanding import Terminal, make_shop, open_terminal
from tests.driving import Driver

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal on this test's database."""
    return open_terminal(database_url, tmp_path, monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of two files, one of which cannot be indexed."""
    return make_shop(tmp_path)


# --- what is indexed --------------------------------------------------------------------------------------------------


def test_what_was_indexed_is_found_listed_and_removed(run: Terminal, root: Path, engine: Engine) -> None:
    """The records of search, repositories and removal, from a real index (R52, R60)."""
    Driver(engine).index(root)
    found = SearchResults.model_validate_json(run("search", "add", "--repo", str(root), "--json").stdout)
    assert [(hit.path, hit.start_line, hit.symbol) for hit in found.results] == [("adding.py", 1, "add")]
    assert (found.index_state, found.coverage) == ("complete", 1.0)
    listed = Repositories.model_validate_json(run("repos", "--json").stdout).repositories
    assert [(repository.root_path, repository.chunks) for repository in listed] == [(str(root), 1)]
    assert str(root) in run("repos").stdout
    removed = Removed.model_validate_json(run("remove", str(root), "--yes", "--json").stdout)
    assert removed.root_path == str(root)
    assert "nothing is indexed" in run("repos").stdout
    assert run.error("remove", str(root), "--yes", code=Exit.NOT_FOUND)[0] == "REPOSITORY_NOT_FOUND"


def test_a_person_reads_numbered_lines(run: Terminal, root: Path, engine: Engine) -> None:
    """A hit is a place, a symbol and its first lines (R52)."""
    Driver(engine).index(root)
    output = run("search", "add").stdout
    assert re.search(r"^adding\.py:1-2  add  \S+  \(definition, words\)$", output, re.MULTILINE)
    assert "     2     return a + b" in output
    assert "nothing was found" in run("search", "add", "--language", "cobol").stdout


@pytest.fixture
def mill(root: Path, engine: Engine) -> Path:
    """Return a repository that is indexed, with a class of a long method, which is searched in pieces."""
    body = "".join(f"        self.barley_{number} = order.barley_{number}\n" for number in range(60))
    (root / "mill.py").write_text(f"class Mill:\n    def grind(self, order):\n{body}        return order\n")
    Driver(engine).index(root)
    return root


def test_a_person_sees_the_best_lines_and_what_is_around_them(run: Terminal, mill: Path) -> None:
    """The lines of class and method come first, then those of the best piece; the rest is counted (R52)."""
    output = run("search", "barley_59", "--repo", str(mill), "--kind", "method").stdout
    [best] = SearchResults.model_validate_json(
        run("search", "barley_59", "--repo", str(mill), "--kind", "method", "--json").stdout
    ).results
    shown = [int(line[:6]) for line in output.split("\n")[1:] if line[:6].strip().isdecimal()]
    context = [int(line.partition(":")[0]) for line in best.context]
    first = min(best.best_line, best.end_line - SNIPPET_LINES + 1)
    assert shown == [*context, *range(first, min(first + SNIPPET_LINES, best.end_line + 1))]
    assert len(shown) < best.end_line


def test_an_answer_within_tokens_says_what_it_does_not_show(run: Terminal, mill: Path) -> None:
    """`--max-tokens` shortens with true line numbers, and counts in words and in the record (R52, R60)."""
    options = ("search", "barley_59", "--repo", str(mill), "--max-tokens", "300")
    printed = run(*options, "--json").stdout
    found = SearchResults.model_validate_json(printed)
    assert len(printed) / 4 <= 300
    assert found.shortened + found.omitted > 0
    output = run(*options)
    assert f"{found.shortened} results are not shown whole" in output.stderr
    assert "    62         self.barley_59 = order.barley_59" in output.stdout
    assert "     …\n" in output.stdout
    assert "not between" in run.error("search", "x", "--max-tokens", "5", code=Exit.VALIDATION)[1]


def test_a_search_stays_in_the_repository_around_it(
    run: Terminal, root: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `--repo` the innermost repository around the current folder is searched, else all; stderr says which."""
    (root / "deep" / "er").mkdir(parents=True)
    other = root.parent / "other"
    other.mkdir()
    (other / "summing.py").write_text("def add_all(numbers):\n    return sum(numbers)\n")
    driver = Driver(engine)
    driver.index(root)
    driver.index(other)
    everywhere = run("search", "add", "--json")
    assert {hit.path for hit in SearchResults.model_validate_json(everywhere.stdout).results} == {
        "adding.py",
        "summing.py",
    }
    assert "all repositories" in everywhere.stderr
    monkeypatch.chdir(root / "deep" / "er")
    around = run("search", "add", "--json")
    assert {hit.path for hit in SearchResults.model_validate_json(around.stdout).results} == {"adding.py"}
    assert str(root) in around.stderr


def test_hostile_content_cannot_steer_the_terminal(run: Terminal, root: Path, engine: Engine) -> None:
    """Escape sequences of an indexed file are not printed."""
    (root / "evil.py").write_text('def evil():\n    return "\x1b]0;owned\x07 [bold]kept[/bold]"\n')
    Driver(engine).index(root)
    output = run("search", "evil").stdout
    assert "\x1b" not in output
    assert "[bold]kept[/bold]" in output


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("",), Exit.VALIDATION, "VALIDATION_ERROR"),
        (("x" * 2_001,), Exit.VALIDATION, "VALIDATION_ERROR"),
        (("x", "--limit", "51"), Exit.VALIDATION, "VALIDATION_ERROR"),
        (("x", "--limit", "0"), Exit.VALIDATION, "VALIDATION_ERROR"),
        (("x", "--offset", "-1"), Exit.VALIDATION, "VALIDATION_ERROR"),
        (("x", "--repo", "/nowhere"), Exit.NOT_FOUND, "REPOSITORY_NOT_FOUND"),
    ],
)
def test_a_search_that_cannot_be_answered(run: Terminal, arguments: tuple[str, ...], code: Exit, kind: str) -> None:
    """Each reason has its text and its code (R53)."""
    assert run.error("search", *arguments, code=code)[0] == kind


def test_skipped_files_are_shown_with_their_reasons(run: Terminal, root: Path, engine: Engine) -> None:
    """`--files` adds them to the page and to the record (R15)."""
    Driver(engine).index(root)
    record = JobInFull.model_validate_json(run("status", "last", "--files", "5", "--json").stdout)
    (file,) = record.files or ()
    assert (file.path, file.outcome, record.events) == ("blob.py", "skipped", None)
    assert f"skipped  blob.py: {file.reason}" in run("status", "last", "--files", "5").stdout
    assert "blob.py" not in run("status", "last").stdout


def test_what_happened_to_a_job_is_shown(run: Terminal, root: Path, engine: Engine) -> None:
    """`--events` adds each event to the page and to the record, oldest first (R60, R64)."""
    Driver(engine).index(root)
    record = JobInFull.model_validate_json(run("status", "last", "--events", "--json").stdout)
    told = [event.type for event in record.events or ()]
    assert (told[0], told[-1], record.files) == ("submitted", "completed", None)
    shown = run("status", "last", "--events").stdout
    assert all(f"  {kind}" in shown for kind in told)
    assert "  submitted" not in run("status", "last").stdout
