"""`python -P -m ops.cli`: the command line for our own child processes, where `penstock` may not be on the path."""

from __future__ import annotations

from ops.cli import main

main()
