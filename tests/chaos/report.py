"""What a run says: a JSON line for each thing that happens, and the summary at its end."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LAST_FAULTS: Final = 8


@dataclass
class Report:
    """Says things, counts them, and remembers the last faults for whoever wants to repeat a violation."""

    seed: int
    turn: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, object]] = field(default_factory=list)
    _last: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=LAST_FAULTS))
    _began: float = field(default_factory=time.monotonic)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def say(self, event: str, **facts: object) -> dict[str, object]:
        """Print a line, and return it."""
        line: dict[str, object] = {
            "at": round(time.monotonic() - self._began, 2),
            "event": event,
            "round": self.turn,
            **facts,
        }
        with self._guard:
            sys.stdout.write(json.dumps(line, default=str) + "\n")
            sys.stdout.flush()
        return line

    def struck(self, name: str, number: int, facts: dict[str, object]) -> None:
        """Note a fault that took place."""
        self.faults[name] += 1
        self._last.append(self.say("fault", kind=name, number=number, **facts))

    def spared(self, name: str, number: int, why: object) -> None:
        """Note a fault that found nothing to break."""
        self.missed[name] += 1
        self.say("fault missed", kind=name, number=number, why=why)

    def violate(self, text: str) -> None:
        """Note a broken rule, with all that is needed to see it again; once, however often it is seen."""
        if any(known["violation"] == text for known in self.violations):
            return
        facts = {"seed": self.seed, "violation": text, "last_faults": list(self._last)}
        self.violations.append(self.say("violation", **facts))

    def violate_all(self, texts: Iterable[str]) -> None:
        """Note several."""
        for text in texts:
            self.violate(text)
