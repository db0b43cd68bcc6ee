"""Structured logs: JSON lines for machines, pretty ones on a terminal, for structlog and for the libraries beneath."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Final, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from ops.settings import Settings

CHATTY: Final = ("alembic", "dramatiq", "httpx")
"""Libraries that say at INFO that a thread starts, or a request was made: below a warning none of it is news."""


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every log record to `stream` (stdout) in the format that the settings name; `auto` looks for a terminal."""
    stream = stream or sys.stdout
    as_json = settings.penstock_log_format == "json" or (settings.penstock_log_format == "auto" and not stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _sign,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendered(as_json=as_json)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.penstock_log_level)
    for library in CHATTY:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )


def _sign(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Name the process on each of its lines; a bound variable would reach one thread only."""
    event.setdefault("worker", os.getpid())
    return event


def _locate(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Name the host, for those who collect the lines of several."""
    event["host"] = socket.gethostname()
    return event


def _rendered(*, as_json: bool) -> list[Processor]:
    # Tracebacks go without local variables, which hold contents of files and the database's password.
    if as_json:
        trace = ExceptionDictTransformer(show_locals=False)
        return [_locate, structlog.processors.ExceptionRenderer(trace), structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
