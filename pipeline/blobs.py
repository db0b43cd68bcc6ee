"""Reads contents out of the objects of a git repository, by their ids."""

from __future__ import annotations

import subprocess
from typing import IO, TYPE_CHECKING, Final, Self

from pipeline import git
from pipeline.errors import FileSkipped, SourceUnavailable

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

HEADER_FIELDS: Final = 3


class Blobs:
    """One git process that answers for each id with the content; it is started by the first one."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End git."""
        if self._child:
            self._child.kill()
            self._child.communicate()

    def read(self, blob_id: str) -> bytes:
        """Return the content of a blob. Raises FileSkipped when the repository lacks it, SourceUnavailable."""
        try:
            data = self._answer(blob_id)
        except OSError as error:
            raise SourceUnavailable(f"git cannot read contents of {self._repository}: {error}") from error
        if data is None:
            raise FileSkipped("not readable: its content is missing from the git repository")
        return data

    def _answer(self, blob_id: str) -> bytes | None:
        questions, answers = self._pipes()
        questions.write(blob_id.encode() + b"\n")
        questions.flush()
        header = answers.readline().split()
        if header[1:] == [b"missing"]:
            return None
        size = int(header[2]) if len(header) == HEADER_FIELDS else 0
        data = answers.read(size + 1)
        if not header or len(data) <= size:
            raise BrokenPipeError("git ended")
        return data[:size]

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._child is None:
            self._child = self._start()
        if self._child.stdin is None or self._child.stdout is None:
            raise SourceUnavailable(f"git cannot be asked for contents of {self._repository}")
        return self._child.stdin, self._child.stdout

    def _start(self) -> subprocess.Popen[bytes]:
        line = git.command("cat-file", "--batch")
        if line is None:
            raise SourceUnavailable("git is not installed on this host")
        return subprocess.Popen(  # noqa: S603 - no shell, fixed arguments
            line,
            cwd=self._repository,
            env=git.environment(bytes(self._repository.parent)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
