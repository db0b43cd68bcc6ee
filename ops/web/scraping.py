"""The metrics, for Prometheus to scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import Response
from starlette.routing import Route

from ops.metrics import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from ops.web.site import Site


def routes(site: Site) -> Sequence[BaseRoute]:
    """Return the one page; an embedded server that has left is not called back for it."""

    async def scrape(_request: Request) -> Response:
        text = await to_thread.run_sync(lambda: exposition(site.office().engine), abandon_on_cancel=True)
        return Response(text, media_type=CONTENT_TYPE)

    return (Route("/metrics", scrape),)
