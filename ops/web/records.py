"""What the web prints and reads as JSON beside the records of the head and of the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.records import Job, Record, Worker


def _zoned(moment: datetime) -> datetime:
    """Return a moment with its zone, the local one where none was said."""
    try:
        return moment.astimezone()
    except OverflowError as error:
        message = "it is too far away"
        raise ValueError(message) from error


Moment = Annotated[datetime, AfterValidator(_zoned)]


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
    after: Moment | None = None
    before: Moment | None = None
    limit: int = 20
    offset: int = 0


class JobQuery(Record):
    """How many skipped and failed files to list with a job."""

    files: int = Field(default=200, ge=0, le=10_000)


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
    max_tokens: int | None = None


class Cancellation(Record):
    """A cancel cannot be taken back, so it must be confirmed (R31)."""

    confirm: bool = False
