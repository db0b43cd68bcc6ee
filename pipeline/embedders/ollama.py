"""The embedder for an Ollama server: splits what it cannot bear until the passage at fault is alone (R51)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.embedders import Embedded
from pipeline.embedders.ollama_server import OllamaServer, Refusal, Why
from pipeline.embedders.prompts import prompts_of
from pipeline.errors import EmbedderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pipeline.embedders import Passage

SINGLE_TRIES: Final = 2
SHORTENED: Final = 0.75
SHORTENINGS: Final = 10


class OllamaEmbedder:
    """Embeds through `/api/embed` of one server; safe to call from several threads.

    `timeout` (seconds) bounds each request; `keep_alive` is how long the server keeps the model loaded, as Ollama
    writes it (`5m`, `-1`, …).
    """

    name: Final = "ollama"

    def __init__(
        self, host: str, model: str, *, batch_size: int = 32, timeout: float = 60.0, keep_alive: str | None = None
    ) -> None:
        self.model: Final = model
        self.batch_size: Final = batch_size
        self._server = OllamaServer(host, model, timeout=timeout, keep_alive=keep_alive)
        self._prompts = prompts_of(model)
        self._pace = Pace(batch_size)

    def embed(self, passages: Sequence[Passage]) -> Embedded:
        """Embed n passages, in as few requests as the server can bear.

        Raises EmbedderUnavailable, ModelMissing, or DimensionChanged when the model was replaced under its name.
        """
        return Round(self._server, self._pace, [self._prompts.of_passage(passage) for passage in passages]).run()

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a search query; shape (dimension,), float32, unit length. Raises as `embed` does, or EmbedderError."""
        answer = Round(self._server, self._pace, [self._prompts.of_query(query)]).run()
        if answer.failed:
            message = f"the query cannot be embedded: {answer.failed[0]}; ask in other words"
            raise EmbedderError(message)
        vector: NDArray[np.float32] = answer.vectors[0]
        return vector

    def close(self) -> None:
        """Close the connections to the server."""
        self._server.close()


