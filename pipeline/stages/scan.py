"""The scan's checkpoints: the tree becomes batches, each commit moves the cursor, the last one removes what is gone."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pipeline import sources
from pipeline.batching import Batcher, Changed, Removed, Unchanged, changes
from pipeline.committed import list_commit
from pipeline.errors import BatchMoved, JobStopped, ScanRefused
from pipeline.records import Outcome
from pipeline.scanning import list_files
from pipeline.sifting import Listing, ScanOptions
from pipeline.sources import Kind
from pipeline.stages import finish
from pipeline.states import JobStatus, Stage
from pipeline.store import batches, files, jobs, progress, repositories
from pipeline.store.batches import FileResult
from pipeline.store.progress import Clock, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from pipeline.batching import Change
    from pipeline.records import FileEntry
    from pipeline.sources import Source
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench

PORTION: Final = 200
"""Files that one transaction removes."""
COMMIT_EVERY: Final = 0.5
"""Seconds after which the scan commits what it has, so that progress is never older."""


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What one run of the scan did, for its log line; a resumed scan counts from its cursor."""

    job_id: str
    files_listed: int
    files_due: int
    files_unchanged: int
    files_skipped: int
    files_removed: int
    seconds: float


@dataclass(slots=True)
class Scan:
    """A scan under way: where its cursor stands and what the next commit will hold."""

    bench: Workbench
    delivery: Delivery
    job_id: UUID
    repository_id: int
    cursor: str | None
    sequence: int
    batcher: Batcher
    added: Progress = field(default_factory=Progress)
    results: list[FileResult] = field(default_factory=list)
    committed_at: float = field(default_factory=time.monotonic)
    totals: Progress = field(default_factory=Progress)

    def take(self, change: Changed | Unchanged) -> None:
        """Take one path into the next commit."""
        entry = change.entry
        if isinstance(change, Changed):
            self.batcher.add(entry)
            self.count(files_scanned=1, files_due=1, bytes_scanned=entry.size)
        elif change.skip_reason is None:
            self.count(files_scanned=1, files_unchanged=1, bytes_scanned=entry.size)
        else:
            self.results.append(skipped(entry.path, change.skip_reason))
            self.count(files_scanned=1, files_skipped=1, bytes_scanned=entry.size)

    def count(self, **deltas: int) -> None:
        """Add to the counters of the next commit."""
        self.added = replace(self.added, **{name: getattr(self.added, name) + more for name, more in deltas.items()})

    def has_room(self, change: Changed | Unchanged) -> bool:
        """Return whether the next commit takes this path, too: its batch is not full, and it is not overdue."""
        if time.monotonic() - self.committed_at > COMMIT_EVERY:
            return False
        return not isinstance(change, Changed) or self.batcher.fits(change.entry)

    def commit(self, cursor: str | None) -> None:
        """Commit what was taken, with the cursor, and let batches into the window."""
        with self.bench.engine.begin() as connection:
            self.write(connection, cursor, completed=False)
            progress.advance(connection, self.job_id, self.added, self.clock())
        self.settle(cursor)

    def hold(self, connection: Connection, cursor: str | None, *, completed: bool) -> None:
        """Move the cursor, which keeps the scan ours for this transaction; raises BatchMoved when it is not."""
        if not jobs.move_cursor(connection, self.job_id, self.cursor, cursor, completed=completed):
            raise BatchMoved(f"the scan of job {self.job_id} was taken over")

    def write(self, connection: Connection, cursor: str | None, *, completed: bool) -> None:
        """Write all but the job's counters; raises BatchMoved when another delivery scans this job."""
        self.hold(connection, cursor, completed=completed)
        batch = self.batcher.take()
        if batch:
            repositories.mark_partial(connection, self.repository_id)
            batches.add(connection, self.job_id, self.sequence, batch)
            self.count(batches_total=1)
        batches.add_outcomes(connection, self.job_id, self.results)
        self.bench.let_in(connection, self.job_id, self.delivery)

    def clock(self) -> Clock:
        """Return the busy time since the last commit."""
        return Clock(Stage.SCAN, time.monotonic() - self.committed_at)

    def settle(self, cursor: str | None) -> None:
        """Start the next commit's account after a commit."""
        self.cursor = cursor
        self.sequence += 1
        self.totals = replace(
            self.totals,
            files_due=self.totals.files_due + self.added.files_due,
            files_unchanged=self.totals.files_unchanged + self.added.files_unchanged,
            files_skipped=self.totals.files_skipped + self.added.files_skipped,
        )
        self.added, self.results, self.committed_at = Progress(), [], time.monotonic()


def skipped(path: str, reason: str) -> FileResult:
    """Return the outcome of a path that the scan passes over."""
    return FileResult(path, 0, 0, Outcome.SKIPPED, reason)


