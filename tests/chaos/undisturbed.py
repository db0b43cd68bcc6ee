"""The same trees, indexed in a database of their own while nothing breaks: what the disturbed index must equal."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self

from pipeline import jobs
from pipeline.embedders import choosing
from pipeline.embedders.choosing import OLLAMA, EmbedderConfig
from pipeline.errors import RepositoryNotFound
from pipeline.records import Limits
from pipeline.states import JobStatus
from pipeline.store.engine import connect
from tests.chaos.server import UNDISTURBED
from tests.driving import Driver
from tests.ollama_standin import OllamaStandin

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from sqlalchemy import Engine

    from tests.chaos.server import Server
    from tests.chaos.trees import Tree
    from tests.ollama_standin import Settings


class Undisturbed:
    """Indexes in this process, with an embedding server of its own that never fails; a context manager ends it."""

    def __init__(self, server: Server, model: str, settings: Settings) -> None:
        self._engine = connect(server.url(UNDISTURBED), pool_size=2)
        self._model = model
        self._settings = settings
        self._stack = ExitStack()
        self._known: dict[Path, tuple[str, int]] = {}

    def __enter__(self) -> Self:
        standin = self._stack.enter_context(OllamaStandin(self._settings))
        self._config = EmbedderConfig(ollama_host=standin.url)
        self._stack.callback(self._engine.dispose)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def index(self, tree: Tree, embedder: str) -> Engine:
        """Index a tree from nothing, unless it is known, and return the engine of the database. Embeddings are kept."""
        edition = embedder, tree.edition
        if self._known.get(tree.root) != edition:
            self._index(tree.root, embedder)
            self._known[tree.root] = edition
        return self._engine

    def _index(self, root: Path, embedder: str) -> None:
        model = self._model if embedder == OLLAMA else ""
        driver = Driver(self._engine, choosing.choose(embedder, model, self._config), Limits())
        with suppress(RepositoryNotFound):
            jobs.remove(driver.office, "default", str(root))
        job = driver.index(root)
        if job.status != JobStatus.COMPLETED:
            raise RuntimeError(f"the undisturbed run of {root} ended {job.status}: {job.error_message}")
