"""The workers table, for those who look: who is alive, and how much each has in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

ALIVE: Final = text("""
SELECT w.*, (SELECT count(*) FROM dramatiq.queue q WHERE q.worker = w.id AND q.state = 'consumed') AS busy
FROM penstock.workers w WHERE w.seen_at > now() - interval '10 seconds' ORDER BY w.id
""")


def alive(connection: Connection) -> Sequence[Row[Any]]:
    """Return the workers whose heartbeat is at most 10 seconds old, with the number of messages in hand."""
    return connection.execute(ALIVE).all()