def scan(bench: Workbench, subject: str, delivery: Delivery) -> ScanReport:
    """Scan a job's repository from where its cursor stands (R05, R36, R40, R43) and complete the message.

    Raises JobStopped when the job may not run (yet), BatchMoved when its scan is done, ScanRefused when the repository
    cannot be indexed.
    """
    started = time.monotonic()
    job_id = UUID(subject)
    work, task = _open(bench, job_id, delivery)
    listing = _list(bench, job_id, task)
    _check(bench, listing, task.source.name)
    _begin(work, listing)
    removed = _run(work, listing, task)
    removed_count = sum(_remove(work, removed[at : at + PORTION]) for at in range(0, len(removed), PORTION))
    _finish(work, listing)
    return ScanReport(
        job_id=subject,
        files_listed=len(listing.entries) + len(listing.skipped),
        files_due=work.totals.files_due,
        files_unchanged=work.totals.files_unchanged,
        files_skipped=work.totals.files_skipped,
        files_removed=removed_count,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class Task:
    """Where the files are, which of them are wanted, and in which model's space the index must have them."""

    source: Source
    revision: str | None
    options: ScanOptions
    model_id: int | None
    force_before: datetime | None


def _open(bench: Workbench, job_id: UUID, delivery: Delivery) -> tuple[Scan, Task]:
    with bench.engine.begin() as connection:
        bench.admit(connection, delivery)
    with bench.engine.begin() as connection:
        job = jobs.get(connection, job_id)
        if job is None or job.status not in {JobStatus.RUNNING, JobStatus.BLOCKED}:
            raise JobStopped(f"job {job_id} is not running")
        if job.scan_completed:
            raise BatchMoved(f"the scan of job {job_id} is complete")
        repository = repositories.find(connection, job.project_id, job.repo_path)
        newest = repositories.newest_model(connection, job.embedder, job.model)
        model_id = jobs.pin_model(connection, job_id, newest.id) if newest else job.model_id
        sequence = batches.next_sequence(connection, job_id)
    if repository is None:
        raise ScanRefused(f"the repository {job.repo_path} was removed from the index")
    source = sources.parse(job.repo_path)
    if source.kind is not Kind.REMOTE and Path(source.place).resolve() != Path(source.place):
        raise ScanRefused(f"{job.repo_path} was replaced by a symbolic link after the submission; submit it again")
    work = Scan(bench, delivery, job_id, repository.id, job.scan_cursor, sequence, Batcher(bench.limits, sequence))
    options = ScanOptions(
        recursive=job.recursive,
        include=tuple(job.include_globs),
        exclude=tuple(job.exclude_globs),
        max_file_bytes=bench.limits.max_file_bytes,
    )
    return work, Task(source, job.revision, options, model_id, job.force_before)


def _list(bench: Workbench, job_id: UUID, task: Task) -> Listing:
    """List the files of the folder, or of the commit that the job has settled on."""
    heed = bench.heed(job_id)
    if task.source.kind is Kind.FOLDER:
        return list_files(Path(task.source.place), task.options, heed)
    revision = task.revision
    if revision is None:
        named = bench.mirrors.resolve(task.source, heed)
        with bench.engine.begin() as connection:
            revision = jobs.pin_revision(connection, job_id, named)
    return list_commit(bench.mirrors.holding(task.source, revision, heed), revision, task.options, heed)


def _check(bench: Workbench, listing: Listing, root: str) -> None:
    limit = bench.limits.max_repository_bytes
    if listing.total_bytes > limit:
        found, allowed = listing.total_bytes / 1024**3, limit / 1024**3
        raise ScanRefused(
            f"{root} holds {found:.2f} GB of files to index, more than MAX_REPO_SIZE_GB allows ({allowed:.2f} GB);"
            " exclude folders with --exclude or .penstockignore, or raise the limit"
        )


def _begin(work: Scan, listing: Listing) -> None:
    """Note the size of the listing; the first run of a scan also notes what the listing passed over."""
    with work.bench.engine.begin() as connection:
        if not jobs.begin_scan(connection, work.job_id, len(listing.entries) + len(listing.skipped)):
            raise JobStopped(f"job {work.job_id} is not running any more")
    if work.cursor is None:
        work.results = [skipped(item.path, item.reason) for item in listing.skipped]
        work.count(files_scanned=len(work.results), files_skipped=len(work.results))
        work.commit("")


def _run(work: Scan, listing: Listing, task: Task) -> list[str]:
    removed = []
    taken = work.cursor
    for change in _beyond(work, listing, task):
        if isinstance(change, Removed):
            removed.append(change.path)
            continue
        if not work.has_room(change):
            work.commit(taken)
        work.take(change)
        taken = change.entry.path
    return removed


def _beyond(work: Scan, listing: Listing, task: Task) -> Iterator[Change]:
    """Yield what lies beyond the cursor, and every removed path."""
    cursor = (work.cursor or "").encode()
    known = files.known(work.bench.engine, work.repository_id, task.model_id, task.force_before)
    for change in changes(listing.entries, known):
        if isinstance(change, Removed) or change.entry.path.encode() > cursor:
            yield change


def _remove(work: Scan, paths: Sequence[str]) -> int:
    """Remove some of what is gone (R43) in a transaction of its own, so that a pause need not wait for all of it."""
    began = time.monotonic()
    with work.bench.engine.begin() as connection:
        work.hold(connection, work.cursor, completed=False)
        count, growth = files.remove(connection, work.repository_id, paths)
        clock = Clock(Stage.SCAN, time.monotonic() - began)
        progress.advance(connection, work.job_id, Progress(files_removed=count), clock)
        repositories.grow(connection, work.repository_id, growth)
    return count


def _finish(work: Scan, listing: Listing) -> None:
    """Commit the rest, and complete the message."""
    with work.bench.engine.begin() as connection:
        last: FileEntry | None = listing.entries[-1] if listing.entries else None
        work.write(connection, last.path if last else work.cursor, completed=True)
        work.delivery.complete(connection)
        if progress.advance(connection, work.job_id, work.added, work.clock()):
            finish.finish(work.bench, connection, work.job_id, work.delivery)
    work.settle(work.cursor)
