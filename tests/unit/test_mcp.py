"""What agents read before they ask: names, words and schemas."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError

from ops.mcp_server.server import INSTRUCTIONS, coded
from ops.mcp_server.tasks import TASK_TOOL
from ops.mcp_server.tools import TOOLS
from pipeline import errors
from tests.house.sources import read

LONGEST_TEXT: Final = 2_000
"""Characters after which clients cut a description."""
LARGEST_CATALOGUE: Final = 16_000
"""Characters of all tools as clients get them: some 4,000 tokens, of which a model is shown the smaller part."""
LARGEST_FOR_MODELS: Final = 7_000
"""Characters of what models are shown: names, descriptions and schemas of arguments."""


def test_the_tools_are_the_eight_that_agents_expect() -> None:
    """Every name of R61 is there, and no other; each has a title, words and annotations."""
    expected = (
        "start_indexing_background get_indexing_status list_background_jobs pause_indexing resume_indexing"
        " cancel_indexing_background search_code list_repositories"
    )
    assert [tool.name for tool in TOOLS] == expected.split()
    for tool in (*TOOLS, TASK_TOOL):
        assert tool.title
        assert tool.annotations is not None
        assert tool.annotations.open_world_hint is False
        assert tool.output_schema is not None


def test_only_reading_tools_say_that_they_read_and_only_cancel_destroys() -> None:
    """Clients let agents call a reading tool without asking, and warn before one that destroys (R61)."""
    hints = {tool.name: tool.annotations for tool in TOOLS if tool.annotations}
    reading = {name for name, hint in hints.items() if hint.read_only_hint}
    assert reading == {"get_indexing_status", "list_background_jobs", "search_code", "list_repositories"}
    assert [name for name, hint in hints.items() if hint.destructive_hint] == ["cancel_indexing_background"]


def test_words_and_schemas_are_small() -> None:
    """No text is long enough to be cut, and the catalogue costs an agent little (R61)."""
    shown = [(tool.name, tool.description, tool.parameters) for tool in TOOLS]
    assert len(INSTRUCTIONS) < LONGEST_TEXT
    assert max(len(tool.description) for tool in TOOLS) < LONGEST_TEXT / 4
    assert len(_compact(shown)) < LARGEST_FOR_MODELS
    assert len(_compact([shown, [tool.output_schema for tool in TOOLS]])) < LARGEST_CATALOGUE


def _compact(value: Any) -> str:  # noqa: ANN401 - JSON
    return json.dumps(value, separators=(",", ":"))


def test_the_page_describes_every_tool_and_argument() -> None:
    """The table in docs/mcp.md has a row a tool, with each of its arguments (R61)."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", read("docs/mcp.md"), re.MULTILINE))
    assert {name: sorted(re.findall(r"`(\w+)`", arguments)) for name, arguments in rows.items()} == {
        tool.name: sorted(tool.parameters["properties"]) for tool in TOOLS
    }


CODES: Final = {
    errors.InvalidPath("x"): "VALIDATION_ERROR",
    errors.InvalidQuery("x"): "VALIDATION_ERROR",
    errors.JobNotFound("x"): "JOB_NOT_FOUND",
    errors.RepositoryNotFound("x"): "REPOSITORY_NOT_FOUND",
    errors.InvalidStatus("x"): "INVALID_STATUS",
    errors.DatabaseError("x"): "DATABASE_ERROR",
    errors.ModelMissing("x"): "EMBEDDER_ERROR",
}


@pytest.mark.parametrize(("cause", "code"), CODES.items(), ids=lambda value: type(value).__name__)
def test_every_error_begins_with_its_code(cause: errors.PenstockError, code: str) -> None:
    """An agent can tell errors apart by their first word, whatever the SDK puts before them (R61)."""
    assert str(coded("search_code", _raised(cause))).startswith(f"{code}: ")


def test_a_fault_of_ours_tells_no_more_than_that() -> None:
    """The text of an exception that nobody expected stays in the log."""
    error = coded("search_code", _raised(RuntimeError("secret")))
    assert isinstance(error, UnexpectedToolError)
    assert str(error).startswith("PENSTOCK_ERROR: RuntimeError in search_code")
    assert "secret" not in str(error)


def _raised(cause: Exception) -> ToolError:
    error = ToolError("Error executing tool")
    error.__cause__ = cause
    return error
