"""The checks of the work: workers, queue, jobs, models, notifications."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from ops.doctor.findings import Finding, failed, ok, warning
from ops.office import embedder_for, model_of
from pipeline import jobs
from pipeline.errors import EmbedderError
from pipeline.states import ACTIVE, JobStatus, Stage
from pipeline.store import counts, health, vectors
from pipeline.store.engine import reading
from pipeline.store.jobs import JobFilter
from pipeline.store.messages import MAX_DELIVERIES
from pipeline.store.vectors import TuningRules
from pipeline.store.workers import STALE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.doctor.findings import Database
    from pipeline.records import Worker

STANDSTILL_SECONDS: Final = 60.0
"""A running job that did not move for so long is worth a word."""
BACKLOG_SECONDS: Final = 300.0
"""A message that waited for so long means that its stage has too few workers, or that they hang."""


def check_workers(found: Database) -> Finding:
    """Look for a worker of every stage that lives and is of our version; local ones are called when there is work."""
    online = jobs.online(found.engine)
    with reading(found.engine) as connection:
        silent_ids = health.silent_workers(connection, STALE_SECONDS)
    living = [worker for worker in online if worker.worker_id not in silent_ids]
    missing = [stage for stage in Stage if not any(stage in worker.stages for worker in living)]
    if missing and found.embedded:
        return ok("workers", "none, and none needed: the next job calls them" if not online else "leaving or arriving")
    if missing:
        advice = f"start them: `penstock worker --stage {' --stage '.join(missing)}`"
        return failed("workers", f"nobody serves {', '.join(missing)}", advice)
    return _strange(found, [worker for worker in online if worker.worker_id in silent_ids], living)


def _strange(found: Database, silent: Sequence[Worker], living: Sequence[Worker]) -> Finding:
    for worker in silent:
        text = f"pid {worker.pid} on {worker.host} ({'+'.join(worker.stages)}) gives no sign of life"
        return warning("workers", text, "it hangs, was stopped or left the network; others take over its messages")
    ours = version("penstock")
    others = [worker for worker in living if worker.version != ours]
    if others:
        versions = ", ".join(sorted({worker.version or "an older one" for worker in others}))
        text = f"{len(others)} of {len(living)} processes run another Penstock than {ours}: {versions}"
        restart = "`penstock down`; the next job calls new ones" if found.embedded else "restart them"
        return warning("workers", text, restart)
    return ok("workers", f"{len(living)} processes of version {ours}")


def check_queue(found: Database) -> Finding:
    """Look for messages that were set aside, or wait for a worker for long."""
    with reading(found.engine) as connection:
        aside = health.rejected(connection)
        ages = counts.measure(connection, counts.OLDEST_MESSAGE)
        numbers = counts.measure(connection, counts.MESSAGES)
    if aside:
        text = f"{aside.count} messages were set aside after {MAX_DELIVERIES} deliveries, the last of {aside.stage}"
        advice = "a job that still runs has them sent again; the log of the workers tells what ends them"
        return warning("queue", f"{text}: {aside.error or 'no error was noted'}", advice)
    (stage, age) = max(((labels[0], age) for labels, age in ages.items()), key=lambda each: each[1], default=("", 0.0))
    if age > BACKLOG_SECONDS:
        waiting = numbers.get((stage, "waiting"), 0)
        advice = f"start more workers: `penstock worker --stage {stage}`; `penstock workers` tells who is busy"
        return warning("queue", f"{waiting:.0f} messages wait for {stage}, the oldest for {age:.0f} s", advice)
    return ok("queue", f"{sum(numbers.values()):.0f} messages, the oldest waits for {age:.0f} s")


def check_jobs(found: Database) -> Finding:
    """Look for jobs that are blocked or stand still."""
    active = jobs.listed(found.engine, JobFilter(statuses=tuple(ACTIVE)), limit=jobs.MAX_PAGE).jobs
    for job in active:
        if job.status == JobStatus.BLOCKED:
            return warning("jobs", f"{job.job_id} is blocked. {job.progress_message}")
        silence = (datetime.now(UTC) - job.updated_at).total_seconds()
        if job.status == JobStatus.RUNNING and silence > STANDSTILL_SECONDS:
            advice = "look at `penstock workers` and at their log"
            return warning("jobs", f"{job.job_id} did not move for {silence:.0f} s", advice)
    counted = {status: sum(job.status == status for job in active) for status in JobStatus if status in ACTIVE}
    return ok("jobs", ", ".join(f"{count} {status}" for status, count in counted.items() if count) or "none active")


def check_model(found: Database) -> Finding:
    """Compare the vector space of new jobs with those that repositories are in."""
    settings = found.settings
    ours = settings.penstock_embedder, model_of(settings)
    with reading(found.engine) as connection:
        spaces = health.spaces(connection)
    for space in spaces:
        there = f"{space.repositories} repositories are embedded by {space.embedder} {space.model}"
        if (space.embedder, space.model) != ours:
            advice = "their next job embeds them anew; to avoid that, set the embedder and its model back"
            return warning("model", f"{there}, new jobs by {' '.join(ours)}", advice)
        dimension = _dimension(found, space)
        if dimension != space.dimension:
            text = f"{there} in {space.dimension} dimensions, and it answers in {dimension}"
            return failed("model", text, "another model has this name now: bring the old one back, or index them again")
    return ok("model", f"{' '.join(ours)}, as that of all repositories")


def _dimension(found: Database, space: health.Space) -> int:
    """Return the dimension in which the embedder answers; when it is away, another check says so."""
    try:
        return len(embedder_for(found.settings)(space.embedder, space.model).embed_query("where"))
    except EmbedderError:
        return space.dimension


def check_indexes(found: Database) -> Finding:
    """Look for indexes of vectors that are still to be built; until then all vectors are read."""
    with reading(found.engine) as connection:
        chunks = [step.chunks for step in vectors.due(connection, TuningRules()) if step.step == "build"]
        busy = vectors.under_way(connection)
    if not chunks:
        return ok("indexes", "of vectors: all that pay are built")
    text = f"{len(chunks)} of vectors to be built, of {sum(chunks):,} chunks"
    return ok("indexes", f"{text}; {'under way' if busy else 'a worker does it within seconds'}")


def check_notifications(found: Database) -> Finding:
    """Look for notifications that cannot be delivered."""
    with reading(found.engine) as connection:
        count, attempts = health.undelivered(connection)
    if count:
        text = f"{count} notifications could not be delivered, one was tried {attempts} times"
        return warning("notifications", text, "check the addresses of the services; the log tells what they answer")
    return ok("notifications", "none waits to be tried again")


CHECKS: Final[tuple[Callable[[Database], Finding], ...]] = (
    check_workers,
    check_queue,
    check_jobs,
    check_model,
    check_indexes,
    check_notifications,
)
