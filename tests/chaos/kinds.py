"""The table of faults: one line a kind; the functions are in `on_workers`, `on_server` and `on_embedder`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.chaos import on_embedder, on_server, on_workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from random import Random

    from tests.chaos.world import World

    Break = Callable[[World, Random], AbstractContextManager[dict[str, object]]]

INSTANT: Final = (0.0, 0.0)
BEATS: Final = 4.0
"""Within two heartbeats every process has seen that the clock jumped, or was given up for it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    `strike` breaks something on entry, yields what it did, and mends it on exit; it raises LookupError or another of
    `MISSES` when there is nothing to break. `on` is what it breaks: two faults never break the same thing at a time.
    `weight` says how often it is drawn, `seconds` between which bounds it lasts. Embeddings that are on the way when it
    begins and when it ends may be lost; `lossy`: all that come while it lasts, too; `aftermath`: and so many seconds
    after each, in which its effect may come.
    """

    name: str
    weight: int
    on: str
    seconds: tuple[float, float]
    strike: Break
    lossy: bool = False
    aftermath: float = 0.0


KINDS: Final = (
    Kind("kill-worker", 8, "workers", INSTANT, on_workers.kill_worker),
    Kind("kill-holder", 8, "workers", INSTANT, on_workers.kill_holder),
    Kind("kill-parent", 2, "workers", (0.2, 2), on_workers.kill_parent),
    Kind("kill-group", 3, "workers", (0.2, 2), on_workers.kill_group),
    Kind("kill-all", 2, "workers", (0.2, 2), on_workers.kill_all),
    Kind("end-group", 2, "workers", (0.2, 2), on_workers.end_group),
    Kind("kill-submitter", 3, "submitter", INSTANT, on_workers.kill_submitter),
    Kind("stop-worker", 4, "workers", (2, 6), on_workers.stop_worker),
    Kind("stop-worker-long", 1, "workers", (26, 40), on_workers.stop_worker),
    Kind("out-of-memory", 2, "workers", INSTANT, on_workers.out_of_memory),
    Kind("lose-host", 3, "network", (2, 12), on_workers.lose_host),
    Kind("restart-server", 4, "server", (0, 0.5), on_server.restart),
    Kind("stop-server", 2, "server", (2, 8), on_server.stop),
    Kind("kill-server", 1, "server", INSTANT, on_server.kill_postmaster),
    Kind("kill-session", 2, "server", INSTANT, on_server.kill_session),
    Kind("lose-connections", 4, "server", INSTANT, on_server.lose_connections),
    Kind("out-of-connections", 2, "server", (2, 6), on_server.out_of_connections, lossy=True),
    Kind("full-disk", 2, "server", (1, 6), on_server.full_disk, lossy=True),
    Kind("clock-back", 1, "server", INSTANT, on_server.clock_back, aftermath=BEATS),
    Kind("clock-forward", 1, "server", INSTANT, on_server.clock_forward, aftermath=BEATS),
    Kind("embedder-down", 3, "embedder", (1, 8), on_embedder.down, lossy=True),
    Kind("embedder-errors", 2, "embedder", (1, 6), on_embedder.errors, lossy=True),
    Kind("embedder-throttles", 2, "embedder", (1, 6), on_embedder.throttles, lossy=True),
    Kind("embedder-hangs", 2, "embedder", (2, 10), on_embedder.hangs, lossy=True),
    Kind("embedder-slow", 2, "embedder", (3, 8), on_embedder.slow),
    Kind("embedder-garbled", 1, "embedder", (1, 4), on_embedder.garbled, lossy=True),
    Kind("model-missing", 2, "embedder", (1, 6), on_embedder.model_missing, lossy=True),
    Kind("dimension-changed", 1, "embedder", (0.5, 2), on_embedder.dimension_changed, lossy=True),
)


def named(names: str | None) -> tuple[Kind, ...]:
    """Return the kinds of these names, separated by commas; all for None. Raises LookupError for a name unknown."""
    if names is None:
        return KINDS
    known = {kind.name: kind for kind in KINDS}
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in known]:
        raise LookupError(f"no fault is called {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(known[name] for name in wanted)
