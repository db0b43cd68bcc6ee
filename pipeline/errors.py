"""The one family of errors of the house.

PenstockError                    code, exit_code; text = what failed, which one, what to do next
├── ValidationError              VALIDATION_ERROR: bad input, nothing was stored
│   ├── InvalidPath              a repository path that is refused at submission (R06)
│   └── InvalidQuery             a search that cannot be answered (R53)
├── JobNotFound                  JOB_NOT_FOUND
├── RepositoryNotFound           REPOSITORY_NOT_FOUND
├── InvalidStatus                INVALID_STATUS: the job's state does not allow the move
├── DatabaseError                DATABASE_ERROR: unreachable, not migrated, too old
├── EmbedderError                EMBEDDER_ERROR
│   ├── EmbedderUnavailable      away for now: the job is blocked and goes on by itself (R13)
│   │   └── ModelMissing         the server is there, the model is not
│   └── DimensionChanged         the model's dimension is not what the index was built with
├── ScanRefused                  the repository cannot be indexed (too large, gone, nothing in it)
├── FetchFailed                  git could not fetch a repository, for a reason that nobody foresaw: tried a few times
│   └── SourceUnavailable        its host is away, or this one lacks what it takes: tried until it works
├── FileSkipped                  one file is passed over, for a stated reason
├── FileAtFault                  working on one file of a batch raised: which one, and what
├── JobStopped                   the job is no longer running: the stage's transaction is rolled back
├── BatchMoved                   the batch is past this stage: a second delivery has nothing to do
├── StagedRowsLost               a crash of the server emptied the staging table: back to chunk
└── LeaseLost                    another worker took the message over: roll back
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return a text that PostgreSQL can hold: NUL and lone surrogates become the replacement character."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


class PenstockError(Exception):
    """Base of every error that a user or a caller can meet."""

    code: ClassVar[str] = "PENSTOCK_ERROR"
    exit_code: ClassVar[int] = 1


class ValidationError(PenstockError):
    """The input is refused and nothing was stored."""

    code = "VALIDATION_ERROR"
    exit_code = 2


class InvalidPath(ValidationError):
    """A repository path that is refused at submission."""


class InvalidQuery(ValidationError):
    """A search that cannot be answered as it was asked."""


class JobNotFound(PenstockError):
    """No job has this id."""

    code = "JOB_NOT_FOUND"
    exit_code = 3

    def __init__(self, job_id: object) -> None:
        super().__init__(f"no job has the id {job_id}; `penstock jobs` lists them")


class RepositoryNotFound(PenstockError):
    """Nothing was ever indexed under this path and project."""

    code = "REPOSITORY_NOT_FOUND"
    exit_code = 3


class InvalidStatus(PenstockError):
    """The job's state does not allow what was asked."""

    code = "INVALID_STATUS"
    exit_code = 4


class DatabaseError(PenstockError):
    """The database is unreachable, not migrated, or lacks what Penstock needs."""

    code = "DATABASE_ERROR"
    exit_code = 5


class EmbedderError(PenstockError):
    """The embedder cannot do what was asked."""

    code = "EMBEDDER_ERROR"
    exit_code = 6


class EmbedderUnavailable(EmbedderError):
    """The embedder is away for now; the job waits in `blocked` and goes on by itself."""


class ModelMissing(EmbedderUnavailable):
    """The embedding server is there, but it lacks the model."""


class DimensionChanged(EmbedderError):
    """The model answers in another dimension than the index was built with."""

    def __init__(self, message: str, dimension: int) -> None:
        super().__init__(message)
        self.dimension = dimension


class ScanRefused(PenstockError):
    """The repository cannot be indexed: too large, gone, or nothing in it."""


class FetchFailed(PenstockError):
    """Git could not fetch a repository; the text quotes it."""


class SourceUnavailable(FetchFailed):
    """The files cannot be had at this moment, or on this host; the message waits and is tried again."""


class FileSkipped(PenstockError):
    """One file is passed over; the text is the reason that the user reads; `gone` says that it vanished."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.gone = gone


class FileAtFault(PenstockError):
    """Working on one file of a batch raised; `index` is its position, `cause` what was raised."""

    def __init__(self, index: int, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.index = index
        self.cause = cause


class JobStopped(PenstockError):
    """The job is no longer running, so the transaction of the stage is rolled back."""


class BatchMoved(PenstockError):
    """The batch is past this stage: a second delivery has nothing to do."""


class StagedRowsLost(PenstockError):
    """The staging table lost rows of this batch (a server crash empties it): chunk it again."""


class LeaseLost(PenstockError):
    """Another worker took the message over, so the transaction of the stage is rolled back."""
