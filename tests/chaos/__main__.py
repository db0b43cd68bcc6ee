"""The program: reads the command line, sees that everything is cleared at the end, and exits with 1 for a violation."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.chaos.injector import left_out
from tests.chaos.janitor import cleared
from tests.chaos.kinds import KINDS, named
from tests.chaos.report import Report
from tests.chaos.run import Run, users
from tests.chaos.waiting import end_by_signals
from tests.chaos.world import world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.kinds import Kind

INTERRUPTED: Final = 130


def main() -> int:
    """Run for as long as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break things while jobs run, and judge."
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long faults are brought about")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn depends on it alone")
    parser.add_argument("--faults", help=f"only these, separated by commas: {', '.join(kind.name for kind in KINDS)}")
    parser.add_argument("--keep", action="store_true", help="keep the logs and the database's files, and say where")
    options = parser.parse_args()
    try:
        kinds = named(options.faults)
    except LookupError as error:
        parser.error(str(error))
    end_by_signals()
    try:
        return _break_things(options, kinds)
    except KeyboardInterrupt:
        return INTERRUPTED


def _break_things(options: argparse.Namespace, kinds: Sequence[Kind]) -> int:
    """Run in a folder that is cleared at the end; returns the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-chaos-"))
    folder.chmod(0o755)  # the server of root runs under another account
    report = Report(options.seed)
    with cleared(folder, keep=options.keep), world(folder) as made:
        run = Run(made, report, kinds, left_out(made, kinds), users(made))
        run.go(options.seconds)
        summary = run.summary()
    report.say("summary", **summary, **({"kept": folder} if options.keep else {}))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
