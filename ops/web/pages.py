"""The page itself, its static files, and the form that asks for the token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ops.web.guard import COOKIE, FORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from ops.web.guard import Door

STATIC: Final = Path(__file__).parent / "static"
# A form that is sent without any referrer has no origin either, and would be taken for somebody else's.
REVALIDATED: Final = {"Cache-Control": "no-cache", "Referrer-Policy": "same-origin"}
WRONG: Final = '<p class="wrong" role="alert">That is not the token. PENSTOCK_SERVE_TOKEN of this server holds it.</p>'


def routes(door: Door) -> Sequence[BaseRoute]:
    """Return the page, the form and the static files."""

    async def enter(request: Request) -> Response:
        typed = parse_qs((await request.body()).decode(errors="replace")).get("token", [""])[0]
        if not door.opens_with(typed.strip()):
            return _document("login.html", status=401, said=WRONG)
        response = RedirectResponse("/", status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, door.session, max_age=30 * 86_400, httponly=True, samesite="strict", secure=secure)
        return response

    return (
        Route("/", page),
        Route(FORM, form),
        Route(FORM, enter, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    )


async def page(_request: Request) -> Response:
    """Show the page, which asks the API for everything else."""
    return _document("index.html")


async def form(_request: Request) -> Response:
    """Ask for the token."""
    return _document("login.html")


def _document(name: str, *, status: int = 200, said: str = "") -> Response:
    text = (STATIC / name).read_text(encoding="utf-8").replace("<!-- said -->", said)
    return HTMLResponse(text, status, REVALIDATED)
