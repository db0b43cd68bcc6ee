"""The SQLAlchemy schema: the only home of table and column names; migrations/ makes it, a test compares the two."""

from __future__ import annotations

from typing import Final

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, TSVECTOR, UUID

from pipeline.states import ACTIVE, BatchStage, JobStatus

SCHEMA: Final = "penstock"
metadata: Final = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    },
)

Moment = DateTime(timezone=True)
NOW: Final = text("now()")
ZERO: Final = text("0")


def listed(values: object) -> str:
    """Return enum members as the inside of a SQL IN (…), sorted, for a CHECK or a partial index."""
    return ", ".join(f"'{value}'" for value in sorted(map(str, values)))  # type: ignore[call-overload]


def counter(name: str) -> Column[int]:
    """Return a column that counts from 0."""
    return Column(name, BigInteger, nullable=False, server_default=ZERO)


def stage_clock(stage: str) -> tuple[Column[float], Column[object], Column[object]]:
    """Return a stage's columns on the job row: busy seconds, first start, last end."""
    return (
        Column(f"{stage}_seconds", Double, nullable=False, server_default=ZERO),
        Column(f"{stage}_started_at", Moment),
        Column(f"{stage}_ended_at", Moment),
    )


models = Table(
    "models",
    metadata,
    Column("id", SmallInteger, Identity(always=True), primary_key=True),
    Column("embedder", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("seen_at", Moment, nullable=False, server_default=text("clock_timestamp()")),
    UniqueConstraint("embedder", "model", "dimension"),
    comment="A vector space: vectors of two models are never compared.",
)

repositories = Table(
    "repositories",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("root_path", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("model_id", ForeignKey(models.c.id)),
    Column("index_state", Text, nullable=False, server_default=text("'empty'")),
    Column("created_at", Moment, nullable=False, server_default=NOW),
    Column("indexed_at", Moment),
    CheckConstraint("index_state IN ('empty', 'partial', 'complete')", name="index_state"),
    UniqueConstraint("project_id", "root_path"),
)

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

files = Table(
    "files",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("repository_id", ForeignKey(repositories.c.id, ondelete="CASCADE"), nullable=False),
    Column("path", Text(collation="C"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False, comment="0 when it was too fresh to be trusted"),
    Column("content_hash", LargeBinary),
    Column("language", Text),
    Column("chunk_count", Integer, nullable=False, server_default=ZERO),
    Column("model_id", ForeignKey(models.c.id), comment="The vector space that its chunks are in"),
    Column("skip_reason", Text),
    Column("indexed_at", Moment, nullable=False, server_default=NOW),
    CheckConstraint("skip_reason IS NULL OR chunk_count = 0", name="skipped"),
    UniqueConstraint("repository_id", "path"),
    postgresql_with={"fillfactor": "80"},
)

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

staged_chunks = Table(
    "staged_chunks",
    metadata,
    Column("batch_id", BigInteger, nullable=False),
    Column("file_index", SmallInteger, nullable=False, comment="Position of the file in the batch"),
    Column("ordinal", Integer, nullable=False),
    Column("start_line", Integer, nullable=False),
    Column("end_line", Integer, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("symbol_words", Text, nullable=False),
    Column("content_words", Text, nullable=False),
    PrimaryKeyConstraint("batch_id", "file_index", "ordinal"),
    prefixes=["UNLOGGED"],
    comment="Derivable, so not logged: a crash of the server empties it and its batches are chunked again.",
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("model_id", ForeignKey(models.c.id), nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("embedding", HALFVEC, nullable=False),
    PrimaryKeyConstraint("model_id", "content_hash"),
    comment="The content-addressed store: a passage is embedded once per model.",
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("repository_id", ForeignKey(repositories.c.id, ondelete="CASCADE"), nullable=False),
    Column("file_id", ForeignKey(files.c.id, ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("start_line", Integer, nullable=False),
    Column("end_line", Integer, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("model_id", ForeignKey(models.c.id), nullable=False),
    Column("embedding", HALFVEC, nullable=False),
    Column("lexemes", TSVECTOR, nullable=False),
    CheckConstraint("start_line >= 1 AND end_line >= start_line", name="lines"),
    UniqueConstraint("file_id", "ordinal"),
)
Index("ix_chunks_repository", chunks.c.repository_id)
Index("ix_chunks_lexemes", chunks.c.lexemes, postgresql_using="gin")

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

workers = Table(
    "workers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="The key of its liveness lock"),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("stages", ARRAY(Text), nullable=False),
    Column("threads", Integer, nullable=False),
    Column("started_at", Moment, nullable=False, server_default=NOW),
    Column("seen_at", Moment, nullable=False, server_default=NOW),
    Column(
        "session",
        Text,
        nullable=False,
        server_default=text("''"),
        comment="The application name of all its connections",
    ),
)

queue = Table(
    "queue",
    metadata,
    Column("message_id", UUID(as_uuid=True), primary_key=True),
    Column("queue_name", Text, nullable=False, server_default=text("'default'")),
    Column("state", ENUM("queued", "consumed", "rejected", "done", name="state", schema="dramatiq", create_type=False)),
    Column("mtime", Moment, server_default=text("(now() AT TIME ZONE 'UTC')")),
    Column("message", JSONB),
    Column("result", JSONB),
    Column("result_ttl", Moment),
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Column("eta", Moment, nullable=False, server_default=NOW),
    Column("worker", Integer),
    Column("claim", BigInteger, nullable=False, server_default=ZERO),
    Column("deliveries", Integer, nullable=False, server_default=ZERO),
    Column("error", Text),
    Column("lane", Text(collation="C"), nullable=False, server_default=text("''")),
    Column("deaths", Integer, nullable=False, server_default=ZERO),
    schema="dramatiq",
    comment="dramatiq-pg's table, extended by leases",
)
