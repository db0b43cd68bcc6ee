"""The tools: what an agent may ask, in the words that it reads; each calls the desk and nothing else."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from mcp.server.mcpserver import Context
from pydantic import Field

from ops.mcp_server.answers import Hits, JobAnswer, JobBrief, JobList, RepositoryList, Started
from ops.mcp_server.backend import Backend, work
from ops.mcp_server.catalogue import CHANGES, ENDS, GOES_ON, READS, tool
from ops.mcp_server.waiting import watch
from pipeline.errors import ValidationError
from pipeline.records import Job, JobRequest
from pipeline.states import JobStatus

LONGEST_WAIT: Final = 45

Call = Context[Backend, Any]
Globs = Annotated[list[str], Field(description="Globs of paths in the repository, like src/**/*.py")]
JobId = Annotated[UUID, Field(description="From start_indexing_background or list_background_jobs")]
Limit = Annotated[int, Field(ge=1, le=50)]
Offset = Annotated[int, Field(ge=0, le=10_000, description="How many to pass over")]
Project = Annotated[str | None, Field(description="Only this project")]
RepoPath = Annotated[str, Field(description="Absolute path of the folder, without ~ or ..; or a git URL (#branch)")]
State = Literal["pending", "queued", "running", "paused", "blocked", "completed", "failed", "cancelled"]


async def start_indexing_background(
    ctx: Call,
    *,
    repo_path: RepoPath,
    project_id: Annotated[str, Field(description="Each project has its own index")] = "default",
    name: Annotated[str | None, Field(description="What to call it; default: the folder's name")] = None,
    recursive: Annotated[bool, Field(description="Also the folders below")] = True,
    force_reindex: Annotated[bool, Field(description="Index unchanged files again")] = False,
    include: Globs = [],
    exclude: Globs = [],
) -> Started:
    """Index a repository in the background, and return a job_id at once.

    Only new and changed files are read, so call it again after edits. A repository that is being indexed already gives
    the same job, with duplicate=true. The job outlives this call and this client. Next: get_indexing_status with
    wait_seconds, or search_code right away.
    """
    request = JobRequest(
        repo_path=repo_path,
        project_id=project_id,
        name=name,
        recursive=recursive,
        force_reindex=force_reindex,
        include=tuple(include),
        exclude=tuple(exclude),
    )
    return await work((await backend(ctx).desk()).start, request)


async def get_indexing_status(
    ctx: Call,
    *,
    job_id: JobId,
    wait_seconds: Annotated[
        int, Field(ge=0, le=LONGEST_WAIT, description="Return only when the job ends or stops, or after so long")
    ] = 0,
    detail: Annotated[bool, Field(description="Also stages, counters, and files not indexed with reasons")] = False,
) -> JobAnswer:
    """Tell where a job is: status, percentage, what it waits for, how long it will take.

    With wait_seconds=45 it returns when the job has ended, was paused, lost its embedding server or stands still, and
    reports progress meanwhile: better than asking again and again. next_step says what to do then.
    """
    deadline = time.monotonic() + wait_seconds
    desk = await backend(ctx).desk()

    async def look() -> Job:
        return await work(desk.status, job_id)

    if wait_seconds:
        with backend(ctx).ear.tuned(desk.engine, job_id) as news:
            job = await watch(look, news, deadline, _reporter(ctx))
    else:
        job = await look()
    return await work(desk.described, job, detail=detail)


def _reporter(ctx: Call) -> Callable[[Job], Awaitable[None]]:
    """Return what tells the client how far a job is, whenever that has grown, as the protocol wants it."""
    told = -1.0

    async def report(job: Job) -> None:
        nonlocal told
        percentage = round(job.progress_percentage, 1)
        if percentage > told:
            told = percentage
            await ctx.report_progress(told, 100, job.progress_message)

    return report


async def list_background_jobs(
    ctx: Call,
    *,
    status: Annotated[list[State], Field(description="Only jobs in these states; queued means pending")] = [],
    project_id: Project = None,
    path_prefix: Annotated[str | None, Field(description="Only repositories whose path begins so")] = None,
    limit: Limit = 10,
    offset: Offset = 0,
) -> JobList:
    """List indexing jobs, newest first, also those that ended within the last days; for a job_id that was lost."""
    desk = await backend(ctx).desk()
    from pipeline.store.jobs import JobFilter  # noqa: PLC0415 - half a second, which the desk has spent by now

    statuses = tuple(JobStatus.PENDING if name == "queued" else JobStatus(name) for name in status)
    wanted = JobFilter(statuses=statuses, project_id=project_id, path_prefix=path_prefix)
    return await work(desk.listed, wanted, limit, offset)


async def pause_indexing(ctx: Call, *, job_id: JobId) -> JobBrief:
    """Stop a job within a second; everything done so far is kept and searchable. resume_indexing continues it."""
    return await work((await backend(ctx).desk()).pause, job_id)


async def resume_indexing(ctx: Call, *, job_id: JobId) -> JobBrief:
    """Continue a paused job; after a failed or cancelled one, start a new job that skips what is done.

    Mind the new job's job_id; resumed_from names the old one.
    """
    return await work((await backend(ctx).desk()).resume, job_id)


async def cancel_indexing_background(
    ctx: Call,
    *,
    job_id: JobId,
    confirm: Annotated[bool, Field(description="Must be true: a cancelled job cannot be continued")] = False,
) -> JobBrief:
    """End a job for good; what it has indexed stays searchable. To stop it for a while, use pause_indexing."""
    if not confirm:
        raise ValidationError(f"job {job_id} was not cancelled: say confirm=true, or use pause_indexing")
    return await work((await backend(ctx).desk()).cancel, job_id)


async def search_code(
    ctx: Call,
    *,
    query: Annotated[str, Field(description="What the code does, in plain words, or identifiers")],
    repo_path: Annotated[
        str | None, Field(description="Absolute path or git URL of an indexed repository; default: all")
    ] = None,
    project_id: Project = None,
    path_glob: Annotated[str | None, Field(description="Only paths in the repository that match: src/**/*.py")] = None,
    languages: Annotated[list[str], Field(description="Only these, like python")] = [],
    kinds: Annotated[list[str], Field(description="Only these, like function, class, method")] = [],
    limit: Limit = 8,
    offset: Offset = 0,
    max_tokens: Annotated[
        int, Field(ge=200, le=12_000, description="Bound on the answer; what is less good is shortened first")
    ] = 2_500,
) -> Hits:
    """Search indexed code by meaning and by words; best first, with file, lines, symbol and content.

    It works while a job runs: index_state and coverage say how much was there to search. A repository that was never
    indexed is an error that says so: call start_indexing_background with its path.
    """
    desk = await backend(ctx).desk()
    from pipeline.search import SearchRequest  # noqa: PLC0415 - as above

    request = SearchRequest(
        query=query,
        project_id=project_id,
        path_glob=path_glob,
        languages=tuple(languages),
        kinds=tuple(kinds),
        limit=limit,
        offset=offset,
        max_tokens=max_tokens,
    )
    return await work(desk.search, request, repo_path)


async def list_repositories(
    ctx: Call, *, project_id: Project = None, limit: Limit = 10, offset: Offset = 0
) -> RepositoryList:
    """List what is indexed, with state and size; search_code takes a root_path of these as repo_path."""
    return await work((await backend(ctx).desk()).indexed, project_id, limit, offset)


def backend(ctx: Call) -> Backend:
    """Return what this process's tools share."""
    return ctx.request_context.lifespan_context


TOOLS: Final = (
    tool("Index a repository", CHANGES, start_indexing_background),
    tool("Status of a job", READS, get_indexing_status),
    tool("List jobs", READS, list_background_jobs),
    tool("Pause a job", CHANGES, pause_indexing),
    tool("Resume a job", GOES_ON, resume_indexing),
    tool("Cancel a job", ENDS, cancel_indexing_background),
    tool("Search code", READS, search_code),
    tool("List repositories", READS, list_repositories),
)
