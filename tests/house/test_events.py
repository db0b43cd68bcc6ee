"""The page on logs is the contract: its table has the events and fields that the code has, and no others (R64, R65)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from pipeline.stages.chunk import ChunkReport
from pipeline.stages.embed import EmbedReport
from pipeline.stages.scan import ScanReport
from pipeline.stages.write import WriteReport
from tests.house.sources import modules, read

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW: Final = re.compile(r"^\| `(\w+\.\w+)` \| ([a-z, ]+) \| ([^|]*)\| .+ \|$", re.MULTILINE)
CONTEXT: Final = {"timestamp", "level", "event", "host", "worker", "stage", "job_id", "batch_id", "deliveries"}
OF_JOBS: Final = {"repo_path", "at"}
LEVELS: Final = {"debug", "info", "warning", "error", "critical", "exception"}
REPORTS: Final = {"scan": ScanReport, "chunk": ChunkReport, "embed": EmbedReport, "write": WriteReport}
KEPT_OF_A_MOVE: Final = {"error_message", "blocked_reason"}
"""What `store.jobs.move` notes with its event."""

Events = dict[str, set[str]]


def documented() -> Events:
    """Return the fields of every event on the page, without the context that its lines have anyway."""
    return {event: set(re.findall(r"`(\w+)`", names)) for event, _, names in ROW.findall(read("docs/logs.md"))}


def calls(*folders: str) -> Iterator[ast.Call]:
    """Yield the calls of methods and functions in some folders, but for the command line's, which prints."""
    trees = (module.tree for module in modules(*folders) if not module.path.startswith("ops/cli/"))
    return (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    """Return what is called, as it is written."""
    return ast.unparse(call.func)


def said() -> Events:
    """Return the fields of every event that the code logs under a literal name."""
    found: Events = defaultdict(set)
    for call in calls("actors", "ops"):
        function = name_of(call)
        logs = function == "say" or (function.startswith("log.") and function.removeprefix("log.") in LEVELS)
        if logs and call.args and isinstance(call.args[0], ast.Constant):
            names = {keyword.arg for keyword in call.keywords if keyword.arg}
            traced = function == "log.exception" or "exc_info" in names
            found[str(call.args[0].value)] |= names - {"exc_info"} | ({"exception"} if traced else set())
    return found


def happened() -> Events:
    """Return the fields of every event in a job's life that the code records under a literal name."""
    found: Events = defaultdict(set)
    for call in calls("pipeline"):
        place = {"events.record": 2, "events.recording": 1, "jobs.move": 3, "move": 3, "_control": 3}.get(name_of(call))
        if place is None or len(call.args) <= place or not isinstance(call.args[place], ast.Constant):
            continue
        names = {keyword.arg for keyword in call.keywords if keyword.arg}
        details = [
            ast.literal_eval(key) for node in call.args if isinstance(node, ast.Dict) for key in node.keys if key
        ]
        kept = {*names, *details} if name_of(call).startswith("events.") else names & KEPT_OF_A_MOVE
        found[f"job.{ast.literal_eval(call.args[place])}"] |= kept - OF_JOBS
    return found


def test_the_table_has_every_event_and_every_field() -> None:
    """Whoever adds an event or a field writes it down; whoever writes one down has it in the code."""
    reported = {
        f"{stage}.done": {field.name for field in fields(report)} - {"job_id", "batch_id"}
        for stage, report in REPORTS.items()
    }
    in_code = {event: names - {"stage"} for event, names in (said() | happened() | reported).items()}
    assert {event: names - {"stage"} for event, names in documented().items()} == in_code


def test_every_event_is_named_by_what_and_what_happened() -> None:
    """No line of ours is a sentence: machines read them."""
    assert not [event for event in said() if not re.fullmatch(r"[a-z]+\.[a-z_]+", event)]
