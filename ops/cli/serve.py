"""`penstock serve`: the live page."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.app import app
from ops.cli.manual import OPERATING, epilog


@app.command(
    rich_help_panel=OPERATING,
    epilog=epilog("penstock serve --open", "penstock serve --port 9000", see="penstock mcp, penstock metrics"),
)
def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help="Where to listen.", show_default="PENSTOCK_SERVE_HOST"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="The port; 0: any free.", show_default="PENSTOCK_SERVE_PORT"
        ),
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the live page: jobs as they move, and a search box."""
    from ops.settings import Settings
    from ops.web import serving

    settings = Settings.load()
    host = settings.penstock_serve_host if host is None else host
    port = settings.penstock_serve_port if port is None else port
    serving.run(settings, host, port, opens_browser=opens)
