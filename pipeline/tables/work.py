"""The tables of the work: jobs, their batches, outcomes and events."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from pipeline.states import ACTIVE, BatchStage, JobStatus
from pipeline.tables.base import NOW, ZERO, Moment, counter, listed, metadata, stage_clock
from pipeline.tables.index import models, repositories

COUNTERS: Final = (
    "files_listed files_scanned files_due files_chunked files_written files_indexed files_unchanged "
    "files_removed files_skipped files_failed bytes_scanned bytes_indexed chunks_created chunks_embedded "
    "chunks_reused chunks_written passages_truncated batches_total batches_done"
).split()

indexing_jobs = Table(
    "indexing_jobs",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("repository_id", ForeignKey(repositories.c.id, ondelete="CASCADE"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("repo_path", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("embedder", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_id", ForeignKey(models.c.id), comment="The vector space of all that the job writes"),
    Column("recursive", Boolean, nullable=False, server_default=text("true")),
    Column("force_reindex", Boolean, nullable=False, server_default=text("false")),
    Column("force_before", Moment, comment="Files that were indexed before this moment are indexed anew"),
    Column("include_globs", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("exclude_globs", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("revision", Text, comment="The commit that is indexed, of a git URL or a bare repository"),
    Column("resumed_from", ForeignKey("penstock.indexing_jobs.id", ondelete="SET NULL")),
    Column("estimated_duration_seconds", Double),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("started_at", Moment),
    Column("running_since", Moment),
    Column("ran_seconds", Double, nullable=False, server_default=ZERO),
    Column("updated_at", Moment, nullable=False, server_default=NOW),
    Column("notified_at", Moment),
    Column("paused_at", Moment),
    Column("blocked_since", Moment),
    Column("blocked_reason", Text),
    Column("cancelled_at", Moment),
    Column("completed_at", Moment),
    Column("finished_at", Moment),
    Column("error_message", Text),
    Column("error_type", Text),
    Column("error_traceback", Text),
    Column("scan_cursor", Text(collation="C")),
    Column("scan_completed", Boolean, nullable=False, server_default=text("false")),
    *map(counter, COUNTERS),
    Column("progress_percentage", Double, nullable=False, server_default=ZERO),
    Column("milestone", SmallInteger, nullable=False, server_default=ZERO, comment="The last quarter that was told"),
    Column("sampled_at", Moment),
    Column("sampled_percentage", Double, nullable=False, server_default=ZERO),
    Column("earlier_at", Moment),
    Column("earlier_percentage", Double, nullable=False, server_default=ZERO),
    *stage_clock("scan"),
    *stage_clock("chunk"),
    *stage_clock("embed"),
    *stage_clock("write"),
    CheckConstraint(f"status IN ({listed(JobStatus)})", name="status"),
    CheckConstraint("status <> 'completed' OR completed_at IS NOT NULL", name="completed"),
    CheckConstraint("status <> 'failed' OR error_message IS NOT NULL", name="failed"),
    CheckConstraint("status <> 'cancelled' OR cancelled_at IS NOT NULL", name="cancelled"),
    CheckConstraint("status <> 'paused' OR paused_at IS NOT NULL", name="paused"),
    CheckConstraint(
        "status <> 'blocked' OR (blocked_since IS NOT NULL AND blocked_reason IS NOT NULL)", name="blocked"
    ),
    CheckConstraint("(status IN ('cancelled', 'completed', 'failed')) = (finished_at IS NOT NULL)", name="finished"),
    CheckConstraint("files_indexed <= files_scanned", name="files_indexed"),
    CheckConstraint("progress_percentage BETWEEN 0 AND 100", name="progress"),
    CheckConstraint("(progress_percentage = 100) = (status = 'completed')", name="progress_full"),
    postgresql_with={"fillfactor": "50"},
)
# No index on a column that progress touches, so that progress stays a heap-only-tuple update.
Index(
    "uq_indexing_jobs_active",
    indexing_jobs.c.project_id,
    indexing_jobs.c.repo_path,
    unique=True,
    postgresql_where=text(f"status IN ({listed(ACTIVE)})"),
)
Index("ix_indexing_jobs_created", indexing_jobs.c.created_at.desc(), indexing_jobs.c.id)
Index("ix_indexing_jobs_active", indexing_jobs.c.created_at, postgresql_where=text(f"status IN ({listed(ACTIVE)})"))
Index(
    "ix_indexing_jobs_resumed_from",
    indexing_jobs.c.resumed_from,
    postgresql_where=text("resumed_from IS NOT NULL"),
)
Index("ix_indexing_jobs_repository", indexing_jobs.c.repository_id, indexing_jobs.c.created_at)

batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", ForeignKey(indexing_jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("stage", Text, nullable=False, server_default=text("'ready'")),
    Column("files", JSONB, nullable=False, comment="[[path, size, mtime_ns], …] as the scan saw them"),
    Column("outcomes", JSONB, comment="What the chunk stage found of each file, in the same order"),
    Column("file_count", Integer, nullable=False),
    Column("byte_count", BigInteger, nullable=False),
    Column("chunk_count", Integer, nullable=False, server_default=ZERO),
    Column("chunks_embedded", Integer, nullable=False, server_default=ZERO),
    Column("failures", SmallInteger, nullable=False, server_default=ZERO),
    Column("last_error", Text),
    Column("suspect", SmallInteger, comment="Position of the file that was worked on last, noted once a worker died"),
    CheckConstraint(f"stage IN ({listed(BatchStage)})", name="stage"),
    CheckConstraint("jsonb_array_length(files) = file_count", name="file_count"),
    postgresql_with={"fillfactor": "70"},
)
Index("ix_batches_ready", batches.c.job_id, batches.c.sequence, postgresql_where=text("stage = 'ready'"))
Index("ix_batches_in_flight", batches.c.job_id, postgresql_where=text("stage IN ('chunk', 'embed', 'write')"))
Index("ix_batches_job", batches.c.job_id)

file_outcomes = Table(
    "file_outcomes",
    metadata,
    Column("job_id", ForeignKey(indexing_jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("path", Text(collation="C"), nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("outcome IN ('failed', 'skipped')", name="outcome"),
    PrimaryKeyConstraint("job_id", "path"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", ForeignKey(indexing_jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("at", Moment, nullable=False, server_default=text("clock_timestamp()")),
    Column("type", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
)
Index("ix_job_events_job", job_events.c.job_id, job_events.c.id)

event_outbox = Table(
    "event_outbox",
    metadata,
    Column("event_id", ForeignKey(job_events.c.id, ondelete="CASCADE"), primary_key=True),
    comment="Events that were not told yet",
)

notification_outbox = Table(
    "notification_outbox",
    metadata,
    Column("event_id", ForeignKey(job_events.c.id, ondelete="CASCADE"), primary_key=True),
    Column("due_at", Moment, nullable=False, server_default=NOW),
    Column("attempts", SmallInteger, nullable=False, server_default=ZERO),
    Column("served", ARRAY(Text), nullable=False, server_default=text("'{}'"), comment="Digests of the services' URLs"),
    comment="Events that services outside were not notified of yet",
)
Index("ix_notification_outbox_due", notification_outbox.c.due_at)
