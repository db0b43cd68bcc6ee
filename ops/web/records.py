"""What the web prints and reads as JSON beside the records of the head and of the command line."""

from __future__ import annotations

from datetime import datetime

from pipeline.records import Job, Record, Worker


class Snapshot(Record):
    """What the page shows at a moment: the active jobs and the newest, newest first; how many there are; who works."""

    jobs: tuple[Job, ...]
    total_count: int
    workers: tuple[Worker, ...]


class JobsQuery(Record):
    """Which jobs a listing wants; the names are those of `penstock jobs`."""

    status: tuple[str, ...] = ()
    project: str | None = None
    path_prefix: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    limit: int = 20
    offset: int = 0


class JobQuery(Record):
    """How many skipped and failed files to list with a job."""

    files: int = 200


class SearchQuery(Record):
    """What to look for, and where; the names are those of `penstock search`."""

    query: str
    repo: str | None = None
    project: str | None = None
    path: str | None = None
    language: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    limit: int = 10
    offset: int = 0


class Cancellation(Record):
    """A cancel cannot be taken back, so it must be confirmed (R31)."""

    confirm: bool = False
