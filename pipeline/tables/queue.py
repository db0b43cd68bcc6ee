"""The tables of the workers: who they are, what they counted, and the messages that wake them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Identity, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, UUID

from pipeline.tables.base import NOW, ZERO, Moment, metadata

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
    Column("version", Text, nullable=False, server_default=text("''"), comment="The Penstock that it runs"),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'"), comment="What it counted since its start"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Double, nullable=False, server_default=ZERO),
    comment="What the workers counted that are gone by now",
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
