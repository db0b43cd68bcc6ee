"""The world that things break in: a database on a small disk, an embedding server, groups of workers on two hosts."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Final

from pipeline.store.engine import connect
from tests.chaos import audit, crews, hosts, oom
from tests.chaos.embedded import Embedded
from tests.chaos.janitor import disk_of
from tests.chaos.server import ROLE, Server, mount
from tests.chaos.undisturbed import Undisturbed
from tests.ollama_standin import OllamaStandin, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.chaos.crews import Crew
    from tests.chaos.hosts import Host

MODEL: Final = "nomic-embed-text"
STANDIN: Final = Settings(models=(MODEL,), dimension=64, passage_delay=0.001)
WORKERS: Final = {
    "PENSTOCK_LOG_FORMAT": "json",
    "PENSTOCK_MIN_FREE_DISK_GB": "0",
    "OLLAMA_EMBEDDING_MODEL": MODEL,
    "OLLAMA_BATCH_SIZE": "8",
    "OLLAMA_TIMEOUT_SECONDS": "5",
    "JOB_WINDOW": "4",
}
TEND_SECONDS: Final = 0.2
SERVER_EVERY: Final = 3


@dataclass
class World:
    """All that can be broken, and what keeps it alive in spite of that."""

    folder: Path
    server: Server
    engine: Engine
    standin: OllamaStandin
    embedded: Embedded
    elsewhere: Host
    crews: list[Crew]
    undisturbed: Undisturbed
    environment: Mapping[str, str]
    bounds_memory: bool
    """Whether a process's memory can be bounded, so that the kernel kills it."""
    dimension_changes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def visited(self) -> Path:
        """The repository that commands submit which are killed."""
        return self.folder / "trees" / "visited"

    def log(self, name: str) -> Path:
        """Return the file of what a process says."""
        return self.folder / "logs" / f"{name}.log"

    def tend(self) -> None:
        """Keep what is wanted alive, until the end."""
        for tick in count():
            if self._ended.wait(TEND_SECONDS):
                return
            if tick % SERVER_EVERY == 0:
                self.server.tend()
            for crew in self.crews:
                crew.tend()

    @contextmanager
    def tended(self) -> Iterator[None]:
        """Keep everything alive that nobody keeps down on purpose."""
        keeper = threading.Thread(target=self.tend, name="keeper")
        keeper.start()
        try:
            yield
        finally:
            self._ended.set()
            keeper.join()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Make a world in a folder; what lives outside of this process is cleared by the janitor."""
    for name in ("logs", "trees", "home"):
        (folder / name).mkdir()
    disk = disk_of(folder)
    small = mount(disk)
    with ExitStack() as stack:
        server = Server(disk, small=small)
        cable = stack.enter_context(hosts.laid(folder))
        server.prepare(cable.address if cable else "")
        with server.session(role=ROLE) as session:
            audit.install(session)
        standin = stack.enter_context(OllamaStandin(STANDIN))
        standin.ledger = embedded = Embedded()
        far = hosts.by_cable(cable, standin.url) if cable else hosts.by_proxy(server.socket, standin.url)
        elsewhere = stack.enter_context(far)
        engine = connect(server.url(), pool_size=8)
        stack.callback(engine.dispose)
        here = {
            **WORKERS,
            "OLLAMA_HOST": standin.url,
            "PENSTOCK_HOME": str(folder / "home"),
            "DATABASE_URL": server.url(),
        }
        there = here | {"OLLAMA_HOST": elsewhere.embedder, "DATABASE_URL": server.url_at(*elsewhere.database)}
        made = World(
            folder=folder,
            server=server,
            engine=engine,
            standin=standin,
            embedded=embedded,
            elsewhere=elsewhere,
            crews=crews.crews(folder / "logs", here, there, elsewhere.prefix),
            undisturbed=stack.enter_context(Undisturbed(server, MODEL, replace(STANDIN, passage_delay=0.0))),
            environment=here,
            bounds_memory=oom.possible(f"{folder.name}-try"),
        )
        with made.tended():
            yield made
