"""What the documents promise is there: commands, pages, words, and nobody's addresses."""

from __future__ import annotations

import re
from configparser import ConfigParser
from typing import TYPE_CHECKING, Final

import pytest

from ops.cli.completing import KINDS
from ops.processes import GRACE, LAST_SECONDS
from pipeline.states import NOTIFIABLE, Stage
from tests.house.sources import ROOT, documents, files_of_the_project, read

if TYPE_CHECKING:
    from pathlib import Path

LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
MACHINE_PATH: Final = re.compile(r"(?:^|[\s\"'`(=])/(?:root|Users|work)/[\w.-]+|" + re.escape(str(ROOT)))
REGISTRY: Final = re.compile(r"://[^/\s\"']+/(?:[^\s\"']*/)?(?:simple|packages)\b|--(?:extra-)?index-url|pythonhosted")
CORE_WORDS: Final = {"batch", "chunk", "embedding", "job", "lease", "message", "repository", "stage", "worker"}


def _commands(document: str) -> list[str]:
    """Return the lines of a document's shell examples, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]


def test_ci_runs_the_commands_of_the_readme() -> None:
    """Each `uv run` command that the README gives is a command of .ci/run, letter by letter."""
    parts = [part for line in _commands(read("README.md")) for part in line.split(" && ")]
    advised = [part for part in parts if part.startswith("uv run ")]
    run = read(".ci/run")
    search = "uv run penstock search 'give back the message of a worker that died'"
    assert advised == ["uv run penstock index .", search, "uv run pytest"]
    assert not [
        command for command in advised if not re.search(rf"(?:^| ){re.escape(command)}(?: \\)?$", run, re.MULTILINE)
    ]


@pytest.mark.parametrize("document", documents(), ids=lambda file: str(file.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(document: Path) -> None:
    """Every relative link of a document names a file of the project."""
    targets = [target for target in LINK.findall(document.read_text()) if "://" not in target]
    assert not [target for target in targets if not (document.parent / target).exists()]


def test_every_page_is_in_an_index() -> None:
    """A page under docs/ is linked from docs/README.md, a decision from the list of decisions."""
    for index in ("docs/README.md", "docs/decisions/README.md"):
        folder = (ROOT / index).parent
        linked = {folder / target for target in LINK.findall(read(index))}
        assert {page for page in folder.glob("*.md") if page.name != "README.md"} <= linked


def test_the_glossary_has_each_word_once_and_in_order() -> None:
    """The words that everything is written in are explained, each once, sorted."""
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", read("docs/glossary.md"), re.MULTILINE)
    assert words == sorted(set(words))
    assert set(words) >= CORE_WORDS


def test_the_page_on_notifications_lists_every_event() -> None:
    """Its table has what may be notified of, and the settings file the default (R63)."""
    table = read("docs/notifications.md").partition("| event | when |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`(?=[^|]*\|[^|]*\|$)", table, re.MULTILINE)) == set(NOTIFIABLE)
    default = re.search(r"^#PENSTOCK_NOTIFY_EVENTS=(.*)$", read(".env.example"), re.MULTILINE)
    assert default
    assert default[1].split(",") == [event for event in NOTIFIABLE if event != "submitted"]


def test_the_page_on_languages_lists_every_kind() -> None:
    """What the shell completes as a kind is what the page explains (R60)."""
    table = read("docs/languages.md").partition("| kind | what it is |")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(KINDS)


def test_the_procfile_has_a_line_for_every_stage() -> None:
    """Whoever runs the Procfile has migrations and a worker for each stage."""
    lines = read("Procfile")
    assert re.findall(r"--stage (\w+)", lines) == list(map(str, Stage))
    assert lines.startswith("release: penstock db upgrade\n")
    assert "\nweb: penstock serve\n" in lines


def test_the_units_start_and_end_what_the_procfile_starts() -> None:
    """A unit a stage: it comes back by itself, outlives a killed process, and ends after its batches (R33, R34)."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(read("ops/systemd/penstock-worker@.service"))
    service = unit["Service"]
    assert service["ExecStart"].endswith("penstock worker --stage %i $PENSTOCK_WORKER_OPTIONS")
    assert (service["Restart"], service["OOMPolicy"], service["KillMode"]) == ("always", "continue", "mixed")
    assert float(service["TimeoutStopSec"]) > GRACE + LAST_SECONDS
    serve = read("ops/systemd/penstock-serve.service")
    assert re.findall(r"^(?:ExecStart|Restart)=(.*)$", serve, re.MULTILINE) == [
        "/usr/local/bin/penstock serve",
        "always",
    ]
    advised = re.findall(
        r"penstock-worker@(\w+)", read("docs/operating.md").partition("systemctl")[2].partition("```")[0]
    )
    assert advised == list(map(str, Stage))


def test_no_file_tells_where_it_was_written() -> None:
    """No file names a registry or a folder of somebody's machine."""
    told = [
        f"{file.relative_to(ROOT)}: {found.group()}"
        for file in files_of_the_project()
        if file.name != "test_documents.py"
        for found in _told(file)
    ]
    assert not told


def _told(file: Path) -> list[re.Match[str]]:
    try:
        text = file.read_text()
    except UnicodeDecodeError:
        return []
    return [*MACHINE_PATH.finditer(text), *REGISTRY.finditer(text)]
