"""The states of a job and of a batch, and the only moves between them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobStatus(StrEnum):
    """Where a job is in its life; drawn in docs/lifecycle.md, checked by the database.

    Edges are lettered as in the drawing; every one is a single compare-and-set UPDATE.
    """

    PENDING = "pending"
    """Submitted (a) or resumed (e); waits for a free place, oldest first. Admission makes it running (b)."""
    RUNNING = "running"
    """Its batches are worked on. Ends completed (h) or failed (i); may be paused (d), cancelled (c), blocked (f)."""
    PAUSED = "paused"
    """A user stopped it (d): no batch is let in and nothing is written. Resuming makes it pending (e)."""
    BLOCKED = "blocked"
    """The embedding server is away (f). The first answered request makes it running again (g)."""
    COMPLETED = "completed"
    """Every file was indexed, skipped or failed for a stated reason (h). Final."""
    FAILED = "failed"
    """It cannot go on (i); error_message says why, and all progress made is kept. Final."""
    CANCELLED = "cancelled"
    """A user ended it (c); whole committed batches stay searchable. Final."""


class Stage(StrEnum):
    """A phase of indexing; one actor, one queue and one checkpoint function each."""

    SCAN = "scan"
    CHUNK = "chunk"
    EMBED = "embed"
    WRITE = "write"


class BatchStage(StrEnum):
    """The next stage due for a batch."""

    READY = "ready"
    """Made by the scan; waits for room in its job's window."""
    CHUNK = "chunk"
    EMBED = "embed"
    WRITE = "write"
    DONE = "done"
    """Its files are in the index (or have an outcome that says why not). Final."""


ACTIVE: Final = frozenset({JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.BLOCKED})
WORKING: Final = frozenset({JobStatus.RUNNING, JobStatus.BLOCKED})
TERMINAL: Final = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})
IN_FLIGHT: Final = (BatchStage.CHUNK, BatchStage.EMBED, BatchStage.WRITE)

NOTIFIABLE: Final = (
    "submitted",
    "started",
    "milestone",
    "blocked",
    "unblocked",
    "paused",
    "resumed",
    "completed",
    "failed",
    "cancelled",
)
"""The events of a job that somebody outside may want to hear of (R63)."""

MOVES: Final[frozenset[tuple[JobStatus, JobStatus]]] = frozenset(
    {
        (JobStatus.PENDING, JobStatus.RUNNING),  # b admit
        (JobStatus.PENDING, JobStatus.CANCELLED),  # c cancel
        (JobStatus.RUNNING, JobStatus.CANCELLED),
        (JobStatus.PAUSED, JobStatus.CANCELLED),
        (JobStatus.BLOCKED, JobStatus.CANCELLED),
        (JobStatus.PENDING, JobStatus.PAUSED),  # d pause
        (JobStatus.RUNNING, JobStatus.PAUSED),
        (JobStatus.BLOCKED, JobStatus.PAUSED),
        (JobStatus.PAUSED, JobStatus.PENDING),  # e resume
        (JobStatus.RUNNING, JobStatus.BLOCKED),  # f block
        (JobStatus.BLOCKED, JobStatus.RUNNING),  # g unblock
        (JobStatus.RUNNING, JobStatus.COMPLETED),  # h complete
        (JobStatus.RUNNING, JobStatus.FAILED),  # i fail
        (JobStatus.BLOCKED, JobStatus.FAILED),
    }
)


def sources_of(target: JobStatus) -> tuple[JobStatus, ...]:
    """Return the states from which `target` may be entered, in the enum's order."""
    return tuple(status for status in JobStatus if (status, target) in MOVES)
