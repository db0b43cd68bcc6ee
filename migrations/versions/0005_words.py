"""What words tell: fields of their own for names and comments, keys of definitions, and how common a lexeme is.

Revision: 0005
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# What is staged can be derived; without its hash a file is chunked again by the next run, while it stays searchable.
RESET: Final = """
TRUNCATE penstock.staged_chunks;

UPDATE penstock.files SET mtime_ns = 0, blob_id = NULL, content_hash = NULL WHERE skip_reason IS NULL;
"""
UPGRADE: Final = """
ALTER TABLE penstock.staged_chunks
    DROP COLUMN symbol_words,
    DROP COLUMN content_words,
    ADD COLUMN name_words TEXT NOT NULL,
    ADD COLUMN place_words TEXT NOT NULL,
    ADD COLUMN comment_words TEXT NOT NULL,
    ADD COLUMN code_words TEXT NOT NULL,
    ADD COLUMN keys TEXT[] NOT NULL;

COMMENT ON COLUMN penstock.staged_chunks.keys IS 'What the definitions that begin in it are found by';

ALTER TABLE penstock.repositories ADD COLUMN counted_chunks INTEGER DEFAULT 0 NOT NULL;

COMMENT ON COLUMN penstock.repositories.counted_chunks IS 'How many chunks its lexicon was made of';

CREATE TABLE penstock.lexicon (
    repository_id BIGINT NOT NULL,
    lexeme TEXT COLLATE "C" NOT NULL,
    chunks INTEGER NOT NULL,
    CONSTRAINT pk_lexicon PRIMARY KEY (repository_id, lexeme),
    CONSTRAINT fk_lexicon_repository_id FOREIGN KEY(repository_id)
        REFERENCES penstock.repositories (id) ON DELETE CASCADE
);

COMMENT ON TABLE penstock.lexicon IS 'In how many chunks a repository has a lexeme, of those that are not rare';
"""
DOWNGRADE: Final = """
DROP TABLE penstock.lexicon;

ALTER TABLE penstock.repositories DROP COLUMN counted_chunks;

ALTER TABLE penstock.staged_chunks
    DROP COLUMN name_words,
    DROP COLUMN place_words,
    DROP COLUMN comment_words,
    DROP COLUMN code_words,
    DROP COLUMN keys,
    ADD COLUMN symbol_words TEXT NOT NULL,
    ADD COLUMN content_words TEXT NOT NULL;
"""


def upgrade() -> None:
    """Make room for the fields; what was indexed is found as before until it is chunked again."""
    op.execute(RESET + UPGRADE)


def downgrade() -> None:
    """Go back to one field for the names and one for the rest."""
    op.execute(RESET + DOWNGRADE)
