"""What commands begin with: the settings and the database opened, a job found by what the user typed, a question."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import typer

from ops.office import open_office
from ops.settings import Settings
from pipeline import jobs
from pipeline.errors import JobNotFound, ValidationError
from pipeline.store.jobs import JobFilter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sqlalchemy import Engine

    from pipeline.jobs import Office

PREFIX: Final = re.compile(r"[0-9a-f]{6}[0-9a-f-]{0,29}", re.IGNORECASE)
NEWEST: Final = "last"


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with."""

    settings: Settings
    office: Office

    @property
    def engine(self) -> Engine:
        """The pool of the office."""
        return self.office.engine


@contextmanager
def opened() -> Iterator[Desk]:
    """Read the settings, open the database, and close it at the end."""
    settings = Settings.load()
    office = open_office(settings)
    try:
        yield Desk(settings, office)
    finally:
        office.engine.dispose()


def find_job(engine: Engine, text: str) -> UUID:
    """Return the id that a user means: a whole one, the beginning of one of the newest 100 jobs, or `last`.

    Raises ValidationError for what can be no id or fits several jobs, JobNotFound when no job fits.
    """
    if text != NEWEST and not PREFIX.fullmatch(text):
        return jobs.parse_id(text)
    page = jobs.listed(engine, JobFilter(), limit=jobs.MAX_PAGE)
    fitting = [job.job_id for job in page.jobs if text == NEWEST or str(job.job_id).startswith(text.lower())]
    if not fitting:
        raise JobNotFound(text)
    if len(fitting) > 1 and text != NEWEST:
        message = f"{text} fits several jobs: {', '.join(map(str, fitting))}; give more of the id"
        raise ValidationError(message)
    return fitting[0]


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost; a script must say `--yes`. Raises ValidationError; Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        message = f"{question} Nobody is there to answer: say --yes"
        raise ValidationError(message)
    typer.confirm(question, abort=True, err=True)
