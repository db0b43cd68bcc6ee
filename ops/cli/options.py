"""The options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli import completing

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The job's id, at least six of its first characters, or `last`.",
        autocompletion=completing.job_ids,
    ),
]
Project = Annotated[
    str,
    typer.Option(
        "--project",
        metavar="NAME",
        help="The project the repository belongs to.",
        autocompletion=completing.projects,
    ),
]
AnyProject = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="NAME",
        help="Only this project.",
        show_default="all",
        autocompletion=completing.projects,
    ),
]
Offset = Annotated[int, typer.Option("--offset", metavar="N", help="How many to pass over.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Background = Annotated[bool, typer.Option("--background", "-b", help="Return at once; the work goes on without you.")]
