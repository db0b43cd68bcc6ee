"""The office of a process that submits and reads, and the embedders: both as the settings say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ops.database import open_database
from ops.settings import GIGABYTE
from pipeline.embedders.choosing import OLLAMA, EmbedderConfig, choose
from pipeline.embedders.local import MODEL
from pipeline.jobs import Office
from pipeline.mirroring import Mirrors
from pipeline.store.engine import connect
from pipeline.store.messages import MessageOutbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.settings import Settings
    from pipeline.embedders import Embedder


def open_office(settings: Settings) -> Office:
    """Return an office on the settings' database, which is started and migrated when it is the embedded one.

    Raises DatabaseError. The caller disposes of its engine.
    """
    embedded = settings.database_url is None
    return Office(
        engine=connect(open_database(settings)),
        outbox=MessageOutbox(),
        embedder=settings.penstock_embedder,
        model=model_of(settings),
        allowed_roots=settings.penstock_allowed_roots,
        allowed_urls=settings.penstock_allowed_urls,
        mirrors=mirrors(settings),
        disk=settings.penstock_home if embedded else None,
        free_bytes=round(settings.penstock_min_free_disk_gb * GIGABYTE),
    )


def mirrors(settings: Settings) -> Mirrors:
    """Return the mirrors of this host; where URLs are allowed by name, a redirect must not lead elsewhere."""
    restricted = bool(settings.penstock_allowed_roots or settings.penstock_allowed_urls)
    limit = settings.limits().max_repository_bytes
    return Mirrors(settings.penstock_home / "mirrors", limit, redirects=not restricted)


def model_of(settings: Settings) -> str:
    """Return the model that new jobs embed with."""
    return settings.ollama_embedding_model if settings.penstock_embedder == OLLAMA else MODEL


def embedder_for(settings: Settings) -> Callable[[str, str], Embedder]:
    """Return the function from an embedder's name and model to the embedder, as the settings say how to reach it."""
    return partial(choose, config=embedder_config(settings))


def embedder_config(settings: Settings) -> EmbedderConfig:
    """Return how embedders are reached."""
    return EmbedderConfig(
        ollama_host=settings.ollama_host,
        ollama_batch_size=settings.ollama_batch_size,
        ollama_timeout=settings.ollama_timeout_seconds,
        ollama_keep_alive=settings.ollama_keep_alive,
    )
