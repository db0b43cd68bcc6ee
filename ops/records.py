"""What the mouths answer with beside the records of the head: the same shapes in `--json` and over HTTP."""

from __future__ import annotations

from typing import Self

from pipeline.records import FileNote, Job, JobEvent, Record, Repository, Submission, Worker


class Submitted(Job):
    """The status record of a job that was just submitted, and what the submission said of it (R03)."""

    message: str
    estimated_duration_seconds: float
    duplicate: bool

    @classmethod
    def of(cls, submission: Submission, job: Job) -> Self:
        """Return both in one."""
        return cls(
            **dict(job),
            message=submission.message,
            estimated_duration_seconds=submission.estimated_duration_seconds,
            duplicate=submission.duplicate,
        )


class JobInFull(Job):
    """The status record of a job with some of its skipped and failed files and its events; null: not asked for."""

    files: tuple[FileNote, ...] | None
    events: tuple[JobEvent, ...] | None


class Repositories(Record):
    """What is indexed."""

    repositories: tuple[Repository, ...]


class Removed(Record):
    """The repository that was removed."""

    project_id: str
    root_path: str


class Workers(Record):
    """Who works."""

    workers: tuple[Worker, ...]


class Notified(Record):
    """What became of a test notification to one service, by its place in PENSTOCK_NOTIFY_URLS."""

    entry: int
    service: str
    sent: bool
    reason: str | None


class NotifyTest(Record):
    """What became of a test notification to every service."""

    services: tuple[Notified, ...]


class Migrations(Record):
    """Where the database stands."""

    current: str | None
    head: str
    behind: bool
    server_version: str
    vector_version: str | None


class Local(Record):
    """What runs on this machine for this PENSTOCK_HOME after `up` or `down`, and whether the command changed that."""

    workers: bool
    server: bool
    changed: bool
