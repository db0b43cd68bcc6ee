"""The command line: a module a noun; `main` is the console script `penstock`."""

from __future__ import annotations

from ops.cli.app import app, db, notify
from ops.cli.manual import OPERATING

# In the order of the help; a command imports what it needs when it runs, so that the help costs nothing.
from ops.cli import index, search, jobs, repositories, workers  # isort: skip
from ops.cli import mcp, serve, migrations, health, notifications  # isort: skip

__all__ = [
    "app",
    "health",
    "index",
    "jobs",
    "main",
    "mcp",
    "migrations",
    "notifications",
    "repositories",
    "search",
    "serve",
    "workers",
]

app.add_typer(db, name="db", rich_help_panel=OPERATING)
app.add_typer(notify, name="notify", rich_help_panel=OPERATING)


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="penstock")
