"""`penstock notify test`: whether a notification arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ops.cli.app import notify
from ops.cli.exits import Exit
from ops.cli.manual import epilog
from ops.cli.options import AsJson

if TYPE_CHECKING:
    from ops.notifying import Service
    from ops.records import Notified


@notify.command(
    "test",
    epilog=epilog(
        "penstock notify test",
        exits=(Exit.INTERNAL,),
        see="penstock doctor",
        note="docs/notifications.md says what a service is, and what it is told.",
    ),
)
def send_test(*, as_json: AsJson = False) -> None:
    """Send a test notification to each service of PENSTOCK_NOTIFY_URLS; exits 1 when one of them did not take it."""
    from ops.cli.output import emit, say
    from ops.notifying import services
    from ops.records import NotifyTest
    from ops.settings import Settings
    from pipeline.errors import ValidationError

    found = services(Settings.load().penstock_notify_urls)
    if not found:
        message = "PENSTOCK_NOTIFY_URLS names no service; `desktop` or json://host/path would be one"
        raise ValidationError(message)
    told = tuple(map(_notified, found))
    if as_json:
        emit(NotifyTest(services=told))
    for each in () if as_json else told:
        say(f"{each.entry}  {each.service:<10} {'sent' if each.sent else f'failed: {each.reason}'}")
    raise typer.Exit(Exit.OK if all(each.sent for each in told) else Exit.INTERNAL)


def _notified(service: Service) -> Notified:
    from actors.notifier import Call
    from ops.records import Notified

    body = "This is a test: notifications of indexing jobs will arrive here."
    reason = Call(service, "Penstock: a test", body, "submitted").outcome()
    return Notified(entry=service.position, service=service.kind, sent=reason is None, reason=reason)
