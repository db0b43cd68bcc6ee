"""`penstock doctor` and `metrics`: what is wrong and what to do about it, and what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from ops.cli.app import app
from ops.cli.exits import Exit
from ops.cli.manual import OPERATING, epilog
from ops.cli.options import AsJson

if TYPE_CHECKING:
    from ops.doctor import Diagnosis

MARKS: Final = {"ok": "ok  ", "warning": "warn", "failed": "FAIL"}


@app.command(
    rich_help_panel=OPERATING,
    epilog=epilog(
        "penstock doctor", "penstock doctor --json", exits=(Exit.INTERNAL,), see="penstock workers, penstock jobs"
    ),
)
def doctor(*, as_json: AsJson = False) -> None:
    """Look for the faults that are most likely, and say what to do about each; exits 1 when there is one."""
    from ops.cli.output import emit
    from ops.doctor import examine
    from ops.settings import Settings

    diagnosis = examine(Settings.load())
    if as_json:
        emit(diagnosis)
    else:
        _print_diagnosis(diagnosis)
    raise typer.Exit(Exit.OK if diagnosis.healthy else Exit.INTERNAL)


def _print_diagnosis(diagnosis: Diagnosis) -> None:
    from ops.cli.output import say

    for finding in diagnosis.findings:
        say(f"{MARKS[finding.verdict]}  {finding.check:<13} {finding.text}")
        if finding.advice:
            say(f"      {'':<13} {finding.advice}")


@app.command(
    rich_help_panel=OPERATING,
    epilog=epilog(
        "penstock metrics",
        "penstock metrics --json",
        note="Prometheus scrapes the same from /metrics of `penstock serve`; docs/metrics.md explains each.",
        see="penstock doctor, penstock serve",
    ),
)
def metrics(*, as_json: AsJson = False) -> None:
    """Print the metrics of all worker processes, in Prometheus's text format."""
    from ops.cli.desk import opened
    from ops.cli.output import emit, say
    from ops.metrics import exposition, samples

    with opened() as desk:
        if as_json:
            emit(samples(desk.engine))
        else:
            say(exposition(desk.engine).decode().rstrip())
