"""Triggers that watch every write of the product from inside the database, where nothing escapes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.states import MOVES

if TYPE_CHECKING:
    import psycopg

TABLES: Final = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.moves (source text, target text, PRIMARY KEY (source, target));
CREATE TABLE chaos.breaches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    job_id uuid, rule text NOT NULL, detail text NOT NULL);
CREATE TABLE chaos.done (batch_id bigint, job_id uuid, at timestamptz NOT NULL DEFAULT clock_timestamp());
"""

# A job's row: finished ones never change, the percentage never falls, the status moves as drawn.
JOBS: Final = """
CREATE FUNCTION chaos.watch_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.breaches (job_id, rule, detail)
    SELECT NEW.id, rule, detail FROM (VALUES
        ('a finished job was written', OLD.status,
            OLD.status IN ('completed', 'failed', 'cancelled')
            AND NEW.resumed_from IS NOT DISTINCT FROM OLD.resumed_from),
        ('progress fell', OLD.progress_percentage || ' to ' || NEW.progress_percentage,
            NEW.progress_percentage < OLD.progress_percentage),
        ('a move that is not drawn', OLD.status || ' to ' || NEW.status,
            NEW.status <> OLD.status
            AND NOT EXISTS (SELECT FROM chaos.moves WHERE source = OLD.status AND target = NEW.status))
    ) AS looked (rule, detail, broken) WHERE broken;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_watch AFTER UPDATE ON penstock.indexing_jobs FOR EACH ROW EXECUTE FUNCTION chaos.watch_job();
"""

# A batch: done once and for ever; nothing of it is committed while its job rests, but by the commit that ends the job.
BATCHES: Final = """
CREATE FUNCTION chaos.watch_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.stage = 'done' THEN
        INSERT INTO chaos.breaches (job_id, rule, detail)
        VALUES (NEW.job_id, 'a batch that was done was written', 'batch ' || NEW.id || ' to ' || NEW.stage);
    ELSIF NEW.stage = 'done' THEN
        INSERT INTO chaos.done (batch_id, job_id) VALUES (NEW.id, NEW.job_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_watch AFTER UPDATE ON penstock.batches FOR EACH ROW EXECUTE FUNCTION chaos.watch_batch();
CREATE FUNCTION chaos.watch_rest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.breaches (job_id, rule, detail)
    SELECT j.id, 'a batch of a job at rest was written', j.status || ': batch ' || NEW.id || ' at ' || NEW.stage
    FROM penstock.indexing_jobs j
    WHERE j.id = NEW.job_id AND j.status NOT IN ('running', 'blocked') AND j.xmin <> pg_current_xact_id()::xid;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER chaos_watch_rest AFTER INSERT OR UPDATE ON penstock.batches
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chaos.watch_rest();
"""

BREACHES: Final = "SELECT id, job_id, rule, detail FROM chaos.breaches WHERE id > %s ORDER BY id"
DONE_TWICE: Final = "SELECT batch_id, count(*) FROM chaos.done GROUP BY batch_id HAVING count(*) > 1 ORDER BY batch_id"
NEVER_DONE: Final = """
SELECT b.id, b.stage FROM penstock.batches b JOIN penstock.indexing_jobs j ON j.id = b.job_id
WHERE (b.stage = 'done') <> EXISTS (SELECT FROM chaos.done d WHERE d.batch_id = b.id)
   OR (j.status = 'completed' AND b.stage <> 'done')
ORDER BY b.id
"""


def install(session: psycopg.Connection) -> None:
    """Set the watchers up in a migrated database, under the account whose writes they watch."""
    for script in (TABLES, JOBS, BATCHES):
        session.execute(script)
    for source, target in MOVES:
        session.execute("INSERT INTO chaos.moves VALUES (%s, %s)", (source, target))


def breaches(session: psycopg.Connection, after: int) -> tuple[int, list[str]]:
    """Return what broke a rule since the entry `after`, and the number of the last entry."""
    rows = session.execute(BREACHES, (after,)).fetchall()
    return (rows[-1][0] if rows else after), [f"{rule}: job {job}, {detail}" for _, job, rule, detail in rows]


def undone(session: psycopg.Connection) -> list[str]:
    """Return the batches that were not done exactly once, in words."""
    twice = [f"batch {batch} was done {count} times" for batch, count in session.execute(DONE_TWICE)]
    never = [
        f"batch {batch} is at {stage}, and the trigger saw otherwise" for batch, stage in session.execute(NEVER_DONE)
    ]
    return [*twice, *never]
