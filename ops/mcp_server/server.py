"""The shim itself: the tools on the official SDK, with our errors' codes and answers that cost few tokens."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import pydantic
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.stdio import stdio_server
from mcp.types import CallToolResult, TextContent

from ops.mcp_server.backend import Backend
from ops.mcp_server.catalogue import compact
from ops.mcp_server.tasks import TASK_TOOL, Tasks, hide_from_others
from ops.mcp_server.tools import TOOLS
from pipeline.errors import JobNotFound, PenstockError, ValidationError

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.mcpserver import Context
    from mcp.types import InputRequiredResult

    from ops.mcp_server.wire import Wire
    from ops.settings import Settings

INSTRUCTIONS: Final = """\
Penstock indexes code repositories in the background and searches them by meaning.

To search: call search_code with a question in plain words and the absolute repo_path. It answers with files and \
lines; read those files for more. index_state and coverage say how much of the repository was there to search.

If the repository is not indexed (REPOSITORY_NOT_FOUND), call start_indexing_background with its absolute path. It \
returns a job_id at once; the work goes on in other processes, also when you leave. Search right away, or call \
get_indexing_status with wait_seconds=45, which returns when the job ends or needs attention. After edits call \
start_indexing_background again: only what changed is read.

Errors begin with a code. VALIDATION_ERROR: correct the arguments. JOB_NOT_FOUND: list_background_jobs has the ids. \
INVALID_STATUS: the job's state does not allow it; look with get_indexing_status. DATABASE_ERROR and EMBEDDER_ERROR: \
what they name must be mended first; try again later. Answers say in next_step what to call next.
"""
SHOWN_INPUT: Final = 80


class Shim(MCPServer[Backend]):
    """The MCP server of this process."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Backend, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; its error's text begins with a code, and what is None is left out of its answer."""
        try:
            result = await super().call_tool(name, arguments, context)
        except ToolError as error:
            raise coded(name, error) from error.__cause__
        if isinstance(result, CallToolResult):
            result.structured_content = without_none(result.structured_content)
            result.content = [TextContent(type="text", text=compact(result.structured_content))]
        return result

    async def speak(self, wire: Wire) -> None:
        """Serve one client over the streams of a wire until it leaves."""
        async with stdio_server(wire.incoming, wire.outgoing) as (incoming, outgoing):
            options = self._lowlevel_server.create_initialization_options()
            await self._lowlevel_server.run(incoming, outgoing, options)


def make_shim(settings: Settings) -> Shim:
    """Return a shim whose desk is opened once the first message was answered; configure the logs before."""
    logging.getLogger("mcp").setLevel(logging.WARNING)  # below, the SDK logs ids of sessions, and whole messages
    backend = Backend(settings)
    return Shim(
        "penstock",
        title="Penstock",
        version=version("penstock"),
        instructions=INSTRUCTIONS,
        tools=[*TOOLS, TASK_TOOL],
        extensions=[Tasks()],
        log_level="WARNING",
        lifespan=lambda _: backend.running(),
        middleware=[_begin, hide_from_others],
    )


async def _begin(ctx: ServerRequestContext[Backend, Any], call_next: CallNext) -> HandlerResult:
    """Open the desk after the first message was answered."""
    try:
        return await call_next(ctx)
    finally:
        ctx.lifespan_context.begin()


def without_none(answer: Any) -> Any:  # noqa: ANN401 - JSON
    """Return JSON without the members that are null."""
    if isinstance(answer, dict):
        return {name: without_none(value) for name, value in answer.items() if value is not None}
    return [without_none(value) for value in answer] if isinstance(answer, list) else answer


def coded(name: str, error: ToolError) -> ToolError:
    """Return the error as agents read it: its code, what failed, what to do next."""
    cause = error.__cause__
    if isinstance(cause, JobNotFound):
        return ToolError(f"{cause.code}: {cause}; here list_background_jobs does")
    if isinstance(cause, PenstockError):
        return ToolError(f"{cause.code}: {cause}")
    if isinstance(cause, pydantic.ValidationError):
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (got {repr(fault['input'])[:SHOWN_INPUT]})"
            for fault in cause.errors()
        )
        return ToolError(f"{ValidationError.code}: {name}: {faults}")
    if cause is None:
        return ToolError(f"{ValidationError.code}: {error}")
    said = f"{type(cause).__name__} in {name}; this is a fault of Penstock, what the server wrote to stderr says where"
    return UnexpectedToolError(f"{PenstockError.code}: {said}")
