"""What a shell completes: words that are known, and what the database says, if it is up and answers at once."""

from __future__ import annotations

from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import typer  # noqa: TC002 - typer reads the annotation

from pipeline.states import JobStatus, sources_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row

PATIENCE_SECONDS: Final = 1.0
"""How long a key may wait for the database."""
NEWEST: Final = 100
KINDS: Final = (
    "function method class interface struct enum type module variable table rule entry section block text"
).split()
WANTED: Final = {
    "pause": frozenset(sources_of(JobStatus.PAUSED)),
    "cancel": frozenset(sources_of(JobStatus.CANCELLED)),
    "resume": frozenset({JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}),
}
"""In which states a job must be to be worth offering, by command; any, for the others."""


def statuses() -> list[str]:
    """Offer every status, and the alias."""
    return [*JobStatus, "queued"]


def kinds() -> list[str]:
    """Offer every kind of chunk."""
    return KINDS


def languages() -> list[str]:
    """Offer every language that is told apart by name."""
    from pipeline.languages import NAMES

    return sorted(set(NAMES.values()))


def job_ids(ctx: typer.Context) -> list[tuple[str, str]]:
    """Offer the newest jobs that the command can do something with."""
    from pipeline.describing import percent

    wanted = WANTED.get(ctx.info_name or "", frozenset(JobStatus))
    return [
        (str(job.id), f"{job.status} {percent(job.progress_percentage)}, {job.repo_path}")
        for job in _newest_jobs()
        if job.status in wanted
    ]


def repositories() -> list[str]:
    """Offer the repositories of the newest jobs."""
    return _distinct(job.repo_path for job in _newest_jobs())


def projects() -> list[str]:
    """Offer the projects of the newest jobs."""
    return _distinct(job.project_id for job in _newest_jobs())


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _newest_jobs() -> Sequence[Row[Any]]:
    """Return the newest jobs; none when the database is down, or away, or slow: nobody waits for a key."""
    from ops import postgres
    from ops.settings import Settings
    from pipeline.store import jobs
    from pipeline.store.engine import connect

    answers: list[Sequence[Row[Any]]] = []

    def ask() -> None:
        with suppress(Exception):  # whatever is wrong, a command will say it
            settings = Settings.load()
            url = settings.database_url or postgres.url_if_up(settings.penstock_home)
            if url is None:
                return
            engine = connect(url, pool_size=1, application_name="penstock completion")
            with engine.connect() as connection:
                answers.append(jobs.page(connection, jobs.JobFilter(), NEWEST, 0)[0])
            engine.dispose()

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_SECONDS)
    return answers[0] if answers else ()
