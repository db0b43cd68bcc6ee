"""What recovery and fairness need: lanes and deaths of messages, sessions of workers, running time, suspects, an outbox.

Revision: 0002
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE: Final = """
ALTER TABLE dramatiq.queue
    ADD COLUMN lane text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN deaths integer NOT NULL DEFAULT 0;

UPDATE dramatiq.queue SET lane = message -> 'args' ->> 0 WHERE queue_name = 'scan';

UPDATE dramatiq.queue SET lane = CAST(b.job_id AS text)
FROM penstock.batches b
WHERE queue_name IN ('chunk', 'embed', 'write') AND CAST(b.id AS text) = message -> 'args' ->> 0;

DROP INDEX dramatiq.queue_ready;

CREATE INDEX queue_ready ON dramatiq.queue (queue_name, lane, seq) WHERE state = 'queued';

ALTER TABLE penstock.workers ADD COLUMN session TEXT DEFAULT '' NOT NULL;

COMMENT ON COLUMN penstock.workers.session IS 'The application name of all its connections';

ALTER TABLE penstock.models ADD COLUMN seen_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL;

UPDATE penstock.models SET seen_at = seen_at + id * interval '1 millisecond';

ALTER TABLE penstock.batches ADD COLUMN suspect SMALLINT;

COMMENT ON COLUMN penstock.batches.suspect IS 'Position of the file that was worked on last, noted once a worker died';

ALTER TABLE penstock.indexing_jobs
    ADD COLUMN model_id SMALLINT,
    ADD CONSTRAINT fk_indexing_jobs_model_id FOREIGN KEY(model_id) REFERENCES penstock.models (id),
    ADD COLUMN force_before TIMESTAMP WITH TIME ZONE,
    ADD COLUMN running_since TIMESTAMP WITH TIME ZONE,
    ADD COLUMN ran_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL;

COMMENT ON COLUMN penstock.indexing_jobs.model_id IS 'The vector space of all that the job writes';

COMMENT ON COLUMN penstock.indexing_jobs.force_before IS 'Files that were indexed before this moment are indexed anew';

UPDATE penstock.indexing_jobs SET
    force_before = CASE WHEN force_reindex THEN created_at END,
    running_since = CASE WHEN status IN ('blocked', 'running') THEN started_at END,
    ran_seconds = CASE WHEN status IN ('blocked', 'running') THEN 0
        ELSE coalesce(extract(epoch FROM coalesce(finished_at, paused_at) - started_at), 0) END;

CREATE TABLE penstock.event_outbox (
    event_id BIGINT NOT NULL,
    CONSTRAINT pk_event_outbox PRIMARY KEY (event_id),
    CONSTRAINT fk_event_outbox_event_id FOREIGN KEY(event_id) REFERENCES penstock.job_events (id) ON DELETE CASCADE
);

COMMENT ON TABLE penstock.event_outbox IS 'Events that were not told yet';
"""

DOWNGRADE: Final = """
DROP TABLE penstock.event_outbox;

ALTER TABLE penstock.indexing_jobs DROP COLUMN model_id, DROP COLUMN force_before,
    DROP COLUMN running_since, DROP COLUMN ran_seconds;

ALTER TABLE penstock.batches DROP COLUMN suspect;

ALTER TABLE penstock.models DROP COLUMN seen_at;

ALTER TABLE penstock.workers DROP COLUMN session;

ALTER TABLE dramatiq.queue DROP COLUMN lane, DROP COLUMN deaths;

CREATE INDEX queue_ready ON dramatiq.queue (queue_name, seq) WHERE state = 'queued';
"""


def upgrade() -> None:
    """Add the columns and carry over what is queued, running and forced at this moment."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Drop them; messages keep their place, since the first schema orders them by `seq` alone."""
    op.execute(DOWNGRADE)
