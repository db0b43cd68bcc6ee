"""What the tools ask of the head: opened once, called from threads; it brings the local workers when there is work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ops import postgres, supervisor
from ops.mcp_server.answers import (
    NEXT_STEPS,
    Hit,
    Hits,
    JobAnswer,
    JobBrief,
    JobList,
    RepositoryBrief,
    RepositoryList,
    Started,
)
from ops.mcp_server.answers import next_step as after
from ops.office import embedder_config, open_office
from pipeline import jobs
from pipeline.describing import percent
from pipeline.embedders.choosing import choose
from pipeline.errors import InvalidPath, RepositoryNotFound
from pipeline.search import search
from pipeline.sources import is_url, parse
from pipeline.states import ACTIVE, WORKING, JobStatus
from pipeline.store.jobs import JobFilter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy import Engine

    from ops.settings import Settings
    from pipeline.embedders import Embedder
    from pipeline.jobs import Office
    from pipeline.records import Job, JobRequest, SearchResults
    from pipeline.search import SearchRequest

SHOWN_FILES: Final = 20
EMBEDDER_SECONDS: Final = 15.0
"""How long a search waits for an embedding server before words alone decide: a client waits a minute at most."""
NO_WORKER: Final = "No worker is online, so the job waits: have somebody start some (`penstock worker --help`)."
NOTHING_FOUND: Final = "nothing was found; try other words, or fewer filters"
SHORTENED: Final = "results with shown are not whole: read their lines in the file, or ask with a larger max_tokens"
NOTHING_YET: Final = "nothing of it can be searched yet"


@dataclass(frozen=True, slots=True)
class Desk:
    """An open office, with its settings."""

    settings: Settings
    office: Office

    @classmethod
    def open(cls, settings: Settings) -> Desk:
        """Open the database; the embedded one is made and started where needed. Raises DatabaseError."""
        return cls(settings, open_office(settings))

    @property
    def engine(self) -> Engine:
        """The pool of the office."""
        return self.office.engine

    def refresh(self) -> None:
        """Start the embedded server again when somebody stopped it."""
        if self.settings.database_url is None:
            postgres.ensure(self.settings.penstock_home)

    def revive(self) -> None:
        """Bring the local workers when jobs were left by those of an earlier day."""
        if self.settings.database_url is None and self._newest((JobStatus.PENDING, *WORKING)):
            supervisor.ensure(self.settings)

    def start(self, request: JobRequest) -> Started:
        """Submit a job, and see to it that somebody works on it."""
        submission = jobs.submit(self.office, request)
        advice = self._call_workers() or NEXT_STEPS[submission.status]
        return Started(**dict(submission), next_step=advice)

    def status(self, job_id: UUID) -> Job:
        """Return a job's record."""
        return jobs.status(self.engine, job_id)

    def described(self, job: Job, *, detail: bool) -> JobAnswer:
        """Return what an agent reads of a job."""
        answer = JobAnswer.of(job, after(job))
        return answer.detailed(job, jobs.notes(self.engine, job.job_id, SHOWN_FILES)) if detail else answer

    def listed(self, wanted: JobFilter, limit: int, offset: int) -> JobList:
        """Return a page of jobs, newest first."""
        page = jobs.listed(self.engine, wanted, limit, offset)
        briefs = tuple(map(JobBrief.of, page.jobs))
        return JobList(jobs=briefs, total_count=page.total_count, limit=limit, offset=offset)

    def pause(self, job_id: UUID) -> JobBrief:
        """Stop a job where it is."""
        return _brief(jobs.pause(self.office, job_id))

    def resume(self, job_id: UUID) -> JobBrief:
        """Continue a job, or start its successor, and see to it that somebody works on it."""
        job = jobs.resume(self.office, job_id)
        return JobBrief.of(job, self._call_workers() or after(job))

    def cancel(self, job_id: UUID) -> JobBrief:
        """End a job."""
        return _brief(jobs.cancel(self.office, job_id))

    def indexed(self, project_id: str | None, limit: int, offset: int) -> RepositoryList:
        """Return a page of the repositories."""
        found = jobs.indexed(self.engine, project_id)
        return RepositoryList(
            repositories=tuple(map(RepositoryBrief.of, found[offset : offset + limit])),
            total_count=len(found),
            limit=limit,
            offset=offset,
            next_step=None if found else "start_indexing_background indexes one.",
        )

    def search(self, request: SearchRequest, repo_path: str | None) -> Hits:
        """Answer a query; an unknown repository's error says what to call."""
        root = None if repo_path is None else _root(repo_path)
        try:
            found = search(self.engine, self._embedder, replace(request, repo_path=root))
        except RepositoryNotFound as error:
            raise self._unknown(root or "", request.project_id) from error
        return _hits(found, self._advice(found, root, request.project_id))

    def _embedder(self, name: str, model: str) -> Embedder:
        config = embedder_config(self.settings)
        return choose(name, model, replace(config, ollama_timeout=min(config.ollama_timeout, EMBEDDER_SECONDS)))

    def _call_workers(self) -> str | None:
        """Make sure that local workers run; where they are somebody else's business, say when there are none."""
        supervisor.ensure(self.settings)
        absent = self.settings.database_url is not None and not jobs.online(self.engine)
        return NO_WORKER if absent else None

    def _newest(
        self, statuses: Iterable[JobStatus], root: str | None = None, project_id: str | None = None
    ) -> Job | None:
        wanted = JobFilter(statuses=tuple(statuses), project_id=project_id, path_prefix=root)
        page = jobs.listed(self.engine, wanted, jobs.MAX_PAGE)
        return next((job for job in page.jobs if root is None or job.repo_path == root), None)

    def _unknown(self, root: str, project_id: str | None) -> RepositoryNotFound:
        """Return the error that says where the repository is indexed, or how to have it indexed."""
        known = jobs.indexed(self.engine)
        owners = [repository.project_id for repository in known if repository.root_path == root]
        if owners:
            said = f"is not indexed in project {project_id}, but in {', '.join(owners)}: search with that project_id"
            return RepositoryNotFound(f"{root} {said}")
        folders = {Path(repository.root_path) for repository in known}
        holder = next((folder for folder in Path(root).parents if folder in folders), None)
        if holder is None:
            said = f"is not indexed; call start_indexing_background with repo_path={root!r}, then search again"
            return RepositoryNotFound(f"{root} {said}")
        within = f"repo_path={str(holder)!r} and path_glob='{Path(root).relative_to(holder)}/**'"
        return RepositoryNotFound(f"{root} is a part of {holder}, which is indexed: search with {within}")

    def _advice(self, found: SearchResults, root: str | None, project_id: str | None) -> str | None:
        """Return how to have an index that is not complete completed."""
        if found.index_state == "complete" or root is None:
            return None
        job = self._newest(ACTIVE, root, project_id)
        if job is None:
            return "The index is not complete: start_indexing_background completes it, and skips what is done."
        return f"Job {job.job_id} is indexing it ({percent(job.progress_percentage)}). {after(job)}"


