"""Which embedder a name means; each is made once per process, so that its connections and caches are shared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pipeline.embedders.local import MODEL, LocalEmbedder
from pipeline.errors import ModelMissing, ValidationError

if TYPE_CHECKING:
    from pipeline.embedders import Embedder
    from pipeline.embedders.ollama import OllamaEmbedder

LOCAL: Final = "local"
OLLAMA: Final = "ollama"
DEFAULT_OLLAMA_MODEL: Final = "nomic-embed-text"


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """How embedders are reached; the timeout is in seconds and bounds each request."""

    ollama_host: str = "http://127.0.0.1:11434"
    ollama_batch_size: int = 32
    ollama_timeout: float = 60.0
    ollama_keep_alive: str | None = None


def choose(name: str, model: str, config: EmbedderConfig) -> Embedder:
    """Return the process's embedder of this name and model; an empty model means the embedder's default.

    Raises ValidationError for a name that does not exist, ModelMissing for a local model of another release.
    """
    if name == LOCAL:
        return _local(model or MODEL)
    if name == OLLAMA:
        return _ollama(model or DEFAULT_OLLAMA_MODEL, config)
    message = f"there is no embedder {name!r}; set PENSTOCK_EMBEDDER to {LOCAL} or {OLLAMA}"
    raise ValidationError(message)


@lru_cache(maxsize=1)
def _local(model: str) -> LocalEmbedder:
    if model != MODEL:
        message = f"this Penstock's local model is {MODEL}, not {model}: index the repository again"
        raise ModelMissing(message)
    return LocalEmbedder()


@lru_cache(maxsize=8)
def _ollama(model: str, config: EmbedderConfig) -> OllamaEmbedder:
    try:
        from pipeline.embedders.ollama import OllamaEmbedder  # noqa: PLC0415 - its client takes 0.3 s to import
    except (ImportError, ValueError) as error:  # the client looks at OLLAMA_HOST and at the proxies when it is imported
        message = f"OLLAMA_HOST={config.ollama_host}, or a proxy in the environment, is not an address: {error}"
        raise ValidationError(message) from error
    return OllamaEmbedder(
        config.ollama_host,
        model,
        batch_size=config.ollama_batch_size,
        timeout=config.ollama_timeout,
        keep_alive=config.ollama_keep_alive,
    )


# Neither a connection nor the thread that serves it lives on in a forked child.
os.register_at_fork(after_in_child=_ollama.cache_clear)
