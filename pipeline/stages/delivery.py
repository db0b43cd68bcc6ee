"""How a stage hands on without knowing the queue: what the broker offers to a stage's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

    from pipeline.states import Stage


class Outbox(Protocol):
    """Sends messages inside the caller's transaction: if it rolls back, nothing was sent."""

    def send(self, connection: Connection, stage: Stage, subject: str, job_id: UUID, *, delay: float = 0.0) -> None:
        """Queue the stage's message for `subject` (a batch id, or the job id for the scan), due in `delay` seconds.

        Sending what is queued or being worked on already changes nothing, so that a resume may send again.
        """


class Delivery(Outbox, Protocol):
    """One message in a worker's hands, held by a lease."""

    @property
    def deliveries(self) -> int:
        """How often the message was handed to a worker, this time included; above 1 after a crash."""

    @property
    def deaths(self) -> int:
        """At how many of these the worker process died; the work on it made no progress since."""

    def progressed(self, connection: Connection) -> bool:
        """Note that the work advances, inside the caller's transaction: neither poison nor hung; False when lost."""

    def complete(self, connection: Connection) -> None:
        """Delete the message inside the caller's transaction. Raises LeaseLost when another worker took it over."""

    def postpone(self, connection: Connection, delay: float, reason: str) -> None:
        """Give the message back, due in `delay` seconds, with fresh counts and what it waits for. Raises LeaseLost."""
