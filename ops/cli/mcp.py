"""`penstock mcp`: the shim for coding agents."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.app import app
from ops.cli.manual import SEARCHING, epilog


@app.command(
    rich_help_panel=SEARCHING,
    epilog=epilog(
        "penstock mcp",
        "penstock mcp --http --port 9000",
        note="A client starts it, as by `claude mcp add penstock -- penstock mcp`; docs/mcp.md has other clients.",
        see="penstock serve, penstock search",
    ),
)
def mcp(
    *,
    http: Annotated[bool, typer.Option("--http", help="Speak streamable HTTP instead of stdio.")] = False,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65_535, help="0 takes a free one.", show_default="8737"),
    ] = None,
) -> None:
    """Serve coding agents by the Model Context Protocol, over stdio until the client leaves, or over HTTP."""
    import sys

    from ops import logs
    from ops.mcp_server import transports, wire
    from ops.settings import Settings
    from pipeline.errors import ValidationError

    if not http and (host is not None or port is not None):
        message = "--host and --port need --http: stdio has no address"
        raise ValidationError(message)
    claimed = None if http else wire.claim_stdio()
    settings = Settings.load()
    logs.configure(settings, sys.stderr)
    if claimed is not None:
        transports.serve_stdio(settings, claimed)
    else:
        from ops.web import serving

        serving.run_mcp(
            settings,
            settings.penstock_serve_host if host is None else host,
            settings.penstock_serve_port if port is None else port,
        )
