"""What machines ask: whether this process lives, whether it can answer, and what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyio import to_thread
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ops import database, metrics
from ops.cluster import Cluster
from pipeline.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from ops.settings import Settings
    from ops.web.site import Site

PATHS: Final = frozenset({"/healthz", "/readyz"})


def routes(site: Site) -> Sequence[BaseRoute]:
    """Return the two questions about this process, which need no token, and the one about the whole fleet."""

    async def ready(_request: Request) -> Response:
        reason = await to_thread.run_sync(unready, site.settings, abandon_on_cancel=True)
        return JSONResponse({"status": "unready", "reason": reason} if reason else {"status": "ready"}, _status(reason))

    async def counted(_request: Request) -> Response:
        engine = (await to_thread.run_sync(site.office)).engine
        text = await to_thread.run_sync(metrics.exposition, engine, abandon_on_cancel=True)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    return (Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", counted))


async def alive(_request: Request) -> Response:
    """Answer, which is all that this is about."""
    return JSONResponse({"status": "alive"})


def unready(settings: Settings) -> str | None:
    """Return what keeps this process from answering, None when nothing does; nothing is started for the question.

    Everybody may ask, so nobody is told where the database is; `penstock doctor` says more.
    """
    url = settings.database_url or Cluster(settings.penstock_home.resolve()).url
    try:
        state = database.status(url)
    except DatabaseError as error:
        return f"{str(error).partition(':')[0]}; `penstock doctor` looks for the cause"
    if state.current == state.head:
        return None
    return f"the database is at revision {state.current}, not {state.head}; run `penstock db upgrade`"


def _status(reason: str | None) -> int:
    return 503 if reason else 200
