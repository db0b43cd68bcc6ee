"""The users of a run, one a repository: they change files, submit, pause, cancel, resume and remove, over and over."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from pipeline import jobs
from pipeline.errors import DatabaseError, InvalidStatus, JobNotFound, RepositoryNotFound
from pipeline.records import JobRequest
from pipeline.states import ACTIVE, TERMINAL, JobStatus
from pipeline.store.jobs import JobFilter

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from uuid import UUID

    from pipeline.jobs import Office
    from pipeline.records import Job
    from tests.chaos.embedded import Embedded
    from tests.chaos.trees import Tree

T = TypeVar("T")
PROJECT: Final = "default"
POLL: Final = 0.2
ASK_AGAIN: Final = 0.3
INSIST_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 8.0
"""How long a user waits for the moment at which to interfere."""
HABITS: Final = (
    *("watch",) * 4,
    *("pause",) * 3,
    *("cancel",) * 3,
    *("submit again",),
    *("pause and cancel",),
    *("remove",),
)


@dataclass(frozen=True, slots=True)
class Visit:
    """What a user is about to do with the repository: drawn before it begins, so that no timing changes the draw."""

    habit: str
    force: bool
    at: float
    """The percentage at which to interfere."""
    rest: float
    """Seconds between a pause and the resume."""


class Broken(Exception):
    """A promise that was made to a user was not kept."""


@dataclass
class User:
    """Somebody with one repository; `promises` holds what was not kept."""

    tree: Tree
    offices: tuple[Office, ...]
    """The settings that the user submits with, now these, now those."""
    embedded: Embedded
    removes: bool = False
    idle: bool = False
    """Leaves the repository alone: others submit it."""
    job_id: UUID | None = None
    changed: bool = True
    """Whether the files are newer than the last submission."""
    promises: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    resting: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.office = self.offices[0]

    @property
    def name(self) -> str:
        """The repository's name, which is the same in every run."""
        return self.tree.root.name

    @property
    def root(self) -> str:
        """The repository's path."""
        return str(self.tree.root)

    def work(self, random: Random) -> None:
        """Visit the repository again and again, until it is time to rest."""
        try:
            while not self.resting.is_set() and not self.idle:
                self._visit(random)
        except Broken as broken:
            self.promises.append(str(broken))
        except BaseException as error:  # noqa: BLE001 - the program looks at it in its own thread
            self.error = error

    def _visit(self, random: Random) -> None:
        visit = Visit(random.choice(HABITS), random.random() < 0.25, random.uniform(0, 90), random.uniform(0, 2))
        self.tree.change(random)
        self.office, self.changed = random.choice(self.offices), True
        self.submit(force=visit.force)
        interfere: dict[str, Callable[[Visit], None]] = {
            "watch": lambda _visit: None,
            "pause": self._pause,
            "cancel": self._cancel,
            "submit again": self._submit_again,
            "pause and cancel": self._pause_and_cancel,
            "remove": self._remove,
        }
        self._await(lambda job: job.progress_percentage >= visit.at, LOOK_SECONDS)
        interfere[visit.habit](visit)
        self.counts[visit.habit] = self.counts.get(visit.habit, 0) + 1
        self._await(lambda _job: False, INSIST_SECONDS)
        self._go_on_after_failure()

    # --- what a user does ---

    def submit(self, *, force: bool = False) -> None:
        """Submit the repository."""
        request = JobRequest(repo_path=self.root, force_reindex=force)
        self.job_id = self._insist(lambda: jobs.submit(self.office, request).job_id)
        self.changed = False

    def _pause(self, visit: Visit) -> None:
        if self._control(jobs.pause):
            self.resting.wait(visit.rest)
            self._expect(JobStatus.PAUSED)
            self._control(jobs.resume)

    def _cancel(self, _visit: Visit) -> None:
        if self._control(jobs.cancel):
            self._expect(JobStatus.CANCELLED)
            self._resume_as_new()

    def _pause_and_cancel(self, visit: Visit) -> None:
        if self._control(jobs.pause):
            self.resting.wait(visit.rest)
            self._cancel(visit)

    def _submit_again(self, _visit: Visit) -> None:
        """Submit what is being indexed: the same job is the answer, unless it has ended (R07)."""
        before = self.job_id
        self.submit()
        if before != self.job_id and self.job().status in ACTIVE and self._look(before).status in ACTIVE:
            self.promises.append(f"two jobs of {self.root} are active: {before} and {self.job_id}")

    def _remove(self, _visit: Visit) -> None:
        if not self.removes:
            return
        self._await(lambda _job: False, INSIST_SECONDS)
        try:
            self._insist(lambda: jobs.remove(self.office, PROJECT, self.root))
        except InvalidStatus:  # it has not finished in time
            return
        except RepositoryNotFound:  # it was removed, and only the answer was lost
            pass
        self.job_id = None

    def _resume_as_new(self) -> None:
        if self.job_id is not None:
            ended = self.job_id
            self.job_id = self._insist(lambda: jobs.resume(self.office, ended).job_id)

    def _go_on_after_failure(self) -> None:
        if self.job_id is not None and self.job().status in {JobStatus.FAILED, JobStatus.CANCELLED}:
            self._resume_as_new()
            self._await(lambda _job: False, INSIST_SECONDS)

    # --- how ---

    def job(self) -> Job:
        """Return the user's job as it is now."""
        return self._look(self.job_id)

    def _look(self, job_id: UUID | None) -> Job:
        if job_id is None:
            raise Broken(f"{self.root} was never submitted")
        return self._insist(lambda: jobs.status(self.office.engine, job_id))

    def _control(self, act: Callable[[Office, UUID], Job]) -> bool:
        """Pause, cancel or resume the job; False when it has ended meanwhile."""
        job_id = self.job_id
        if job_id is None:
            return False
        with self.embedded.disturbed():
            try:
                self._insist(lambda: act(self.office, job_id))
            except InvalidStatus:
                return False
        return True

    def _expect(self, status: JobStatus) -> None:
        found = self.job().status
        if found != status:
            self.promises.append(f"job {self.job_id} was {status} for its user, and is {found}")

    def _await(self, moment: Callable[[Job], bool], patience: float) -> None:
        """Wait for a moment in the job's life, its end, or the time to rest."""
        deadline = time.monotonic() + patience
        while self.job_id is not None and time.monotonic() < deadline:
            job = self.job()
            if job.status in TERMINAL or moment(job) or self.resting.wait(POLL):
                return

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer; what is not the house's own error is noted, since a user would meet it."""
        deadline = time.monotonic() + INSIST_SECONDS
        while True:
            try:
                return ask()
            except DatabaseError:
                if time.monotonic() > deadline:
                    raise
            except (SQLAlchemyError, psycopg.Error) as error:
                self.promises.append(f"a user met {type(error).__name__}: {str(error).partition(chr(10))[0]}")
            except JobNotFound as error:
                raise Broken(f"an acknowledged job is gone: {error}") from error
            time.sleep(ASK_AGAIN)


def settle(user: User) -> bool:
    """Bring the user's repository a step nearer to a completed job that saw all its files; True when it is there."""
    known = jobs.listed(user.office.engine, JobFilter(path_prefix=user.root), limit=jobs.MAX_PAGE).jobs
    job = next((job for job in known if job.status in ACTIVE or job.job_id == user.job_id), None)
    if job is None and user.idle:
        job = next((job for job in known if job.status == JobStatus.COMPLETED), None)
    if job is None or (user.changed and job.status in TERMINAL):
        user.submit()
    elif job.status in {JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}:
        user.job_id = jobs.resume(user.office, job.job_id).job_id
    return job is not None and job.status == JobStatus.COMPLETED and not user.changed
