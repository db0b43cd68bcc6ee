"""The format of log lines, and what never gets into one."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Literal

import pytest
import structlog

from ops import logs
from ops.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

Format = Literal["auto", "json", "console"]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the other tests their logging back."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", *logs.CHATTY)}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


def configured(log_format: Format = "json", level: Literal["DEBUG", "INFO", "WARNING"] = "INFO") -> io.StringIO:
    """Send the logs to a text in memory, which is no terminal, and return it."""
    stream = io.StringIO()
    logs.configure(Settings(penstock_log_format=log_format, penstock_log_level=level), stream)
    return stream


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_a_line_is_one_json_object_with_its_context(log_format: Format) -> None:
    """Event, level, ISO time, context and fields; `auto` means JSON where nobody watches (R64, R65)."""
    stream = configured(log_format)
    with structlog.contextvars.bound_contextvars(stage="chunk"):
        structlog.get_logger("test").info("chunk.done", files=3)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp")[-1] == "Z"
    assert (line.pop("worker"), line.pop("host")) == (os.getpid(), socket.gethostname())
    assert line == {"event": "chunk.done", "level": "info", "stage": "chunk", "files": 3}


def test_libraries_speak_the_same_format() -> None:
    """What a library says through `logging` is JSON, too; the chatty ones are heard from a warning on (R65)."""
    stream = configured()
    logging.getLogger("sqlalchemy.pool").warning("the pool of %s is full", "4", extra={"size": 4})
    logging.getLogger("dramatiq.worker").info("a thread started")
    logging.getLogger("httpx").info("a request was made")
    logging.getLogger("dramatiq.worker").warning("a thread died")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["the pool of 4 is full", "a thread died"]
    assert lines[0]["size"] == 4


def test_nothing_below_the_level_is_said() -> None:
    """PENSTOCK_LOG_LEVEL holds for our lines and for the libraries' (R65)."""
    stream = configured(level="WARNING")
    structlog.get_logger("test").info("chunk.done")
    logging.getLogger("alembic").info("upgraded")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variable(log_format: Format) -> None:
    """Locals hold passwords and contents of files; the place and the error's text are enough (R65)."""
    stream = configured(log_format)
    password = "".join(reversed("2retnuh"))
    try:
        int("no number")
    except ValueError:
        structlog.get_logger("test").exception("worker.crashed")
        logging.getLogger("dramatiq").exception("failed to process")
    said = stream.getvalue()
    assert said.count("invalid literal") >= 2
    assert "test_logs.py" in said
    assert password not in said
