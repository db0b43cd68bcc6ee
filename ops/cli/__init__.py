"""The command line: a module a noun; `main` is the console script `penstock`."""

from __future__ import annotations

from ops.cli.app import app, db

# In the order of the help; a command imports what it needs when it runs, so that the help costs nothing.
from ops.cli import index, search, jobs, repositories, workers, serve, mcp, migrations, health  # isort: skip

__all__ = ["app", "health", "index", "jobs", "main", "mcp", "migrations", "repositories", "search", "serve", "workers"]

app.add_typer(db, name="db")


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="penstock")
