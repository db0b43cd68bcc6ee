"""Words in the row: a search reads those of hundreds of chunks, and of out-of-line ones that was most of its time.

Revision: 0006
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Of a long row the content goes out of line instead: a page of results reads it ten times. A row has it so when it is
# written next.
UPGRADE: Final = "ALTER TABLE penstock.chunks ALTER COLUMN lexemes SET STORAGE MAIN"
DOWNGRADE: Final = "ALTER TABLE penstock.chunks ALTER COLUMN lexemes SET STORAGE EXTENDED"


def upgrade() -> None:
    """Keep the words of chunks in their rows from now on."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Let the words of chunks go out of line."""
    op.execute(DOWNGRADE)
