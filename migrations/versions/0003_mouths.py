"""What the mouths need: notifications, milestones, counters of workers, and the revisions of git sources.

Revision: 0003
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE: Final = """
ALTER TABLE penstock.repositories ADD COLUMN revision TEXT;

COMMENT ON COLUMN penstock.repositories.revision IS
    'The commit that was indexed last, of a git URL or a bare repository';

ALTER TABLE penstock.files ADD COLUMN blob_id BYTEA;

COMMENT ON COLUMN penstock.files.blob_id IS
    'git''s name of the content, of a file out of a git repository''s objects';

ALTER TABLE penstock.indexing_jobs
    ADD COLUMN revision TEXT,
    ADD COLUMN milestone SMALLINT DEFAULT 0 NOT NULL;

COMMENT ON COLUMN penstock.indexing_jobs.revision IS 'The commit that is indexed, of a git URL or a bare repository';

COMMENT ON COLUMN penstock.indexing_jobs.milestone IS 'The last quarter that was told';

UPDATE penstock.indexing_jobs SET milestone = floor(progress_percentage / 25) * 25;

ALTER TABLE penstock.workers
    ADD COLUMN version TEXT DEFAULT '' NOT NULL,
    ADD COLUMN counts JSONB DEFAULT '{}' NOT NULL;

COMMENT ON COLUMN penstock.workers.version IS 'The Penstock that it runs';

COMMENT ON COLUMN penstock.workers.counts IS 'What it counted since its start';

CREATE TABLE penstock.counters (
    name TEXT NOT NULL,
    value DOUBLE PRECISION DEFAULT 0 NOT NULL,
    CONSTRAINT pk_counters PRIMARY KEY (name)
);

COMMENT ON TABLE penstock.counters IS 'What the workers counted that are gone by now';

CREATE TABLE penstock.notification_outbox (
    event_id BIGINT NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    attempts SMALLINT DEFAULT 0 NOT NULL,
    served TEXT[] DEFAULT '{}' NOT NULL,
    CONSTRAINT pk_notification_outbox PRIMARY KEY (event_id),
    CONSTRAINT fk_notification_outbox_event_id FOREIGN KEY(event_id)
        REFERENCES penstock.job_events (id) ON DELETE CASCADE
);

COMMENT ON TABLE penstock.notification_outbox IS 'Events that services outside were not notified of yet';

COMMENT ON COLUMN penstock.notification_outbox.served IS 'Digests of the services'' URLs';

CREATE INDEX ix_notification_outbox_due ON penstock.notification_outbox (due_at);
"""

DOWNGRADE: Final = """
DROP TABLE penstock.notification_outbox;

DROP TABLE penstock.counters;

ALTER TABLE penstock.workers DROP COLUMN counts, DROP COLUMN version;

ALTER TABLE penstock.indexing_jobs DROP COLUMN revision, DROP COLUMN milestone;

ALTER TABLE penstock.files DROP COLUMN blob_id;

ALTER TABLE penstock.repositories DROP COLUMN revision;
"""


def upgrade() -> None:
    """Add the tables and columns; a quarter that a job passed already is not told afterwards."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Drop them."""
    op.execute(DOWNGRADE)
