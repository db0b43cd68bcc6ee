"""How a job ends: completed with its account, or failed with the reason; the next pending one is let in."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from pipeline.errors import storable
from pipeline.states import JobStatus
from pipeline.store import batches, jobs, repositories

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection, Row

    from pipeline.stages.delivery import Outbox
    from pipeline.stages.workbench import Workbench


def finish(bench: Workbench, connection: Connection, job_id: UUID, outbox: Outbox) -> None:
    """End a job whose every batch is done: completed, or failed when nothing came of it (R09, R15)."""
    job = jobs.get(connection, job_id)
    if job is None:
        return
    problem = _problem(connection, job)
    if problem:
        fail(bench, connection, job_id, outbox, problem, "NothingIndexed")
        return
    # Nothing is left to embed, so nothing is waited for.
    jobs.move(connection, job_id, JobStatus.RUNNING, "unblocked", sources=(JobStatus.BLOCKED,))
    if jobs.move(connection, job_id, JobStatus.COMPLETED, "completed"):
        state = "partial" if job.files_failed else "complete"
        repositories.set_state(connection, job.repository_id, state, job.model_id, job.revision)
        bench.admit(connection, outbox)


def fail_overdue(bench: Workbench, outbox: Outbox) -> None:
    """Fail the jobs that ran or were blocked for too long (R13, R17), each in a transaction of its own."""
    with bench.engine.connect() as connection:
        overdue = jobs.overdue(connection, bench.limits.job_seconds, bench.limits.blocked_seconds)
    for job_id, reason in overdue.items():
        with bench.engine.begin() as connection:
            fail(bench, connection, job_id, outbox, reason, "TimeLimitExceeded")


def _problem(connection: Connection, job: Row[Any]) -> str | None:
    if job.files_indexed or job.files_unchanged or job.files_removed:
        return None
    if job.files_failed:
        first = batches.outcomes(connection, job.id, 1)
        return f"all {job.files_failed} files failed; the first: {first[0].path}: {first[0].reason}"
    skipped = f" ({job.files_skipped} were skipped; `penstock status {job.id}` lists why)" if job.files_skipped else ""
    return f"no indexable files found in {job.repo_path}{skipped}"


def fail(bench: Workbench, connection: Connection, job_id: UUID, outbox: Outbox, message: str, kind: str) -> None:
    """End a job as failed, keeping its progress and what is written, and let the next one in (R14)."""
    trace = storable(traceback.format_exc())
    known = None if trace.startswith("NoneType") else trace
    if jobs.move(
        connection, job_id, JobStatus.FAILED, "failed", error_message=message, error_type=kind, error_traceback=known
    ):
        batches.drop_staged(connection, [batch_id for batch_id, _ in batches.in_flight(connection, job_id)])
        bench.admit(connection, outbox)
