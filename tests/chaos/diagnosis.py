"""What to look at when jobs do not go on: what waits, who holds it, who lives, and what the server is busy with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from tests.chaos.world import World

QUESTIONS: Final[dict[str, LiteralString]] = {
    "now": "SELECT clock_timestamp() AS now",
    "jobs": "SELECT id, status, blocked_reason, updated_at, scan_completed, batches_total, batches_done"
    " FROM penstock.indexing_jobs WHERE status NOT IN ('completed', 'failed', 'cancelled')",
    "batches": "SELECT id, job_id, stage, file_count, chunk_count, failures, last_error FROM penstock.batches"
    " WHERE stage IN ('chunk', 'embed', 'write') AND job_id IN"
    " (SELECT id FROM penstock.indexing_jobs WHERE status IN ('running', 'blocked')) ORDER BY id LIMIT 20",
    "messages": "SELECT to_jsonb(q) - 'result' - 'result_ttl' AS message FROM dramatiq.queue q ORDER BY seq LIMIT 20",
    "workers": "SELECT * FROM penstock.workers ORDER BY id",
    "locks": "SELECT classid, objid, pid FROM pg_locks WHERE locktype = 'advisory'",
    "waiting": "SELECT pid, pg_blocking_pids(pid) AS blocked_by, mode, relation::regclass AS relation FROM pg_locks"
    " WHERE NOT granted",
    "sessions": "SELECT pid, application_name, state, wait_event, state_change, left(query, 120) AS query"
    " FROM pg_stat_activity WHERE datname = current_database()",
}


def state(world: World) -> dict[str, object]:
    """Return all of that, as records; for a question that is not answered, why."""
    found: dict[str, object] = {
        "processes": {
            crew.name: [f"{worker.pid} {worker.status()}" for worker in crew.workers()] for crew in world.crews
        }
    }
    for name, question in QUESTIONS.items():
        try:
            with world.server.session() as session:
                found[name] = session.cursor(row_factory=dict_row).execute(question).fetchall()
        except psycopg.Error as error:
            found[name] = str(error)
    return found
