"""`penstock workers`, `worker`, `up` and `down`: who works, and how to have it so."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.app import app
from ops.cli.exits import Exit
from ops.cli.manual import OPERATING, epilog
from ops.cli.options import AsJson
from pipeline.states import Stage


@app.command(
    "workers", rich_help_panel=OPERATING, epilog=epilog("penstock workers", see="penstock worker, penstock doctor")
)
def list_workers(*, as_json: AsJson = False) -> None:
    """List the worker processes that are online."""
    from ops.cli.desk import opened
    from ops.cli.output import ago, emit, say
    from ops.cli.reports import table
    from ops.records import Workers
    from pipeline import jobs

    with opened() as desk:
        found = jobs.online(desk.engine)
    if as_json:
        emit(Workers(workers=found))
        return
    if not found:
        say("no worker is online; `penstock up` starts local ones, `penstock index` does so by itself")
        return
    rows = [
        (
            str(worker.pid),
            "+".join(worker.stages),
            f"{worker.busy} of {worker.threads}",
            ago(worker.started_at),
            ago(worker.seen_at),
            worker.host,
        )
        for worker in found
    ]
    table(("pid", "stages", "busy", "started", "seen", "host"), rows)


@app.command(
    rich_help_panel=OPERATING,
    epilog=epilog(
        "penstock worker --stage chunk --processes 2 --threads 1",
        "penstock worker --stage scan --stage chunk --stage embed --stage write",
        see="penstock workers, penstock up",
        note="The Procfile has a line a stage; docs/operating.md says what restarts what.",
    ),
)
def worker(
    *,
    stage: Annotated[list[Stage], typer.Option("--stage", help="What to work on; may be repeated.")],
    processes: Annotated[int, typer.Option("--processes", metavar="N", min=1, help="How many processes.")] = 1,
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads in each process.")] = 1,
) -> None:
    """Run worker processes in the foreground until they are asked to end (SIGTERM, Ctrl-C)."""
    from ops import worker as group
    from ops.settings import Settings

    raise typer.Exit(group.run(Settings.load(), tuple(stage), processes, threads))


@app.command(
    rich_help_panel=OPERATING,
    epilog=epilog(
        "penstock up", "penstock up --foreground", exits=(Exit.INTERNAL,), see="penstock down, penstock worker"
    ),
)
def up(
    *,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and show what they log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the embedded server and the local workers, which leave by themselves when nothing is to be done."""
    from ops import supervisor
    from ops.cli.output import emit, say
    from ops.database import open_database
    from ops.records import Local
    from ops.settings import Settings
    from pipeline.errors import ValidationError

    settings = Settings.load()
    if foreground:
        raise typer.Exit(supervisor.run(settings))
    if settings.database_url is not None:
        message = "DATABASE_URL is set, so workers are yours to start: `penstock worker --help`, or `up --foreground`"
        raise ValidationError(message)
    open_database(settings)
    changed = not supervisor.running(settings)
    supervisor.ensure(settings)
    if as_json:
        emit(Local(workers=True, server=True, changed=changed))
    else:
        say("the local workers are up" if changed else "the local workers were up already")


@app.command(
    rich_help_panel=OPERATING, epilog=epilog("penstock down", exits=(Exit.INTERNAL,), see="penstock up, penstock pause")
)
def down(*, as_json: AsJson = False) -> None:
    """Stop the local workers and the embedded server; jobs go on when they are started again."""
    from ops import postgres, supervisor
    from ops.cli.output import emit, say
    from ops.records import Local
    from ops.settings import Settings

    settings = Settings.load()
    stopped = supervisor.stop(settings)
    server = settings.database_url is None and postgres.stop(settings.penstock_home)
    if as_json:
        emit(Local(workers=False, server=False, changed=stopped or server))
    else:
        say("stopped" if stopped or server else "nothing was running")
