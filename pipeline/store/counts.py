"""What was counted by all worker processes, those that are gone included, and what a look at the tables shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection, TextClause

Counts: TypeAlias = Mapping[str, float]
WORKER_DEATHS: Final = "penstock_worker_deaths"

# --- totals -----------------------------------------------------------------------------------------------------------


def striking(gone: str, *, dead: bool = True) -> TextClause:
    """Return the statement that deletes workers `gone AS (… RETURNING counts …)` and keeps what they counted.

    The two happen together, so that no total ever falls. Those that did not sign off are counted as `dead`.
    """
    return text(f"""
WITH {gone}, kept AS (
    INSERT INTO penstock.counters AS c (name, value)
    SELECT name, sum(value) FROM (
        SELECT key, CAST(value AS double precision) FROM gone, jsonb_each_text(gone.counts)
        UNION ALL SELECT '{WORKER_DEATHS}/', {dead:d} FROM gone
    ) AS counted (name, value)
    GROUP BY name ORDER BY name -- in one order, so that two that do so at once do not wait for each other
    ON CONFLICT (name) DO UPDATE SET value = c.value + EXCLUDED.value
)
SELECT count(*) FROM gone
""")  # noqa: S608 - made of our own texts only


TOTALS: Final = text("""
SELECT name, sum(value) FROM (
    SELECT name, value FROM penstock.counters
    UNION ALL
    SELECT key, CAST(value AS double precision) FROM penstock.workers, jsonb_each_text(counts)
) AS counted (name, value) GROUP BY name
""")


def totals(connection: Connection) -> dict[str, float]:
    """Return what was counted, by name, since the database was made."""
    return {name: float(value) for name, value in connection.execute(TOTALS)}


# --- the state of things ----------------------------------------------------------------------------------------------

MESSAGES: Final = text("""
SELECT array[queue_name, CASE
    WHEN state = 'consumed' THEN 'held' WHEN state = 'rejected' THEN 'rejected'
    WHEN eta > clock_timestamp() THEN 'delayed' ELSE 'waiting' END], count(*)
FROM dramatiq.queue WHERE state <> 'done' GROUP BY 1
""")
OLDEST_MESSAGE: Final = text("""
SELECT array[queue_name], extract(epoch FROM clock_timestamp() - min(eta))
FROM dramatiq.queue WHERE state = 'queued' AND eta <= clock_timestamp() GROUP BY 1
""")
JOBS: Final = text("SELECT array[status], count(*) FROM penstock.indexing_jobs GROUP BY 1")
SILENCE: Final = text("""
SELECT array[]::text[], extract(epoch FROM clock_timestamp() - min(updated_at))
FROM penstock.indexing_jobs WHERE status = 'running' HAVING count(*) > 0
""")
WORKERS: Final = text("""
SELECT array[stage], count(*) FROM penstock.workers, unnest(stages) AS stage
WHERE seen_at > clock_timestamp() - interval '15 s' GROUP BY 1
""")
THREADS: Final = text("""
SELECT array[stage], sum(threads) FROM penstock.workers, unnest(stages) AS stage
WHERE seen_at > clock_timestamp() - interval '15 s' GROUP BY 1
""")
REPOSITORIES: Final = text("SELECT array[index_state], count(*) FROM penstock.repositories GROUP BY 1")
NOTIFICATIONS: Final = text("SELECT array[]::text[], count(*) FROM penstock.notification_outbox")
TABLE_BYTES: Final = text("""
SELECT array[c.relname], pg_total_relation_size(c.oid) FROM pg_class AS c
WHERE c.relkind = 'r' AND c.relnamespace IN (to_regnamespace('penstock'), to_regnamespace('dramatiq'))
""")
INDEX_BYTES: Final = text("""
SELECT array[c.relname], pg_relation_size(c.oid) FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace('penstock') AND c.relkind IN ('r', 'i') AND c.oid IN (
    SELECT unnest(ARRAY[indrelid, indexrelid]) FROM pg_index
    WHERE indrelid IN (to_regclass('penstock.chunks'), to_regclass('penstock.embeddings')))
UNION ALL
SELECT array['chunks, out of line'], pg_table_size(c.oid) - pg_relation_size(c.oid)
FROM pg_class AS c WHERE c.oid = to_regclass('penstock.chunks')
""")
REVISION: Final = text("SELECT array[CAST(:version AS text), version_num], 1 FROM penstock.alembic_version")


def measure(connection: Connection, question: TextClause) -> dict[tuple[str, ...], float]:
    """Return the answer to one of the questions above: numbers by their labels."""
    return {tuple(labels): float(value) for labels, value in connection.execute(question)}
