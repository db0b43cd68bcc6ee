"""What the pages are made from: the settings, and the database, opened when somebody first asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import structlog

from ops import postgres, supervisor
from ops.office import open_office
from pipeline import jobs
from pipeline.errors import DatabaseError, PenstockError
from pipeline.store.jobs import JobFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.settings import Settings
    from pipeline.jobs import Office

T = TypeVar("T")

log = structlog.get_logger("penstock")


@dataclass(slots=True)
class Site:
    """What a request is answered with; safe to use from several threads."""

    settings: Settings
    _office: Office | None = None
    _opening: Lock = field(default_factory=Lock)

    def office(self) -> Office:
        """Return the office, opened by whoever asks first. Raises DatabaseError, and the next one tries again."""
        with self._opening:
            if self._office is None:
                self._office = open_office(self.settings)
            return self._office

    def ask(self, question: Callable[[Office], T]) -> T:
        """Answer what a user asked; an embedded server that is down is started for it, as any command does."""
        office = self.office()
        try:
            return question(office)
        except DatabaseError:
            if self.settings.database_url is not None or postgres.running(self.settings.penstock_home):
                raise
        postgres.ensure(self.settings.penstock_home)
        return question(office)

    def open(self) -> None:
        """Open the database at the start, and call workers where work was left; a fault is told and tried later."""
        try:
            left = jobs.listed(self.office().engine, JobFilter(statuses=tuple(jobs.WAITING)), limit=1)
            if left.jobs:
                supervisor.ensure(self.settings)
        except PenstockError as error:
            log.warning("web.waits", reason=str(error))

    def call_workers(self) -> None:
        """Make sure that local workers run; why they do not is told here, and the job says that it waits."""
        try:
            supervisor.ensure(self.settings)
        except PenstockError as error:
            log.error("web.no_workers", reason=str(error))  # noqa: TRY400 - the reason says it all

    def close(self) -> None:
        """Give the connections back."""
        if self._office is not None:
            self._office.engine.dispose()
