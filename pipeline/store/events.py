"""The job_events table: what happened in a job's life, never changed afterwards, and what of it is still to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, func, insert, select, text

from pipeline.states import NOTIFIABLE
from pipeline.tables import event_outbox, job_events, notification_outbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Insert


def record(connection: Connection, job_id: UUID, kind: str, **detail: object) -> None:
    """Add an event, which is told once the transaction has committed; `detail` keeps only what is not None, as JSON."""
    connection.execute(recording(job_id, kind, detail))


def recording(job_id: UUID, kind: str, detail: Mapping[str, object]) -> Insert:
    """Return the one statement that adds an event, to the outboxes, too."""
    known = {
        name: value if isinstance(value, int | float | bool) else str(value)
        for name, value in detail.items()
        if value is not None
    }
    added = insert(job_events).values(job_id=job_id, type=kind, detail=known).returning(job_events.c.id).cte("added")
    untold, unsent = (
        insert(outbox).from_select(["event_id"], select(added.c.id)) for outbox in (event_outbox, notification_outbox)
    )
    return untold.add_cte(unsent.cte("unsent")) if kind in NOTIFIABLE else untold


TAKE: Final = text("""
WITH taken AS (
    DELETE FROM penstock.event_outbox WHERE event_id IN (
        SELECT event_id FROM penstock.event_outbox ORDER BY event_id LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING event_id
)
SELECT e.id, e.job_id, e.at, e.type, e.detail, j.project_id, j.repo_path
FROM taken JOIN penstock.job_events e ON e.id = taken.event_id JOIN penstock.indexing_jobs j ON j.id = e.job_id
ORDER BY e.id
""")


def take_untold(connection: Connection, most: int) -> Sequence[Row[Any]]:
    """Take up to `most` events out of the outbox, oldest first, for a caller who tells them before it commits (R64).

    Whoever dies between leaves them to be told again: at least once.
    """
    return connection.execute(TAKE, {"most": most}).all()


def of_job(connection: Connection, job_id: UUID, after: int = 0) -> Sequence[Row[Any]]:
    """Return a job's events, or those after one of them, oldest first."""
    wanted = job_events.c.job_id == job_id, job_events.c.id > after
    return connection.execute(select(job_events).where(*wanted).order_by(job_events.c.id)).all()


def count(connection: Connection, job_id: UUID, kind: str) -> int:
    """Return how many events of a kind a job has."""
    matching = job_events.c.job_id == job_id, job_events.c.type == kind
    return int(connection.execute(select(func.count()).where(*matching)).scalar_one())
