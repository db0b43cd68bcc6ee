"""Alembic revisions: data for the schema's history, never edited once released."""
