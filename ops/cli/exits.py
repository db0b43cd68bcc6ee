"""The exit codes of `penstock`, which scripts may rely on; the codes 1 to 6 are those of `pipeline.errors`."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pipeline.states import JobStatus


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    INTERNAL = 1
    """An error of Penstock itself, or `doctor` or `notify test` found a fault."""
    VALIDATION = 2
    """The input was refused: a bad option, path, id, query or setting."""
    NOT_FOUND = 3
    """There is no such job or repository."""
    INVALID_STATUS = 4
    """The job's state does not allow what was asked."""
    DATABASE = 5
    """The database is unreachable, not migrated or too old."""
    EMBEDDER = 6
    """The embedder cannot do what was asked."""
    JOB_FAILED = 7
    """The job that was followed ended failed."""
    JOB_CANCELLED = 8
    """The job that was followed was cancelled."""
    INTERRUPTED = 130
    """Ctrl-C; a job that was followed is paused."""
    BROKEN_PIPE = 141
    """The reader of the output left."""


OF_STATUS: Final = {
    JobStatus.COMPLETED: Exit.OK,
    JobStatus.FAILED: Exit.JOB_FAILED,
    JobStatus.CANCELLED: Exit.JOB_CANCELLED,
}
