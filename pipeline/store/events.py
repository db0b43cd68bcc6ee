"""The job_events table: what happened in a job's life, never changed afterwards (R64)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, func, insert, select

from pipeline.tables import job_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection


def record(connection: Connection, job_id: UUID, kind: str, **detail: object) -> None:
    """Add an event; `detail` keeps only what is not None, as JSON."""
    known = {
        name: value if isinstance(value, int | float | bool) else str(value)
        for name, value in detail.items()
        if value is not None
    }
    connection.execute(insert(job_events).values(job_id=job_id, type=kind, detail=known))


def of_job(connection: Connection, job_id: UUID) -> Sequence[Row[Any]]:
    """Return a job's events, oldest first."""
    return connection.execute(select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.id)).all()


def count(connection: Connection, job_id: UUID, kind: str) -> int:
    """Return how many events of a kind a job has."""
    matching = job_events.c.job_id == job_id, job_events.c.type == kind
    return int(connection.execute(select(func.count()).where(*matching)).scalar_one())
