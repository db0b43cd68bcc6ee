"""What commands print: results on stdout, everything else on stderr; nothing of a repository reaches a terminal raw."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Console

from pipeline.describing import duration

if TYPE_CHECKING:
    from typing import NoReturn

    from pydantic import BaseModel

PIPE_WIDTH: Final = 200
DAY: Final = 86_400
CONTROLS: Final = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")
"""Everything that could steer a terminal, but for tabs and newlines."""


class Screen(Console):
    """A console that takes text as it is: no markup, no highlighting, and a reader that leaves is no error of ours."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
        if not self.is_terminal:
            self.width = PIPE_WIDTH

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the guard of all commands."""
        raise BrokenPipeError


def clean(text: str) -> str:
    """Return a text without the characters that steer a terminal: paths and contents are other people's."""
    return text.translate(CONTROLS)


def say(text: str) -> None:
    """Print a line of the answer."""
    Screen().print(clean(text))


def note(text: str) -> None:
    """Print a line beside the answer, on stderr."""
    Screen(stderr=True).print(clean(text))


def emit(record: BaseModel) -> None:
    """Print a record as one line of JSON."""
    sys.stdout.write(record.model_dump_json() + "\n")
    sys.stdout.flush()


def emit_error(code: str, message: str) -> None:
    """Print the JSON object of an error."""
    sys.stdout.write(json.dumps({"error": {"code": code, "message": message}}) + "\n")
    sys.stdout.flush()


def ago(moment: datetime | None) -> str:
    """Return how long ago a moment was, "never" when there was none."""
    if moment is None:
        return "never"
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    days = int(seconds // DAY)
    return f"{days} days ago" if days > 1 else f"{duration(seconds)} ago"
