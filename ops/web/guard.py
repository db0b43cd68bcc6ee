"""The doorkeeper: which names, origins and tokens a request must have, and what each answer forbids the browser."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse

from ops.web.answers import error_response
from ops.web.health import PATHS
from pipeline.errors import ValidationError

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ops.settings import Settings

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised, so that it can be refused
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
AUTHORITY: Final = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
"""What a Host header may be: a parser of addresses would find a name in much else."""
COOKIE: Final = "penstock"
FORM: Final = "/login"
OPEN: Final = PATHS | {FORM}
"""What is answered without a token; so are the static files, which hold nothing of a user's."""
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Door:
    """Under which names the site is reached, and the token that it asks for, if any.

    `proxied` are those of a proxy before it, whose port is not ours. `any_address`: it is bound to every address of the
    machine, so any address may be its name; a foreign name may not.
    """

    names: frozenset[str]
    proxied: frozenset[str] = frozenset()
    any_address: bool = False
    token: str = ""

    @classmethod
    def of(cls, settings: Settings, host: str) -> Self:
        """Return the door of a site that is bound to `host`. Raises ValidationError when it must have a token."""
        token = settings.penstock_serve_token.get_secret_value() if settings.penstock_serve_token else ""
        further = frozenset(map(hostname, settings.penstock_serve_names))
        if not token and (host not in LOOPBACK or further):
            place = f"bound to {host or 'every address'}" if host not in LOOPBACK else "reached under other names"
            message = f"a page that is {place} needs a token: set PENSTOCK_SERVE_TOKEN, as from `openssl rand -hex 32`"
            raise ValidationError(message)
        everywhere = host in EVERYWHERE
        own = LOOPBACK | {socket.gethostname().lower()} if everywhere else LOOPBACK if host in LOOPBACK else {host}
        return cls(further | own, further, everywhere, token)

    @property
    def session(self) -> str:
        """What the cookie holds: it proves that its owner knew the token, and does not tell it."""
        return hmac.new(self.token.encode(), b"penstock page", hashlib.sha256).hexdigest()

    def opens_with(self, token: str) -> bool:
        """Return whether this is the token, in constant time."""
        return hmac.compare_digest(token.encode(errors="replace"), self.token.encode())

    def knows(self, authority: str) -> bool:
        """Return whether `name:port` is one of the site's names; the port is not looked at."""
        name = hostname(authority)
        return name in self.names or (self.any_address and is_address(name))

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is not let in, None for one that is."""
        host = request.headers.get("host", "")
        if not self.knows(host):
            text = f"{host[:100]!r} is not a name of this server; PENSTOCK_SERVE_NAMES adds names"
            return error_response("FORBIDDEN", text, 403)
        if request.method not in SAFE and (fault := self._forged(request, host)):
            return fault
        if self.token and not self._admitted(request):
            return _ask_for_token(request)
        return None

    def _forged(self, request: Request, host: str) -> Response | None:
        """Return the answer to a request that somebody else's page may have sent, None for any other."""
        origin = request.headers.get("origin")
        if origin is not None:
            sender = urlsplit(origin).netloc.lower()
            # A proxy in front may have changed the Host, but not the Origin.
            if not sender or (sender != host.lower() and hostname(sender) not in self.proxied):
                return error_response("FORBIDDEN", f"a request from {origin[:100]!r} may change nothing here", 403)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # A browser asks before it sends anything but a plain POST elsewhere, and is not answered.
        if request.method == "POST" and kind != "application/json" and request.scope["path"] != FORM:
            text = "send JSON, with the header `Content-Type: application/json`"
            return error_response(ValidationError.code, text, 415)
        return None

    def _admitted(self, request: Request) -> bool:
        path = request.scope["path"]  # `request.url` is made from the Host header, too
        if path in OPEN or path.startswith("/static/"):
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.opens_with(given.strip())
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self.session.encode())


def _ask_for_token(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(FORM, status_code=303)
    text = "say the token: `Authorization: Bearer …` with the value of PENSTOCK_SERVE_TOKEN"
    response = error_response("UNAUTHORIZED", text, 401)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def hostname(authority: str) -> str:
    """Return the lower-case name in `name:port`, an IPv6 address without its brackets; "" for what is none."""
    parts = AUTHORITY.fullmatch(authority)
    return parts[1].strip("[]").lower() if parts else ""


def is_address(name: str) -> bool:
    """Return whether a name is an IP address, which no foreign name server can point elsewhere."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Stands before all routes, mounted ones too."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_forbidding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._door.refusal(Request(scope)) or self._app
        await answer(scope, receive, send_forbidding)
