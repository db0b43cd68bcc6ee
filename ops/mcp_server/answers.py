"""What the tools answer: the records of the head, cut down to what an agent needs; what is None is left out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import Field

from pipeline.records import FileNote, Job, Record, Repository, SearchHit, Shown, Submission
from pipeline.states import JobStatus

STANDING_STILL: Final = "It stands still: stall_reason says why. It goes on by itself once that is mended."
NEXT_STEPS: Final = {
    JobStatus.PENDING: "get_indexing_status with wait_seconds=45 waits for its end; it begins by itself.",
    JobStatus.RUNNING: "get_indexing_status with wait_seconds=45 waits for its end; search_code works meanwhile.",
    JobStatus.PAUSED: "resume_indexing continues it.",
    JobStatus.BLOCKED: "It goes on by itself when the embedding server answers; progress_message says what is wrong.",
    JobStatus.COMPLETED: "search_code with this repo_path finds what was indexed.",
    JobStatus.FAILED: "Mend what error_message says; then resume_indexing starts a job that skips what is done.",
    JobStatus.CANCELLED: "resume_indexing starts a job that skips what is done.",
}
BRIEF: Final = (
    "job_id status project_id repo_path progress_percentage progress_message stall_reason estimated_remaining_seconds"
    " error_type error_message resumed_from created_at finished_at"
).split()
COUNTERS: Final = (
    "duration_seconds files_scanned files_indexed files_unchanged files_removed files_skipped files_failed"
    " chunks_created chunks_written"
).split()

NextStep = Annotated[str | None, Field(description="What to call next")]
Percentage = Annotated[float, Field(description="0 to 100, never falls")]


class Started(Submission):
    """The answer to a submission."""

    next_step: NextStep = None


class StageBrief(Record):
    """How far a stage of a job is."""

    stage: str
    done: int
    total: int | None = None
    unit: str


class JobBrief(Record):
    """A job in short."""

    job_id: UUID
    status: JobStatus
    project_id: str
    repo_path: str
    progress_percentage: Percentage
    progress_message: str
    stall_reason: str | None = None
    estimated_remaining_seconds: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    resumed_from: UUID | None = None
    created_at: datetime
    finished_at: datetime | None = None
    next_step: NextStep = None

    @classmethod
    def of(cls, job: Job, advice: str | None = None) -> Self:
        """Return the short form of a job's record, with what to do next."""
        known = {name: getattr(job, name) for name in BRIEF}
        return cls(**known | {"progress_percentage": round(job.progress_percentage, 1), "next_step": advice})


class JobAnswer(JobBrief):
    """A job, and on request its stages, counters and the files that were not indexed."""

    duration_seconds: float | None = None
    stages: tuple[StageBrief, ...] | None = None
    files_scanned: int | None = None
    files_indexed: int | None = None
    files_unchanged: int | None = None
    files_removed: int | None = None
    files_skipped: int | None = None
    files_failed: int | None = None
    chunks_created: int | None = None
    chunks_written: int | None = None
    files: Annotated[
        tuple[FileNote, ...] | None, Field(description="Failed and skipped files with reasons, 20 at most")
    ] = None

    def detailed(self, job: Job, files: tuple[FileNote, ...]) -> Self:
        """Return the answer with the job's stages and counters, and some of its files."""
        stages = tuple(
            StageBrief(stage=stage.stage, done=stage.done, total=stage.total, unit=stage.unit) for stage in job.stages
        )
        counters = {name: getattr(job, name) for name in COUNTERS}
        return self.model_copy(update=counters | {"stages": stages, "files": files})


class JobList(Record):
    """A page of jobs, newest first."""

    jobs: tuple[JobBrief, ...]
    total_count: int
    limit: int
    offset: int


class RepositoryBrief(Record):
    """An indexed repository."""

    root_path: str
    project_id: str
    name: str
    index_state: Annotated[str, Field(description="empty, partial or complete")]
    files: int
    chunks: int
    indexed_at: datetime | None = None

    @classmethod
    def of(cls, repository: Repository) -> Self:
        """Return the short form of a repository's record."""
        return cls(**{name: getattr(repository, name) for name in cls.model_fields})


class RepositoryList(Record):
    """What is indexed."""

    repositories: tuple[RepositoryBrief, ...]
    total_count: int
    limit: int
    offset: int
    next_step: NextStep = None


class Hit(Record):
    """A result: whole lines of a file."""

    path: Annotated[str, Field(description="Relative to the repository")]
    start_line: int
    end_line: int
    symbol: str | None = None
    kind: str
    language: str
    score: float
    best_line: Annotated[int | None, Field(description="Where the best of it begins, if not at start_line")] = None
    context: Annotated[tuple[str, ...] | None, Field(description="Earlier lines: the definitions that hold it")] = None
    matched: tuple[str, ...] | None = None
    shown: Annotated[Shown | None, Field(description="Where content is not whole: numbered lines of it, or none")] = (
        None
    )
    content: str | None = None
    repository: Annotated[str | None, Field(description="Where the answer has none for all")] = None
    project_id: str | None = None

    @classmethod
    def of(cls, hit: SearchHit, *, several: bool) -> Self:
        """Return the short form of a result, with its repository where the answer is from `several`."""
        return cls(
            path=hit.path,
            start_line=hit.start_line,
            end_line=hit.end_line,
            symbol=hit.symbol or None,
            kind=hit.kind,
            language=hit.language,
            score=round(hit.score, 4),
            best_line=hit.best_line if hit.best_line != hit.start_line else None,
            context=hit.context or None,
            matched=hit.matched or None,
            shown=hit.shown if hit.shown != Shown.WHOLE else None,
            content=hit.content or None,
            repository=hit.repository if several else None,
            project_id=hit.project_id if several else None,
        )


class Hits(Record):
    """The answer to a search."""

    results: tuple[Hit, ...]
    index_state: Annotated[str, Field(description="empty, partial or complete")]
    coverage: Annotated[float, Field(description="Share of the known files that is searchable, 0 to 1")]
    repository: Annotated[str | None, Field(description="The repository of all results")] = None
    shortened: Annotated[int | None, Field(description="How many results are not shown whole")] = None
    omitted: Annotated[int | None, Field(description="How many results found no room at all")] = None
    note: Annotated[str | None, Field(description="What weakened or shortened the answer")] = None
    next_step: NextStep = None


def next_step(job: Job) -> str:
    """Return what an agent should call next."""
    return STANDING_STILL if job.stall_reason else NEXT_STEPS[job.status]
