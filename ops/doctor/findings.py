"""What a check came to: records, as the command prints them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.records import Record

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ops.database import MigrationStatus
    from ops.settings import Settings


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    """It works, but somebody should know."""
    FAILED = "failed"


class Finding(Record):
    """What one check found, and what to do about it."""

    check: str
    verdict: Verdict
    text: str
    advice: str | None = None


class Diagnosis(Record):
    """All findings; healthy when none failed."""

    healthy: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """A database that answers, and the settings that it was reached by."""

    settings: Settings
    engine: Engine
    state: MigrationStatus

    @property
    def embedded(self) -> bool:
        """Whether server and workers are the local ones."""
        return self.settings.database_url is None


def ok(check: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, verdict=Verdict.OK, text=text)


def warning(check: str, text: str, advice: str | None = None) -> Finding:
    """Return what somebody should know."""
    return Finding(check=check, verdict=Verdict.WARNING, text=text, advice=advice)


def failed(check: str, text: str, advice: str | None = None) -> Finding:
    """Return what keeps Penstock from working."""
    return Finding(check=check, verdict=Verdict.FAILED, text=text, advice=advice)
