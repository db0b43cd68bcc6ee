"""The first schema: repositories, jobs, batches, files, chunks, embeddings, events, workers and the queue.

Revision: 0001
"""

from __future__ import annotations

from typing import Final

from alembic import op
from dramatiq_pg import generate_init_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# dramatiq-pg's own table, extended by what leases need: an order, a due time, a fenced claim and a count of deliveries.
QUEUE: Final = """
ALTER TABLE dramatiq.queue
    ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN eta timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN worker integer,
    ADD COLUMN claim bigint NOT NULL DEFAULT 0,
    ADD COLUMN deliveries integer NOT NULL DEFAULT 0,
    ADD COLUMN error text;

CREATE INDEX queue_ready ON dramatiq.queue (queue_name, seq) WHERE state = 'queued';

CREATE INDEX queue_held ON dramatiq.queue (worker) WHERE state = 'consumed';

ALTER TABLE dramatiq.queue SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

COMMENT ON TABLE dramatiq.queue IS 'dramatiq-pg''s table, extended by leases';

CREATE SEQUENCE dramatiq.claims;

CREATE SEQUENCE penstock.worker_ids AS integer CYCLE;
"""

TABLES: Final = """
CREATE TABLE penstock.models (
    id SMALLINT GENERATED ALWAYS AS IDENTITY,
    embedder TEXT NOT NULL,
    model TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    CONSTRAINT pk_models PRIMARY KEY (id),
    CONSTRAINT uq_models_embedder_model_dimension UNIQUE (embedder, model, dimension)
);

COMMENT ON TABLE penstock.models IS 'A vector space: vectors of two models are never compared.';

CREATE UNLOGGED TABLE penstock.staged_chunks (
    batch_id BIGINT NOT NULL,
    file_index SMALLINT NOT NULL,
    ordinal INTEGER NOT NULL,
    start_line INTEGER NOT NULL,
    end_line INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    content_hash BYTEA NOT NULL,
    symbol_words TEXT NOT NULL,
    content_words TEXT NOT NULL,
    CONSTRAINT pk_staged_chunks PRIMARY KEY (batch_id, file_index, ordinal)
);

COMMENT ON TABLE penstock.staged_chunks IS 'Derivable, so not logged: a crash of the server empties it and its batches are chunked again.';

COMMENT ON COLUMN penstock.staged_chunks.file_index IS 'Position of the file in the batch';

CREATE TABLE penstock.workers (
    id INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    stages TEXT[] NOT NULL,
    threads INTEGER NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_workers PRIMARY KEY (id)
);

COMMENT ON COLUMN penstock.workers.id IS 'The key of its liveness lock';

CREATE TABLE penstock.repositories (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    project_id TEXT NOT NULL,
    root_path TEXT NOT NULL,
    name TEXT NOT NULL,
    model_id SMALLINT,
    index_state TEXT DEFAULT 'empty' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    indexed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_repositories PRIMARY KEY (id),
    CONSTRAINT ck_repositories_index_state CHECK (index_state IN ('empty', 'partial', 'complete')),
    CONSTRAINT uq_repositories_project_id_root_path UNIQUE (project_id, root_path),
    CONSTRAINT fk_repositories_model_id FOREIGN KEY(model_id) REFERENCES penstock.models (id)
);

CREATE TABLE penstock.embeddings (
    model_id SMALLINT NOT NULL,
    content_hash BYTEA NOT NULL,
    embedding HALFVEC NOT NULL,
    CONSTRAINT pk_embeddings PRIMARY KEY (model_id, content_hash),
    CONSTRAINT fk_embeddings_model_id FOREIGN KEY(model_id) REFERENCES penstock.models (id)
);

COMMENT ON TABLE penstock.embeddings IS 'The content-addressed store: a passage is embedded once per model.';

CREATE TABLE penstock.indexing_jobs (
    id UUID NOT NULL,
    repository_id BIGINT NOT NULL,
    project_id TEXT NOT NULL,
    repo_path TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT DEFAULT 'pending' NOT NULL,
    embedder TEXT NOT NULL,
    model TEXT NOT NULL,
    recursive BOOLEAN DEFAULT true NOT NULL,
    force_reindex BOOLEAN DEFAULT false NOT NULL,
    include_globs TEXT[] DEFAULT '{}' NOT NULL,
    exclude_globs TEXT[] DEFAULT '{}' NOT NULL,
    resumed_from UUID,
    estimated_duration_seconds DOUBLE PRECISION,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    notified_at TIMESTAMP WITH TIME ZONE,
    paused_at TIMESTAMP WITH TIME ZONE,
    blocked_since TIMESTAMP WITH TIME ZONE,
    blocked_reason TEXT,
    cancelled_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    error_message TEXT,
    error_type TEXT,
    error_traceback TEXT,
    scan_cursor TEXT COLLATE "C",
    scan_completed BOOLEAN DEFAULT false NOT NULL,
    files_listed BIGINT DEFAULT 0 NOT NULL,
    files_scanned BIGINT DEFAULT 0 NOT NULL,
    files_due BIGINT DEFAULT 0 NOT NULL,
    files_chunked BIGINT DEFAULT 0 NOT NULL,
    files_written BIGINT DEFAULT 0 NOT NULL,
    files_indexed BIGINT DEFAULT 0 NOT NULL,
    files_unchanged BIGINT DEFAULT 0 NOT NULL,
    files_removed BIGINT DEFAULT 0 NOT NULL,
    files_skipped BIGINT DEFAULT 0 NOT NULL,
    files_failed BIGINT DEFAULT 0 NOT NULL,
    bytes_scanned BIGINT DEFAULT 0 NOT NULL,
    bytes_indexed BIGINT DEFAULT 0 NOT NULL,
    chunks_created BIGINT DEFAULT 0 NOT NULL,
    chunks_embedded BIGINT DEFAULT 0 NOT NULL,
    chunks_reused BIGINT DEFAULT 0 NOT NULL,
    chunks_written BIGINT DEFAULT 0 NOT NULL,
    passages_truncated BIGINT DEFAULT 0 NOT NULL,
    batches_total BIGINT DEFAULT 0 NOT NULL,
    batches_done BIGINT DEFAULT 0 NOT NULL,
    progress_percentage DOUBLE PRECISION DEFAULT 0 NOT NULL,
    sampled_at TIMESTAMP WITH TIME ZONE,
    sampled_percentage DOUBLE PRECISION DEFAULT 0 NOT NULL,
    earlier_at TIMESTAMP WITH TIME ZONE,
    earlier_percentage DOUBLE PRECISION DEFAULT 0 NOT NULL,
    scan_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    scan_started_at TIMESTAMP WITH TIME ZONE,
    scan_ended_at TIMESTAMP WITH TIME ZONE,
    chunk_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    chunk_started_at TIMESTAMP WITH TIME ZONE,
    chunk_ended_at TIMESTAMP WITH TIME ZONE,
    embed_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    embed_started_at TIMESTAMP WITH TIME ZONE,
    embed_ended_at TIMESTAMP WITH TIME ZONE,
    write_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    write_started_at TIMESTAMP WITH TIME ZONE,
    write_ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_indexing_jobs PRIMARY KEY (id),
    CONSTRAINT ck_indexing_jobs_status CHECK (status IN ('blocked', 'cancelled', 'completed', 'failed', 'paused', 'pending', 'running')),
    CONSTRAINT ck_indexing_jobs_completed CHECK (status <> 'completed' OR completed_at IS NOT NULL),
    CONSTRAINT ck_indexing_jobs_failed CHECK (status <> 'failed' OR error_message IS NOT NULL),
    CONSTRAINT ck_indexing_jobs_cancelled CHECK (status <> 'cancelled' OR cancelled_at IS NOT NULL),
    CONSTRAINT ck_indexing_jobs_paused CHECK (status <> 'paused' OR paused_at IS NOT NULL),
    CONSTRAINT ck_indexing_jobs_blocked CHECK (status <> 'blocked' OR (blocked_since IS NOT NULL AND blocked_reason IS NOT NULL)),
    CONSTRAINT ck_indexing_jobs_finished CHECK ((status IN ('cancelled', 'completed', 'failed')) = (finished_at IS NOT NULL)),
    CONSTRAINT ck_indexing_jobs_files_indexed CHECK (files_indexed <= files_scanned),
    CONSTRAINT ck_indexing_jobs_progress CHECK (progress_percentage BETWEEN 0 AND 100),
    CONSTRAINT ck_indexing_jobs_progress_full CHECK ((progress_percentage = 100) = (status = 'completed')),
    CONSTRAINT fk_indexing_jobs_repository_id FOREIGN KEY(repository_id) REFERENCES penstock.repositories (id) ON DELETE CASCADE,
    CONSTRAINT fk_indexing_jobs_resumed_from FOREIGN KEY(resumed_from) REFERENCES penstock.indexing_jobs (id) ON DELETE SET NULL
)
 WITH (fillfactor = 50);

CREATE UNIQUE INDEX uq_indexing_jobs_active ON penstock.indexing_jobs (project_id, repo_path) WHERE status IN ('blocked', 'paused', 'pending', 'running');

CREATE INDEX ix_indexing_jobs_created ON penstock.indexing_jobs (created_at DESC, id);

CREATE INDEX ix_indexing_jobs_resumed_from ON penstock.indexing_jobs (resumed_from) WHERE resumed_from IS NOT NULL;

CREATE INDEX ix_indexing_jobs_repository ON penstock.indexing_jobs (repository_id, created_at);

CREATE INDEX ix_indexing_jobs_active ON penstock.indexing_jobs (created_at) WHERE status IN ('blocked', 'paused', 'pending', 'running');

CREATE TABLE penstock.files (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    repository_id BIGINT NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL,
    mtime_ns BIGINT NOT NULL,
    content_hash BYTEA,
    language TEXT,
    chunk_count INTEGER DEFAULT 0 NOT NULL,
    model_id SMALLINT,
    skip_reason TEXT,
    indexed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_files PRIMARY KEY (id),
    CONSTRAINT ck_files_skipped CHECK (skip_reason IS NULL OR chunk_count = 0),
    CONSTRAINT uq_files_repository_id_path UNIQUE (repository_id, path),
    CONSTRAINT fk_files_repository_id FOREIGN KEY(repository_id) REFERENCES penstock.repositories (id) ON DELETE CASCADE,
    CONSTRAINT fk_files_model_id FOREIGN KEY(model_id) REFERENCES penstock.models (id)
)
 WITH (fillfactor = 80);

COMMENT ON COLUMN penstock.files.model_id IS 'The vector space that its chunks are in';

COMMENT ON COLUMN penstock.files.mtime_ns IS '0 when it was too fresh to be trusted';

CREATE TABLE penstock.batches (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id UUID NOT NULL,
    sequence INTEGER NOT NULL,
    stage TEXT DEFAULT 'ready' NOT NULL,
    files JSONB NOT NULL,
    outcomes JSONB,
    file_count INTEGER NOT NULL,
    byte_count BIGINT NOT NULL,
    chunk_count INTEGER DEFAULT 0 NOT NULL,
    chunks_embedded INTEGER DEFAULT 0 NOT NULL,
    failures SMALLINT DEFAULT 0 NOT NULL,
    last_error TEXT,
    CONSTRAINT pk_batches PRIMARY KEY (id),
    CONSTRAINT ck_batches_stage CHECK (stage IN ('chunk', 'done', 'embed', 'ready', 'write')),
    CONSTRAINT ck_batches_file_count CHECK (jsonb_array_length(files) = file_count),
    CONSTRAINT fk_batches_job_id FOREIGN KEY(job_id) REFERENCES penstock.indexing_jobs (id) ON DELETE CASCADE
)
 WITH (fillfactor = 70);

CREATE INDEX ix_batches_ready ON penstock.batches (job_id, sequence) WHERE stage = 'ready';

CREATE INDEX ix_batches_in_flight ON penstock.batches (job_id) WHERE stage IN ('chunk', 'embed', 'write');

CREATE INDEX ix_batches_job ON penstock.batches (job_id);

COMMENT ON COLUMN penstock.batches.files IS '[[path, size, mtime_ns], …] as the scan saw them';

COMMENT ON COLUMN penstock.batches.outcomes IS 'What the chunk stage found of each file, in the same order';

CREATE TABLE penstock.file_outcomes (
    job_id UUID NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_file_outcomes PRIMARY KEY (job_id, path),
    CONSTRAINT ck_file_outcomes_outcome CHECK (outcome IN ('failed', 'skipped')),
    CONSTRAINT fk_file_outcomes_job_id FOREIGN KEY(job_id) REFERENCES penstock.indexing_jobs (id) ON DELETE CASCADE
);

CREATE TABLE penstock.chunks (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    repository_id BIGINT NOT NULL,
    file_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    start_line INTEGER NOT NULL,
    end_line INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    kind TEXT NOT NULL,
    language TEXT NOT NULL,
    content TEXT NOT NULL,
    content_hash BYTEA NOT NULL,
    model_id SMALLINT NOT NULL,
    embedding HALFVEC NOT NULL,
    lexemes TSVECTOR NOT NULL,
    CONSTRAINT pk_chunks PRIMARY KEY (id),
    CONSTRAINT ck_chunks_lines CHECK (start_line >= 1 AND end_line >= start_line),
    CONSTRAINT uq_chunks_file_id_ordinal UNIQUE (file_id, ordinal),
    CONSTRAINT fk_chunks_repository_id FOREIGN KEY(repository_id) REFERENCES penstock.repositories (id) ON DELETE CASCADE,
    CONSTRAINT fk_chunks_file_id FOREIGN KEY(file_id) REFERENCES penstock.files (id) ON DELETE CASCADE,
    CONSTRAINT fk_chunks_model_id FOREIGN KEY(model_id) REFERENCES penstock.models (id)
);

CREATE INDEX ix_chunks_repository ON penstock.chunks (repository_id);

CREATE INDEX ix_chunks_lexemes ON penstock.chunks USING gin (lexemes);

CREATE TABLE penstock.job_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id UUID NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    type TEXT NOT NULL,
    detail JSONB DEFAULT '{}' NOT NULL,
    CONSTRAINT pk_job_events PRIMARY KEY (id),
    CONSTRAINT fk_job_events_job_id FOREIGN KEY(job_id) REFERENCES penstock.indexing_jobs (id) ON DELETE CASCADE
);

CREATE INDEX ix_job_events_job ON penstock.job_events (job_id, id);

ALTER TABLE penstock.staged_chunks SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
"""


def upgrade() -> None:
    """Create everything; the vector extension must be installable by this account or be there already."""
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.execute("CREATE SCHEMA IF NOT EXISTS penstock")
    op.execute(generate_init_sql())
    op.execute(QUEUE)
    op.execute(TABLES)


def downgrade() -> None:
    """Drop everything but the extension and the schema that holds the version table."""
    op.execute("DROP SCHEMA dramatiq CASCADE")
    op.execute("DROP SEQUENCE penstock.worker_ids")
    op.execute(
        "DROP TABLE penstock.workers, penstock.job_events, penstock.chunks, penstock.embeddings, penstock.staged_chunks,"
        " penstock.file_outcomes, penstock.files, penstock.batches, penstock.indexing_jobs, penstock.repositories,"
        " penstock.models"
    )
