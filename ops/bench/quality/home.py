"""The product in a home of the bench's own: started, given trees to index, and stopped."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pipeline
from ops.bench.quality.sources import stamp
from ops.office import embedder_for, open_office
from ops.settings import Settings
from pipeline.store.vectors import TuningRules
from pipeline.tuning import is_due

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Engine

    from pipeline.embedders import Embedder

PENSTOCK: Final = (sys.executable, "-P", "-m", "ops.cli")
ROOT: Final = Path(pipeline.__file__).parent
INDEXING: Final = (
    "chunking.py packing.py reading.py records.py wording.py tokenizing.py languages.py grammars embedders stages"
    " tables store/files.py store/embeddings.py store/lexicon.py ../migrations/versions"
).split()
"""What decides how a tree is indexed: when one of these changes, the index is made anew."""
ROUND: Final = 0.2
LEDGER: Final = "indexed.json"


@dataclass(frozen=True, slots=True)
class Home:
    """A home whose server and workers run; `engine` and `embedder_for` are what a search takes."""

    folder: Path
    variables: Mapping[str, str]
    engine: Engine
    embedder_for: Callable[[str, str], Embedder]

    def index(self, tree: Path, said: str, project: str, variables: Mapping[str, str]) -> bool:
        """Have a tree indexed when it is not; `said` names its content. Return whether there was any to do."""
        ledger = self.folder / LEDGER
        known = json.loads(ledger.read_text()) if ledger.exists() else {}
        key = f"{project}:{tree}"
        if known.get(key) == said:
            return False
        call({**self.variables, **variables}, "index", str(tree), "--project", project, "--json")
        while is_due(self.engine, TuningRules()):  # statistics, and an index of its vectors where it is large
            time.sleep(ROUND)
        ledger.write_text(json.dumps(known | {key: said}))
        return True


@contextmanager
def running(folder: Path, given: Mapping[str, object], *, afresh: bool) -> Iterator[Home]:
    """Start a home, with these settings, and stop it at the end; it is made anew when the product indexes otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings = Settings(penstock_home=folder, database_url=None, **given)  # type: ignore[arg-type]
        environment = {"PENSTOCK_HOME": str(folder), "DATABASE_URL": "", "PENSTOCK_LOG_LEVEL": "WARNING"}
        environment |= {name.upper(): str(value) for name, value in given.items()}
        _renew(folder, environment, afresh=afresh)
        call(environment, "up")
        office = open_office(settings)
        try:
            yield Home(folder, environment, office.engine, embedder_for(settings))
        finally:
            office.engine.dispose()
            call(environment, "down")


def _renew(folder: Path, environment: Mapping[str, str], *, afresh: bool) -> None:
    mark = folder / "indexed-by"
    now = stamp(*(ROOT / each for each in INDEXING))
    if afresh or not mark.exists() or mark.read_text() != now:
        call(environment, "down")  # a run that was killed left it up
        shutil.rmtree(folder)
        folder.mkdir(mode=0o755)
        mark.write_text(now)


def call(variables: Mapping[str, str], *arguments: str) -> str:
    """Run a penstock command in a home and return what it prints."""
    done = subprocess.run(  # noqa: S603 - our own program, without a shell
        [*PENSTOCK, *arguments], check=False, capture_output=True, text=True, env=os.environ | variables
    )
    if done.returncode:
        message = f"penstock {' '.join(arguments)} failed: {done.stderr}{done.stdout}"
        raise SystemExit(message)
    return done.stdout
