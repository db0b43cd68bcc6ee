"""Runs git, with everything switched off by which a repository could run code or fetch what nobody asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

TIME_LIMIT: Final = 300.0
HARDENED: Final = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.quotePath=false"),
    *("-c", "safe.directory=*"),
    *("-c", "safe.bareRepository=all"),
)
KEPT_VARIABLES: Final = frozenset(
    {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_DISCOVERY_ACROSS_FILESYSTEM"}
)


def command(*arguments: str | bytes) -> list[str | bytes] | None:
    """Return the command line of a hardened git; None where git is not installed."""
    git = shutil.which("git")
    return None if git is None else [git, *HARDENED, *arguments]


def run(
    folder: str | bytes, *arguments: str | bytes, ceiling: bytes | None = None
) -> subprocess.CompletedProcess[bytes] | None:
    """Run git in `folder`; None when there is no git or it answers with an error."""
    line = command(*arguments)
    if line is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - no shell, fixed arguments
            line, cwd=folder, env=environment(ceiling), capture_output=True, check=False, timeout=TIME_LIMIT
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done if done.returncode == 0 else None


def environment(ceiling: bytes | None = None, protocols: str = "none") -> dict[str, str]:
    """Return git's environment: nothing of another repository's, no question asked, only these protocols spoken.

    `ceiling` is a folder above which git looks for no repository; `protocols` are separated by colons.
    """
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in KEPT_VARIABLES
    }
    if ceiling is not None:
        variables["GIT_CEILING_DIRECTORIES"] = os.fsdecode(ceiling)
    return variables | {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": protocols,  # "none": nothing is ever fetched, also not what a partial clone lacks
    }
