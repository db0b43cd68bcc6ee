"""What the help of every command ends with: examples that work, what the exit code means, and what to read next."""

from __future__ import annotations

from typing import Final

from ops.cli.exits import Exit

INDEXING: Final = "Indexing"
SEARCHING: Final = "Searching"
OPERATING: Final = "Operating"
"""The parts of the overview, and of docs/cli.md."""

MEANINGS: Final = {
    Exit.OK: "done",
    Exit.INTERNAL: "a fault",
    Exit.VALIDATION: "refused input",
    Exit.NOT_FOUND: "not found",
    Exit.INVALID_STATUS: "the job's state does not allow it",
    Exit.DATABASE: "no database",
    Exit.EMBEDDER: "no embedder",
    Exit.JOB_FAILED: "the job failed",
    Exit.JOB_CANCELLED: "the job was cancelled",
    Exit.INTERRUPTED: "interrupted",
}
FOLLOWING: Final = (Exit.JOB_FAILED, Exit.JOB_CANCELLED, Exit.INTERRUPTED)
"""How following a job may end, beside well."""


def epilog(*examples: str, exits: tuple[Exit, ...] = (), see: str = "", note: str = "") -> str:
    """Return the end of a help text; each example is a command line, `see` names other commands."""
    codes = sorted({Exit.OK, Exit.VALIDATION, Exit.DATABASE, *exits})
    parts = (
        note,
        "Examples:\n" + "\n".join(f"  {example}" for example in examples),
        "Exit codes: " + ", ".join(f"{code:d} {MEANINGS[code]}" for code in codes),
        f"See also: {see}" if see else "",
    )
    return "\n\n".join(filter(None, parts))
