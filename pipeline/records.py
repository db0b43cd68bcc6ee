"""Frozen value objects that travel between modules; the pydantic ones are also what CLI, MCP and web print."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from pipeline.states import NOTIFIABLE, JobStatus

# --- inside the house -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """A file as the scan saw it: path relative to the root with `/`, size in bytes, mtime in nanoseconds.

    `blob_id` is git's name of the content, hexadecimal, of a file that is read from a repository's objects.
    """

    path: str
    size: int
    mtime_ns: int
    blob_id: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that is passed over, and the reason that the user reads."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file: whole lines, 1-based and inclusive.

    `symbol` is the dotted path of the innermost definition that holds or is the chunk ("" outside any); `kind` is
    `function`, `class`, `method`, … or `text`; `content` holds the lines, joined by newlines, without the last one.
    `names` are the dotted paths of the definitions that begin in it.
    """

    start_line: int
    end_line: int
    symbol: str
    kind: str
    content: str
    names: tuple[str, ...] = ()


class Outcome(StrEnum):
    """What became of a file in a batch."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    """Its content is what the index holds, only its time or size record was refreshed."""
    SKIPPED = "skipped"
    """Passed over for a reason (binary, too large, vanished, …); retried when it changes."""
    FAILED = "failed"
    """Could not be indexed; retried by the next run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds that the stages keep; sizes in bytes, times in seconds."""

    max_file_bytes: int = 1_000_000
    max_repository_bytes: int = 10 * 1024**3
    max_running_jobs: int = 3
    job_window: int = 16
    batch_files: int = 64
    batch_bytes: int = 512_000
    max_failures: int = 3
    unavailable_retry: float = 3.0
    job_seconds: float = 0
    blocked_seconds: float = 0
    chunk_characters: int = 1_500


@dataclass(frozen=True, slots=True)
class NotifyRules:
    """Which events are notified of, seconds between the throttled ones of a job, and how long a job must run."""

    events: frozenset[str] = frozenset(NOTIFIABLE)
    interval: float = 60.0
    least_seconds: float = 10.0


# --- at the borders ---------------------------------------------------------------------------------------------------


class Record(BaseModel):
    """Base of what a user or an agent reads: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobRequest(Record):
    """What a submission asks for (R04)."""

    repo_path: str
    project_id: str = "default"
    name: str | None = None
    recursive: bool = True
    force_reindex: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Submission(Record):
    """The answer to a submission (R03)."""

    job_id: UUID
    status: JobStatus
    message: str
    project_id: str
    repo_path: str
    estimated_duration_seconds: float
    duplicate: bool


class StageProgress(Record):
    """One stage of a job: units done of units known, busy seconds, and when it first started and last ended."""

    stage: str
    unit: str
    done: int
    total: int | None
    busy_seconds: float
    started_at: datetime | None
    ended_at: datetime | None


class FileNote(Record):
    """A skipped or failed file of a job."""

    path: str
    outcome: str
    reason: str


class JobEvent(Record):
    """Something that happened in a job's life; `detail` is what there is to say of it."""

    event_id: int
    at: datetime
    type: str
    detail: dict[str, str | int | float | bool]


class Job(Record):
    """The status record of a job (R03, R14, R15, R20-R24): the same in CLI, MCP and web."""

    job_id: UUID
    status: JobStatus
    project_id: str
    repo_path: str
    name: str
    revision: str | None = None
    """The commit that is indexed, of a git URL or of a git repository without a work tree."""
    embedder: str
    model: str
    force_reindex: bool
    resumed_from: UUID | None
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    paused_at: datetime | None
    blocked_since: datetime | None
    cancelled_at: datetime | None
    completed_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    progress_percentage: float
    progress_message: str
    stall_reason: str | None
    estimated_remaining_seconds: float | None
    stages: tuple[StageProgress, ...]
    files_listed: int
    files_scanned: int
    files_indexed: int
    files_unchanged: int
    files_removed: int
    files_skipped: int
    files_failed: int
    bytes_scanned: int
    bytes_indexed: int
    chunks_created: int
    chunks_embedded: int
    chunks_reused: int
    chunks_written: int
    passages_truncated: int
    batches_total: int
    batches_done: int
    error_message: str | None
    error_type: str | None
    error_traceback: str | None


class JobPage(Record):
    """A page of jobs, newest first (R25)."""

    jobs: tuple[Job, ...]
    total_count: int
    limit: int
    offset: int


class Repository(Record):
    """An indexed repository and its totals."""

    project_id: str
    root_path: str
    name: str
    index_state: str
    revision: str | None = None
    embedder: str | None
    model: str | None
    dimension: int | None
    files: int
    chunks: int
    indexed_at: datetime | None
    created_at: datetime


class Worker(Record):
    """A worker process that is alive, or was a moment ago."""

    worker_id: int
    host: str
    pid: int
    stages: tuple[str, ...]
    threads: int
    started_at: datetime
    seen_at: datetime
    version: str
    busy: int


class Shown(StrEnum):
    """How much of a result its content holds, after a search within `max_tokens`."""

    WHOLE = "whole"
    LINES = "lines"
    """The lines that tell most, each after its number, with `…` for those between."""
    REFERENCE = "reference"
    """Nothing: path, lines and symbol alone."""


class SearchHit(Record):
    """One result of a search, a chunk or neighbouring ones: lines are 1-based and inclusive; a higher score is better.

    `symbol` and `kind` are the best chunk's, which begins at `best_line`. `context` has the first lines of definitions
    that begin before the result and hold it, outermost first, as `250: def handle(self, request):`. `matched` says what
    the result was found by.
    """

    path: str
    start_line: int
    end_line: int
    symbol: str
    kind: str
    language: str
    content: str
    score: float
    repository: str
    project_id: str
    revision: str | None = None
    best_line: int
    context: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()
    shown: Shown = Shown.WHOLE


class SearchResults(Record):
    """The answer to a search (R52).

    `coverage` is the share of the known files that is searchable, 0 to 1; `note` says what weakened the ranking, if
    anything did. Of the results of this page `shortened` are not shown whole, and `omitted` are left out at its end,
    to fit `max_tokens`.
    """

    query: str
    results: tuple[SearchHit, ...]
    index_state: str
    coverage: float
    limit: int
    offset: int
    note: str | None = None
    shortened: int = 0
    omitted: int = 0
