"""Alembic's door: run the revisions on the connection that `ops.database` hands over."""

from __future__ import annotations

from alembic import context

from pipeline.tables import SCHEMA, metadata


def run() -> None:
    """Migrate inside one transaction, so that a failed migration leaves nothing behind."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
