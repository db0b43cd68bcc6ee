"""The JSON API: the functions of the head over HTTP, with the records that `--json` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from ops.cli.jobs import parse_status
from ops.office import embedder_for
from ops.records import JobInFull, Repositories, Submitted, Workers
from ops.web.answers import answering
from ops.web.records import Cancellation, JobQuery, JobsQuery, SearchQuery
from pipeline import jobs
from pipeline.errors import ValidationError
from pipeline.records import Job, JobPage, JobRequest, SearchResults
from pipeline.search import SearchRequest, search
from pipeline.store.jobs import JobFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

    from ops.web.answers import Asked
    from ops.web.site import Site
    from pipeline.jobs import Office


def routes(site: Site) -> Sequence[BaseRoute]:
    """Return what is served under /api."""
    job = "/api/jobs/{job_id}"
    call = site.call_workers
    return (
        Route("/api/jobs", answering(site, list_jobs)),
        Route("/api/jobs", answering(site, submit, status=202, afterwards=call), methods=["POST"]),
        Route(job, answering(site, show_job)),
        Route(f"{job}/pause", answering(site, pause), methods=["POST"]),
        Route(f"{job}/resume", answering(site, resume, afterwards=call), methods=["POST"]),
        Route(f"{job}/cancel", answering(site, cancel), methods=["POST"]),
        Route("/api/repositories", answering(site, list_repositories)),
        Route("/api/workers", answering(site, list_workers)),
        Route("/api/search", answering(site, find)),
    )


def list_jobs(asked: Asked) -> JobPage:
    """List jobs, newest first (R25)."""
    query = asked.parameters(JobsQuery)
    wanted = JobFilter(
        statuses=tuple(map(parse_status, query.status)),
        project_id=query.project,
        path_prefix=query.path_prefix,
        created_after=query.after,
        created_before=query.before,
    )
    return asked.site.ask(lambda office: jobs.listed(office.engine, wanted, query.limit, query.offset))


def submit(asked: Asked) -> Submitted:
    """Submit a repository (R01-R04)."""
    request = asked.content(JobRequest)

    def begin(office: Office) -> Submitted:
        submission = jobs.submit(office, request)
        return Submitted.of(submission, jobs.status(office.engine, submission.job_id))

    return asked.site.ask(begin)


def show_job(asked: Asked) -> JobInFull:
    """Show a job, what happened to it, and what became of its files (R15, R20)."""
    job_id, most = jobs.parse_id(asked.path["job_id"]), asked.parameters(JobQuery).files

    def look(office: Office) -> JobInFull:
        job = jobs.status(office.engine, job_id)
        files = jobs.notes(office.engine, job_id, most)
        return JobInFull(**dict(job), files=files, events=jobs.happened(office.engine, job_id))

    return asked.site.ask(look)


def pause(asked: Asked) -> Job:
    """Stop a job where it is (R30)."""
    job_id = jobs.parse_id(asked.path["job_id"])
    return asked.site.ask(lambda office: jobs.pause(office, job_id))


def resume(asked: Asked) -> Job:
    """Continue a job, or begin a new one after it (R32)."""
    job_id = jobs.parse_id(asked.path["job_id"])
    return asked.site.ask(lambda office: jobs.resume(office, job_id))


def cancel(asked: Asked) -> Job:
    """End a job, when that is confirmed (R31)."""
    job_id = jobs.parse_id(asked.path["job_id"])
    if not asked.content(Cancellation).confirm:
        message = f'a cancel ends job {job_id} for good: confirm it with {{"confirm": true}}'
        raise ValidationError(message)
    return asked.site.ask(lambda office: jobs.cancel(office, job_id))


def list_repositories(asked: Asked) -> Repositories:
    """List what is indexed."""
    return asked.site.ask(lambda office: Repositories(repositories=jobs.indexed(office.engine)))


def list_workers(asked: Asked) -> Workers:
    """List the worker processes that are online."""
    return asked.site.ask(lambda office: Workers(workers=jobs.online(office.engine)))


def find(asked: Asked) -> SearchResults:
    """Answer a query (R52, R53)."""
    query = asked.parameters(SearchQuery)
    request = SearchRequest(
        query=query.query,
        project_id=query.project,
        repo_path=query.repo or None,
        path_glob=query.path,
        languages=query.language,
        kinds=query.kind,
        limit=query.limit,
        offset=query.offset,
        max_tokens=query.max_tokens,
    )
    embedders = embedder_for(asked.site.settings)
    return asked.site.ask(lambda office: search(office.engine, embedders, request))
