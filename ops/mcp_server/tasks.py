"""The tasks extension: a client that has it gets a task whose id is the job's; others get the job at once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from mcp import MCPError
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, RequestParams, TextContent
from pydantic import Field

from ops.mcp_server.answers import JobBrief, next_step
from ops.mcp_server.backend import work
from ops.mcp_server.catalogue import CHANGES, compact, tool
from ops.mcp_server.tools import Call, RepoPath, backend, start_indexing_background
from pipeline.errors import InvalidStatus, JobNotFound, PenstockError
from pipeline.states import TERMINAL, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.types import CallToolRequestParams

    from ops.mcp_server.backend import Backend
    from ops.mcp_server.desk import Desk
    from pipeline.records import Job

EXTENSION: Final = "io.modelcontextprotocol/tasks"
VERSIONS: Final = frozenset({"2026-07-28"})
POLL_MILLISECONDS: Final = 2_000
ENDS: Final = {
    JobStatus.COMPLETED: "completed",
    JobStatus.FAILED: "completed",  # the tool ran and says what went wrong; a task fails by errors of the protocol
    JobStatus.CANCELLED: "cancelled",
}


async def index_repository(ctx: Call, *, repo_path: RepoPath) -> JobBrief:
    """Index a repository as a task, which ends when the job does. Only new and changed files are read."""
    started = await start_indexing_background(ctx, repo_path=repo_path)
    job = await work((await backend(ctx).desk()).status, started.job_id)
    return JobBrief.of(job, started.next_step)


TASK_TOOL: Final = tool("Index a repository, as a task", CHANGES, index_repository)


class TaskParams(RequestParams):
    """What each request about a task has."""

    task_id: Annotated[UUID, Field(alias="taskId")]


class Tasks(Extension):
    """Serves tasks to clients that declare the extension, in the version of the protocol that has it."""

    identifier = EXTENSION

    def methods(self) -> Sequence[MethodBinding]:
        """Return the three requests about a task."""
        served = {"tasks/get": _get, "tasks/cancel": _cancel, "tasks/update": _acknowledge}
        return [MethodBinding(name, TaskParams, handler, VERSIONS) for name, handler in served.items()]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Backend, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer with a task where the tool and the client are made for it."""
        result = await call_next(ctx)
        if params.name != TASK_TOOL.name or not understands(ctx) or not isinstance(result, CallToolResult):
            return result
        if result.is_error or result.structured_content is None:
            return result
        desk = await ctx.lifespan_context.desk()
        job = await work(desk.status, UUID(result.structured_content["job_id"]))
        return {"resultType": "task", **_task(job)}


def understands(ctx: ServerRequestContext[Backend, Any]) -> bool:
    """Return whether the client speaks a version with tasks, and says that it wants them."""
    if ctx.protocol_version not in VERSIONS:
        return False
    try:
        require_client_extension(ctx, EXTENSION)
    except MCPError:
        return False
    return True


async def hide_from_others(ctx: ServerRequestContext[Backend, Any], call_next: CallNext) -> HandlerResult:
    """Leave the task tool out of the list for clients that would only get from it what another tool gives."""
    result = await call_next(ctx)
    if ctx.method != "tools/list" or understands(ctx) or not isinstance(result, dict):
        return result
    return result | {"tools": [tool for tool in result["tools"] if tool["name"] != TASK_TOOL.name]}


async def _get(ctx: ServerRequestContext[Backend, Any], params: TaskParams) -> HandlerResult:
    return {"resultType": "complete", **_task(await _asked(ctx, params, lambda desk: desk.status))}


async def _cancel(ctx: ServerRequestContext[Backend, Any], params: TaskParams) -> HandlerResult:
    with suppress(InvalidStatus):  # it has ended, and the request is only a wish
        await _asked(ctx, params, lambda desk: desk.cancel)
    return {"resultType": "complete"}


async def _acknowledge(ctx: ServerRequestContext[Backend, Any], params: TaskParams) -> HandlerResult:
    await _asked(ctx, params, lambda desk: desk.status)
    return {"resultType": "complete"}  # a job asks its client nothing, so there is nothing to take up


async def _asked(
    ctx: ServerRequestContext[Backend, Any], params: TaskParams, question: Callable[[Desk], Callable[[UUID], Any]]
) -> Any:  # noqa: ANN401 - what the question returns
    require_client_extension(ctx, EXTENSION)
    try:
        desk = await ctx.lifespan_context.desk()
        return await work(question(desk), params.task_id)
    except InvalidStatus:
        raise
    except JobNotFound as error:
        raise MCPError(INVALID_PARAMS, f"{error.code}: no task has the id {params.task_id}") from error
    except PenstockError as error:
        raise MCPError(INTERNAL_ERROR, f"{error.code}: {error}") from error


def _task(job: Job) -> dict[str, Any]:
    """Return a job as the extension writes a task, with the result once there is one."""
    task = {
        "taskId": str(job.job_id),
        "status": ENDS.get(job.status, "working"),
        "statusMessage": job.progress_message,
        "createdAt": job.created_at.isoformat(),
        "lastUpdatedAt": job.updated_at.isoformat(),
        "ttlMs": None,
        "pollIntervalMs": POLL_MILLISECONDS,
    }
    if job.status not in TERMINAL or job.status == JobStatus.CANCELLED:
        return task
    answer = JobBrief.of(job, next_step(job)).model_dump(mode="json", exclude_none=True)
    result = CallToolResult(
        content=[TextContent(type="text", text=compact(answer))],
        structured_content=answer,
        is_error=job.status == JobStatus.FAILED,
    )
    return task | {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)}
