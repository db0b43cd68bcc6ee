"""The two lock files agree, name no address, and lock what the project asks for."""

from __future__ import annotations

import re
import tomllib
from typing import Final

from packaging.requirements import Requirement

from tests.house.sources import read

LINE: Final = re.compile(r"\w[\w.-]*==.* \\|    --hash=sha256:[0-9a-f]{64}(?: \\)?")
PIN: Final = re.compile(r"^(\w[^\\\n]*?) \\$", re.MULTILINE)


def test_both_locks_hold_the_same_versions() -> None:
    """`uv run` obeys the constraints, CI installs the lock: they are the same list, as .ci/lock writes them."""
    constraints = tomllib.loads(read("pyproject.toml"))["tool"]["uv"]["constraint-dependencies"]
    assert PIN.findall(read("requirements.lock")) == constraints


def test_every_locked_version_has_hashes_and_no_address() -> None:
    """A line of the lock is a version or one of its hashes."""
    lines = read("requirements.lock").splitlines()
    assert not [line for line in lines if not LINE.fullmatch(line)]


def test_the_lock_fits_what_the_project_asks_for() -> None:
    """Every dependency of the project is locked at a version that it allows; else `.ci/lock` was forgotten."""
    project = tomllib.loads(read("pyproject.toml"))
    asked = map(Requirement, project["project"]["dependencies"] + project["dependency-groups"]["dev"])
    pins = [Requirement(pin) for pin in PIN.findall(read("requirements.lock"))]
    locked = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    assert not [str(wanted) for wanted in asked if not wanted.specifier.contains(locked.get(wanted.name, "none"))]
