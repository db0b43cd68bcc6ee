"""The SQLAlchemy schema: the only home of table and column names; migrations/ makes it, a test compares the two."""

from __future__ import annotations

from pipeline.tables.base import SCHEMA, metadata
from pipeline.tables.index import chunks, embeddings, files, lexicon, models, repositories, staged_chunks
from pipeline.tables.queue import counters, queue, workers
from pipeline.tables.work import (
    batches,
    event_outbox,
    file_outcomes,
    indexing_jobs,
    job_events,
    notification_outbox,
)

__all__ = [
    "SCHEMA",
    "batches",
    "chunks",
    "counters",
    "embeddings",
    "event_outbox",
    "file_outcomes",
    "files",
    "indexing_jobs",
    "job_events",
    "lexicon",
    "metadata",
    "models",
    "notification_outbox",
    "queue",
    "repositories",
    "staged_chunks",
    "workers",
]
