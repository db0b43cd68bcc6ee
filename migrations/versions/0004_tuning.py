"""What search at scale needs: the totals of a repository, and how much of it has changed since it was tuned.

Revision: 0004
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE: Final = """
ALTER TABLE penstock.repositories
    ADD COLUMN files BIGINT DEFAULT 0 NOT NULL,
    ADD COLUMN chunks BIGINT DEFAULT 0 NOT NULL,
    ADD COLUMN changes BIGINT DEFAULT 0 NOT NULL,
    ADD COLUMN tuned_changes BIGINT DEFAULT 0 NOT NULL;

COMMENT ON COLUMN penstock.repositories.files IS 'How many are searchable';

COMMENT ON COLUMN penstock.repositories.changes IS 'Chunks that were ever written or removed';

COMMENT ON COLUMN penstock.repositories.tuned_changes IS 'The changes that its statistics hold';

DROP INDEX penstock.ix_chunks_repository;

CREATE INDEX ix_chunks_repository ON penstock.chunks (repository_id, kind);

UPDATE penstock.repositories r SET files = f.files, chunks = f.chunks, changes = f.chunks
FROM (
    SELECT repository_id, count(*) FILTER (WHERE skip_reason IS NULL) AS files, sum(chunk_count) AS chunks
    FROM penstock.files GROUP BY repository_id) AS f
WHERE f.repository_id = r.id;
"""

DOWNGRADE: Final = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = 'penstock.chunks'::regclass AND relname ~ '^ix_chunks_vectors_'
    LOOP
        EXECUTE format('DROP INDEX penstock.%I', name);
    END LOOP;
END $$;

DROP INDEX penstock.ix_chunks_repository;

CREATE INDEX ix_chunks_repository ON penstock.chunks (repository_id);

ALTER TABLE penstock.repositories
    DROP COLUMN files, DROP COLUMN chunks, DROP COLUMN changes, DROP COLUMN tuned_changes;
"""


def upgrade() -> None:
    """Add the columns and count what is there; the workers build the indexes of vectors later."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Drop the indexes of vectors and the columns."""
    op.execute(DOWNGRADE)
