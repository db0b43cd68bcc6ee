"""Whoever asks the chaos suite to end is heard, whatever was going on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Final

import pytest

from tests.house.sources import ROOT

PROGRAM: Final = """
import time
from tests.chaos.waiting import end_by_signals, soon
end_by_signals()
print("ready", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    pass  # as a library does, or a callback of the garbage collector
soon(lambda: False, 60)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_was_swallowed_still_ends_the_program(how: signal.Signals) -> None:
    """The next wait raises it again."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    assert time.monotonic() - began < 15
    assert b"KeyboardInterrupt" in said
