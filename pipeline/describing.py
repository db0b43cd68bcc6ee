"""Rows into the records that users read: progress in words, rates, and what is left."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline.records import Job, JobRequest, Repository, StageProgress
from pipeline.sources import is_url
from pipeline.states import JobStatus, Stage

if TYPE_CHECKING:
    from sqlalchemy import Row

    from pipeline.store.workers import Waits

TENTHS_BELOW: Final = 10
MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
STAGE_VERBS: Final = {
    Stage.SCAN: "Scanning",
    Stage.CHUNK: "Chunking files",
    Stage.EMBED: "Generating embeddings",
    Stage.WRITE: "Writing to database",
}
COPIED: Final = (
    "project_id repo_path name revision embedder model force_reindex resumed_from created_at started_at updated_at"
    " paused_at blocked_since cancelled_at completed_at finished_at progress_percentage files_listed files_scanned"
    " files_indexed files_unchanged files_removed files_skipped files_failed bytes_scanned bytes_indexed chunks_created"
    " chunks_embedded chunks_reused chunks_written passages_truncated batches_total batches_done error_message"
    " error_type error_traceback"
).split()


def job(row: Row[Any], waits: Waits | None = None) -> Job:
    """Return the status record of a row of indexing_jobs; `waits` says what its messages wait for, where that is known.

    The waiting is worth a word only when nothing of the job is worked on.
    """
    stages = tuple(_stage(row, stage) for stage in Stage)
    stall = _stall(row.status, waits) if waits and not waits.busy else None
    return Job(
        job_id=row.id,
        status=JobStatus(row.status),
        duration_seconds=_duration(row),
        progress_message=stall or _message(row, stages),
        stall_reason=stall,
        estimated_remaining_seconds=_remaining(row),
        stages=stages,
        **{name: getattr(row, name) for name in COPIED},
    )


def _stage(row: Row[Any], stage: Stage) -> StageProgress:
    scanned = row.files_listed if row.scan_completed or row.files_listed else None
    due = row.files_due if row.scan_completed else None
    done, total, unit = {
        Stage.SCAN: (row.files_scanned, scanned, "files"),
        Stage.CHUNK: (row.files_chunked, due, "files"),
        Stage.EMBED: (
            row.chunks_embedded + row.chunks_reused,
            row.chunks_created if row.scan_completed and row.files_chunked == row.files_due else None,
            "chunks",
        ),
        Stage.WRITE: (row.files_written, due, "files"),
    }[stage]
    return StageProgress(
        stage=stage,
        unit=unit,
        done=done,
        total=total,
        busy_seconds=round(getattr(row, f"{stage}_seconds"), 3),
        started_at=getattr(row, f"{stage}_started_at"),
        ended_at=getattr(row, f"{stage}_ended_at"),
    )


def _stall(status: str, waits: Waits) -> str | None:
    """Return what keeps the job from going on, although nobody blocked it."""
    if waits.unserved:
        stages = " and ".join(waits.unserved)
        return f"Waiting: no worker online for stage {stages}; `penstock workers` lists who is"
    return f"Waiting: {waits.reason}; it is tried again" if waits.reason and status == JobStatus.RUNNING else None


def _duration(row: Row[Any]) -> float | None:
    """Return the seconds for which the job ran, without its rests; None before it started."""
    if row.started_at is None:
        return None
    since: datetime | None = row.running_since
    running = max(0.0, (datetime.now(UTC) - since).total_seconds()) if since else 0.0
    return round(float(row.ran_seconds) + running, 3)


def _message(row: Row[Any], stages: tuple[StageProgress, ...]) -> str:  # noqa: PLR0911 - one a state
    match JobStatus(row.status):
        case JobStatus.PENDING:
            return "Waiting for a free place"
        case JobStatus.RUNNING:
            return _running(row, stages)
        case JobStatus.PAUSED:
            return f"Paused at {percent(row.progress_percentage)}"
        case JobStatus.BLOCKED:
            return f"Waiting: {row.blocked_reason}, since {row.blocked_since.astimezone(UTC):%H:%M:%S} UTC"
        case JobStatus.COMPLETED:
            return _completed(row)
        case JobStatus.FAILED:
            return f"Failed: {row.error_message}"
        case JobStatus.CANCELLED:
            return f"Cancelled at {percent(row.progress_percentage)}"


def _running(row: Row[Any], stages: tuple[StageProgress, ...]) -> str:
    """Name the slowest unfinished stage: the one with the smallest share done (R23)."""
    if not row.scan_completed and row.revision is None and is_url(row.repo_path):
        return f"Scanning: fetching {row.repo_path}"
    if not row.scan_completed and row.files_scanned >= max(1, row.files_chunked * 2):
        return f"Scanning: {row.files_scanned:,} files"
    open_stages = [stage for stage in stages[1:] if stage.total is None or stage.done < stage.total]
    if not open_stages:
        return "Finishing"
    slowest = min(open_stages, key=lambda stage: stage.done / stage.total if stage.total else 0.0)
    total = f"/{slowest.total:,}" if slowest.total is not None else ""
    unit = " chunks" if slowest.unit == "chunks" else ""
    return f"{STAGE_VERBS[Stage(slowest.stage)]}: {slowest.done:,}{total}{unit}"


def _completed(row: Row[Any]) -> str:
    if not row.files_indexed and not row.files_removed and not row.files_failed:
        skipped = f", {row.files_skipped:,} skipped" if row.files_skipped else ""
        return f"Up to date: {row.files_unchanged:,} files unchanged{skipped}"
    counts = (
        (row.files_indexed, "indexed"),
        (row.files_unchanged, "unchanged"),
        (row.files_removed, "removed"),
        (row.files_skipped, "skipped"),
        (row.files_failed, "failed"),
    )
    told = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    if not row.files_indexed and not row.files_unchanged and not row.files_failed:
        return f"Completed: no indexable files found any more; {told}"
    return f"Completed: files {told}; {row.chunks_written:,} chunks written"


def _remaining(row: Row[Any]) -> float | None:
    """Return the seconds left at the rate from the older of two samples to now; None until a rate is known (R24)."""
    if row.status != JobStatus.RUNNING or row.earlier_at is None:
        return None
    seconds = (row.updated_at - row.earlier_at).total_seconds()
    gained = row.progress_percentage - row.earlier_percentage
    if seconds <= 0 or gained <= 0:
        return None
    return float(round((100 - row.progress_percentage) * seconds / gained, 1))


def request(row: Row[Any]) -> JobRequest:
    """Return the request that a job was submitted with."""
    return JobRequest(
        repo_path=row.repo_path,
        project_id=row.project_id,
        name=row.name,
        recursive=row.recursive,
        force_reindex=row.force_reindex,
        include=tuple(row.include_globs),
        exclude=tuple(row.exclude_globs),
    )


def repository(row: Row[Any]) -> Repository:
    """Return the record of a row of `repositories.listed`."""
    names = "project_id root_path name index_state revision embedder model dimension files chunks".split()
    values = {name: getattr(row, name) for name in names}
    return Repository(indexed_at=row.indexed_at, created_at=row.created_at, **values)


def percent(share: float) -> str:
    """Return a percentage as people read it; only what is done has 100 %."""
    return f"{math.floor(share)} %"


def duration(seconds: float) -> str:
    """Return a span of time as people say it: 0.4 s, 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < TENTHS_BELOW:
        return f"{seconds:.1f} s"
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