def _brief(job: Job) -> JobBrief:
    return JobBrief.of(job, after(job))


def _root(path: str) -> str:
    if is_url(path):
        return parse(path).name
    if not path.startswith("/"):
        raise InvalidPath(f"repo_path {path!r} is not absolute: give the whole path from /, without ~")
    try:
        return str(Path(path).resolve())
    except (OSError, RuntimeError, ValueError):
        raise InvalidPath(f"repo_path {path!r} cannot be resolved") from None


def _hits(found: SearchResults, advice: str | None) -> Hits:
    """Say what was shortened or left out, and name the repository once where all results are from one."""
    roots = {hit.repository for hit in found.results}
    results = tuple(Hit.of(hit, several=len(roots) > 1) for hit in found.results)
    notes = [
        found.note,
        SHORTENED if found.shortened else None,
        f"offset={found.offset + len(results)} goes on with what is omitted" if found.omitted else None,
        None if results else NOTHING_FOUND if found.coverage else NOTHING_YET,
    ]
    return Hits(
        results=results,
        index_state=found.index_state,
        coverage=found.coverage,
        repository=next(iter(roots)) if len(roots) == 1 else None,
        shortened=found.shortened or None,
        omitted=found.omitted or None,
        note="; ".join(filter(None, notes)) or None,
        next_step=advice,
    )
