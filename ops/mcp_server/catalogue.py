"""How functions become tools: strict about unknown arguments, with schemas that hold nothing an agent need not read."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
CHANGES: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
GOES_ON: Final = CHANGES.model_copy(update={"idempotent_hint": False})
NULL: Final = {"type": "null"}
ENDS: Final = CHANGES.model_copy(update={"destructive_hint": True})


def tool(title: str, annotations: ToolAnnotations, fn: Callable[..., Awaitable[Any]]) -> Tool:
    """Return a tool by the name of its function; its docstring is what an agent reads."""
    description = " ".join((inspect.getdoc(fn) or "").split())
    made = Tool.from_function(fn, title=title, description=description, annotations=annotations)
    arguments = made.fn_metadata.arg_model
    arguments.model_config["extra"] = "forbid"
    arguments.model_rebuild(force=True)
    made.parameters = _lean(arguments.model_json_schema(by_alias=True))
    made.fn_metadata.output_schema = _lean(made.fn_metadata.output_schema)
    return made


def compact(answer: object) -> str:
    """Return JSON without a blank too many."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _lean(schema: Any) -> Any:  # noqa: ANN401 - a JSON schema
    """Return a schema without generated titles, the docstrings of its types, and null, which nobody sends."""
    if isinstance(schema, list):
        return [_lean(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    typed = schema.get("type") == "object" or "enum" in schema
    dropped = {name for name in ("title", *(("description",) if typed else ())) if isinstance(schema.get(name), str)}
    lean = {name: _lean(part) for name, part in schema.items() if name not in dropped}
    if lean.get("default", ...) is None:
        del lean["default"]
        [only] = (part for part in lean.pop("anyOf") if part != NULL)
        lean = only | lean
    return lean
