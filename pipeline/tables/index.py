"""The tables of the index: repositories, their files and chunks, and the embeddings by content."""

from __future__ import annotations

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

from pipeline.tables.base import NOW, ZERO, Moment, metadata

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
    Column("revision", Text, comment="The commit that was indexed last, of a git URL or a bare repository"),
    Column(
        "counted_chunks",
        Integer,
        nullable=False,
        server_default=ZERO,
        comment="How many chunks its lexicon was made of",
    ),
    Column("files", BigInteger, nullable=False, server_default=ZERO, comment="How many are searchable"),
    Column("chunks", BigInteger, nullable=False, server_default=ZERO),
    Column(
        "changes", BigInteger, nullable=False, server_default=ZERO, comment="Chunks that were ever written or removed"
    ),
    Column(
        "tuned_changes", BigInteger, nullable=False, server_default=ZERO, comment="The changes that its statistics hold"
    ),
    CheckConstraint("index_state IN ('empty', 'partial', 'complete')", name="index_state"),
    UniqueConstraint("project_id", "root_path"),
)

files = Table(
    "files",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("repository_id", ForeignKey(repositories.c.id, ondelete="CASCADE"), nullable=False),
    Column("path", Text(collation="C"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False, comment="0 when it was too fresh to be trusted"),
    Column("blob_id", LargeBinary, comment="git's name of the content, of a file out of a git repository's objects"),
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
    Column("name_words", Text, nullable=False),
    Column("place_words", Text, nullable=False),
    Column("comment_words", Text, nullable=False),
    Column("code_words", Text, nullable=False),
    Column("keys", ARRAY(Text), nullable=False, comment="What the definitions that begin in it are found by"),
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
Index("ix_chunks_repository", chunks.c.repository_id, chunks.c.kind)
Index("ix_chunks_lexemes", chunks.c.lexemes, postgresql_using="gin")

lexicon = Table(
    "lexicon",
    metadata,
    Column("repository_id", ForeignKey(repositories.c.id, ondelete="CASCADE"), nullable=False),
    Column("lexeme", Text(collation="C"), nullable=False),
    Column("chunks", Integer, nullable=False),
    PrimaryKeyConstraint("repository_id", "lexeme"),
    comment="In how many chunks a repository has a lexeme, of those that are not rare",
)
