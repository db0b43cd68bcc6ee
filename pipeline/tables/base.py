"""What all tables share: the schema, the names of constraints, and kinds of columns that recur."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Double, MetaData, text

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
