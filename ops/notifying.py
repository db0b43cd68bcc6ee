"""The services outside that are notified, by their apprise URLs: secrets, which no log, table or message ever holds."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from pipeline.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pydantic import SecretStr

DESKTOP: Final = "desktop"
DESKTOPS: Final = ("dbus", "gnome", "macosx", "windows")
"""What `desktop` stands for: the first of these that works on this machine, else the program `notify-send`."""
QUIET: Final = ("apprise", "requests", "urllib3")
"""Loggers that quote URLs, or parts of them."""
LEAST_SECRET: Final = 4
"""Shorter parts of a URL are words that any text may hold."""
TONES: Final = {"completed": "success", "blocked": "warning", "cancelled": "warning", "failed": "failure"}
POPUP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service outside: its kind and its place in PENSTOCK_NOTIFY_URLS name it, a digest stands for it.

    `send` takes a title, a body and the kind of event, and returns the reason when that failed.
    """

    kind: str
    position: int
    digest: str
    personal: bool
    send: Callable[[str, str, str], str | None]


def services(urls: tuple[SecretStr, ...]) -> tuple[Service, ...]:
    """Return the services of these URLs. Raises ValidationError for one that cannot be used: which one, and why.

    The library is imported only when there is one. Workers do so before they fork: whichever of them leads can notify
    at once, and they share its 40 MB.
    """
    return tuple(_service(position, url.get_secret_value()) for position, url in enumerate(urls, 1))


def _service(position: int, url: str) -> Service:
    kind = url.partition("://")[0].lower()
    try:
        send = _desktop() if kind == DESKTOP else _plugin(kind, url)
    except ValueError as error:
        message = f"PENSTOCK_NOTIFY_URLS: entry {position} ({kind}) cannot be used: {error}"
        raise ValidationError(message) from None
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Service(kind, position, digest, kind in {DESKTOP, *DESKTOPS}, send)


def _library() -> ModuleType:
    """Import the library with all its plugins, and keep its loggers from quoting URLs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its plugins import what is deprecated
        import apprise  # noqa: PLC0415 - only where somebody is notified

        apprise.NotificationManager().load_modules()  # type: ignore[no-untyped-call]  # apprise's
    for name in QUIET:
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    return apprise


def _plugin(kind: str, url: str) -> Callable[[str, str, str], str | None]:
    """Return what sends to a URL. Raises ValueError for one that the library does not take."""
    apprise = _library()
    known = apprise.NotificationManager()
    if kind not in known:
        message = f"there is no such kind of service; {apprise.AppriseAsset.app_url} lists them"
        raise ValueError(message)
    if not known[kind].enabled:
        message = "what it needs is not installed on this machine"
        raise ValueError(message)
    asset = apprise.AppriseAsset(service_timeout=0, allow_templates=False, app_id="Penstock", app_desc="Penstock")
    try:
        plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=False)
    except Exception as error:  # noqa: BLE001 - each plugin has its own
        raise ValueError(scrubbed(str(error), url)) from None
    if plugin is None:
        message = f"it is no complete {kind}:// URL; see {known[kind].setup_url}"
        raise ValueError(message)
    client = apprise.Apprise([plugin], asset=asset)

    def send(title: str, body: str, event: str) -> str | None:
        result = client.notify(body, title, notify_type=TONES.get(event, "info"), body_format="text")
        if result:
            return None
        told = [entry.message for service in result for attempt in service for entry in attempt]
        return scrubbed("; ".join(told) or "the service did not say why", url)

    return send


def scrubbed(text: str, url: str) -> str:
    """Return a text without any part of a URL but its scheme."""
    _, _, rest = url.partition("://")
    parts = {part for form in (rest, unquote(rest)) for part in re.split(r"[/:@?&=#+,]+", form)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= LEAST_SECRET:
            text = text.replace(part, "…")
    return text


def _desktop() -> Callable[[str, str, str], str | None]:
    """Return what shows a notification on this machine's desktop. Raises ValueError when nothing can."""
    known = _library().NotificationManager()
    for kind in DESKTOPS:
        if known[kind].enabled:
            return _plugin(kind, f"{kind}://")
    program = shutil.which("notify-send")
    if program is None:
        message = "nothing here can show one; install notify-send (the package libnotify-bin or libnotify)"
        raise ValueError(message)

    def send(title: str, body: str, event: str) -> str | None:
        urgency = "critical" if TONES.get(event) == "failure" else "normal"
        shown = subprocess.run(  # noqa: S603 - no shell; after `--` nothing is an option
            [program, "--app-name=Penstock", f"--urgency={urgency}", "--", title, escape(body, quote=False)],
            capture_output=True,
            text=True,
            timeout=POPUP_SECONDS,
            check=False,
        )
        return None if shown.returncode == 0 else f"notify-send: {shown.stderr.strip()}"

    return send