class Pace:
    """What a process has learned of its server: how many passages a request may hold, and how long they may be.

    Threads share it without a lock: a lost update costs a request, nothing else.
    """

    def __init__(self, batch_size: int) -> None:
        self._most = batch_size
        self.size = batch_size
        self._longest_taken = 0
        self._shortest_refused: int | None = None
        self._cut: int | None = None

    def took(self, whole: Sequence[str], count: int) -> None:
        """Note that a request of `count` passages passed, `whole` of them uncut: dare one passage more."""
        self.size = min(self._most, max(self.size, count + 1))
        self._longest_taken = max(self._longest_taken, *map(len, whole), 0)

    def failed(self, count: int) -> None:
        """Note that a request of `count` passages was too much: halve."""
        self.size = max(1, min(self.size, count // 2))

    def refused(self, text: str) -> None:
        """Note that a text was longer than the model's context."""
        self._shortest_refused = min(len(text), self._shortest_refused or len(text))

    def too_long(self, text: str) -> bool:
        """Presume that a text is too long: as long as one that was refused, and longer than any that was taken.

        Such texts are cut by the server at the first request; otherwise each would first have to be searched for.
        """
        return self._shortest_refused is not None and len(text) >= max(self._shortest_refused, self._longest_taken + 1)

    def shortened(self, text: str) -> str:
        """Return a shorter beginning of a text that the server did not cut, and note the length."""
        self._cut = int(len(text) * SHORTENED)
        return text[: self._cut]

    def cut(self, text: str) -> str:
        """Return a text as long as the last one that had to be shortened; whole where the server cuts by itself."""
        return text[: self._cut]


@dataclass(frozen=True, slots=True)
class Part:
    """Positions that go into one request; `truncate` lets the server cut them to its context."""

    positions: tuple[int, ...]
    truncate: bool = False
    tries: int = 0

    def split(self, size: int) -> list[Part]:
        """Return parts of at most `size` positions each."""
        count = len(self.positions)
        return [replace(self, positions=self.positions[i : i + size]) for i in range(0, count, size)]


class Round:
    """One call of `embed`: works off parts until every position has a vector or a reason."""

    def __init__(self, server: OllamaServer, pace: Pace, texts: list[str]) -> None:
        self._server = server
        self._pace = pace
        self._texts = texts
        self._rows: dict[int, NDArray[np.float32]] = {}
        self._failed: dict[int, str] = {}
        self._truncated = 0
        self._parts: list[Part] = []

    def run(self) -> Embedded:
        """Embed all texts. Raises when the server is at fault."""
        long = tuple(i for i, text in enumerate(self._texts) if self._pace.too_long(text))
        short = tuple(sorted(set(range(len(self._texts))) - set(long)))
        for position in long:
            self._texts[position] = self._pace.cut(self._texts[position])
        self._parts = [*Part(long, truncate=True).split(self._pace.size), *Part(short).split(self._pace.size)]
        while self._parts:
            self._send(self._parts.pop())
        return Embedded(self._matrix(), self._failed, self._truncated)

    def _matrix(self) -> NDArray[np.float32]:
        vectors = np.zeros((len(self._texts), self._server.dimension or 0), np.float32)
        for position, row in self._rows.items():
            vectors[position] = row
        return vectors

    def _send(self, part: Part) -> None:
        """Ask for one part, and store its vectors or see what its failure asks for."""
        answer = self._server.ask([self._texts[i] for i in part.positions], truncate=part.truncate)
        refusal = answer if isinstance(answer, Refusal) else self._accept(part, answer)
        if refusal is None:
            return
        if len(part.positions) > 1:
            self._halve(part, refusal)
        elif refusal.why is Why.TOO_LONG:
            self._shorten(part, refusal)
        else:
            self._blame(part, refusal)

    def _accept(self, part: Part, rows: list[NDArray[np.float32]]) -> Refusal | None:
        """Store the good vectors at unit length; return a refusal when there is none."""
        if self._server.dimension is None:
            self._server.dimension = Counter(map(len, rows)).most_common(1)[0][0] or None
        faults = [self._server.fault_of(row) for row in rows]
        if None not in faults:
            return Refusal(Why.BROKEN, faults[0] or "")
        for position, row, fault in zip(part.positions, rows, faults, strict=True):
            if fault is None:
                self._rows[position] = row / np.linalg.norm(row)
                self._truncated += part.truncate
            else:
                self._failed[position] = fault
        self._pace.took([] if part.truncate else [self._texts[i] for i in part.positions], len(rows))
        return None

    def _halve(self, part: Part, refusal: Refusal) -> None:
        """Send a request of several passages again in two: one of them is at fault, or they are too many."""
        if refusal.why not in (Why.TOO_LONG, Why.REJECTED):
            self._server.check_health(refusal)
            self._pace.failed(len(part.positions))
        self._parts += part.split((len(part.positions) + 1) // 2)

    def _shorten(self, part: Part, refusal: Refusal) -> None:
        """Send a passage that is too long again: cut by the server, and by us where several releases ignore that."""
        (position,) = part.positions
        if part.tries > SHORTENINGS:
            self._failed[position] = refusal.text
            return
        text = self._texts[position]
        if part.truncate:
            self._texts[position] = self._pace.shortened(text)
        else:
            self._pace.refused(text)
        self._parts.append(replace(part, truncate=True, tries=part.tries + 1))

    def _blame(self, part: Part, refusal: Refusal) -> None:
        """Fail a passage that a healthy server cannot embed; what may pass the next time is tried again first."""
        self._server.check_health(refusal)
        if refusal.why is not Why.REJECTED and part.tries + 1 < SINGLE_TRIES:
            self._parts.append(replace(part, tries=part.tries + 1))
        elif refusal.why is Why.OVERLOADED:
            raise self._server.given_up(refusal)
        else:
            self._failed[part.positions[0]] = refusal.text
