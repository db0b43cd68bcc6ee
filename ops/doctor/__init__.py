"""Looks for the most likely faults and explains them: each check is a small function, and none can hang the doctor."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from ops import database, postgres
from ops.doctor import machine, server, work
from ops.doctor.findings import Database, Diagnosis, Finding, Verdict, failed
from pipeline.errors import DatabaseError, PenstockError
from pipeline.store.engine import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection as DriverConnection

    from ops.settings import Settings

__all__ = ["Diagnosis", "Finding", "Verdict", "examine"]

T = TypeVar("T")
CHECK_SECONDS: Final = machine.EMBEDDER_SECONDS + 5
"""How long a check may take; most take milliseconds."""
START_SECONDS: Final = 120.0
"""How long the embedded server may take to come up: it may have to recover first."""
STATEMENT_SECONDS: Final = 5


def examine(settings: Settings) -> Diagnosis:
    """Run all checks; what needs the database is left out when it does not answer."""
    findings = (*(_run(check, settings) for check in machine.CHECKS), *_examine_database(settings))
    return Diagnosis(healthy=all(finding.verdict != Verdict.FAILED for finding in findings), findings=findings)


def _examine_database(settings: Settings) -> Iterator[Finding]:
    try:
        with opened(settings) as found:
            yield from (_run(check, found) for check in server.CHECKS)
            if found.state.current == found.state.head:
                yield from (_run(check, found) for check in work.CHECKS)
    except (DatabaseError, TimeoutError) as error:
        advice = "check DATABASE_URL, the server and the network between" if settings.database_url else None
        yield failed("database", _words(error), advice)


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """Yield the database, whose statements are bounded; raises DatabaseError or TimeoutError when it is away."""
    found = within(CHECK_SECONDS if settings.database_url else START_SECONDS, partial(_open, settings))
    try:
        yield found
    finally:
        found.engine.dispose()


def _open(settings: Settings) -> Database:
    url = settings.database_url or postgres.ensure(settings.penstock_home)
    state = database.status(url)
    engine = connect(url, application_name="penstock doctor")
    event.listen(engine, "connect", _bound_statements)
    return Database(settings, engine, state)


def _bound_statements(driver: DriverConnection[tuple[object, ...]], _record: object) -> None:
    driver.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
    driver.commit()


def _run(check: Callable[[T], Finding], subject: T) -> Finding:
    try:
        return within(CHECK_SECONDS, partial(check, subject))
    except (PenstockError, TimeoutError, SQLAlchemyError) as error:
        return failed(check.__name__.removeprefix("check_"), _words(error))


def _words(error: Exception) -> str:
    """Return what went wrong in a line, without the advice to ask us."""
    return str(error).partition("\n")[0].partition("; `penstock doctor`")[0]


def within(seconds: float, question: Callable[[], T]) -> T:
    """Return the answer to a question, or raise TimeoutError: the thread that asked is left behind then."""
    answer: Future[T] = Future()
    Thread(target=_ask, args=(question, answer), daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        message = f"no answer within {seconds:g} s: what it asks hangs"
        raise TimeoutError(message) from None


def _ask(question: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(question())
    except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
        answer.set_exception(error)
