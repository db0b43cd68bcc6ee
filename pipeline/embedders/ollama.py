"""The embedder for an Ollama server: splits what it cannot bear until the passage at fault is alone (R51)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.embedders import Embedded, unheeding
from pipeline.embedders.ollama_server import OllamaServer, Refusal, Why
from pipeline.embedders.outage import Outage
from pipeline.embedders.prompts import prompts_of
from pipeline.errors import EmbedderError, EmbedderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pipeline.embedders import Passage

TRIES: Final = {Why.BROKEN: 5, Why.OVERLOADED: 2, Why.TIMEOUT: 2}
"""How often a single passage fails, while all else goes well, before it is blamed for what may pass."""
DOUBTS: Final = 10
"""How often a single passage may fail while other things fail, too, before the server counts as away."""
KEPT: Final = 1_024
"""How many vectors of calls that an outage cut short wait for the next attempt: no answer is asked for twice."""
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
        self._outage = Outage(self._server.probe)
        self._kept: dict[str, NDArray[np.float32]] = {}

    def embed(self, passages: Sequence[Passage], heed: Callable[[], None] = unheeding) -> Embedded:
        """Embed n passages, in as few requests as the server can bear.

        Raises EmbedderUnavailable, ModelMissing, or DimensionChanged when the model was replaced under its name; what
        `heed` raises, which also closes the connection.
        """
        with self._outage.noted(heed):
            return self._embed([self._prompts.of_passage(passage) for passage in passages], heed)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a search query; shape (dimension,), float32, unit length. Raises as `embed` does, or EmbedderError."""
        answer = self._embed([self._prompts.of_query(query)], unheeding)
        if answer.failed:
            message = f"the query cannot be embedded: {answer.failed[0]}; ask in other words"
            raise EmbedderError(message)
        vector: NDArray[np.float32] = answer.vectors[0]
        return vector

    def _embed(self, texts: list[str], heed: Callable[[], None]) -> Embedded:
        work = Round(self._server, self._pace, texts, heed)
        work.take_up(self._kept)
        try:
            return work.run()
        except EmbedderUnavailable:
            self._kept |= work.answered(KEPT - len(self._kept))
            raise

    def close(self) -> None:
        """Give up what is under way, and close the connections to the server."""
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
    doubts: int = 0

    def split(self, size: int) -> list[Part]:
        """Return parts of at most `size` positions each."""
        count = len(self.positions)
        return [replace(self, positions=self.positions[i : i + size]) for i in range(0, count, size)]


class Round:
    """One call of `embed`: works off parts until every position has a vector or a reason."""

    def __init__(self, server: OllamaServer, pace: Pace, texts: list[str], heed: Callable[[], None]) -> None:
        self._server = server
        self._heed = heed
        self._pace = pace
        self._texts = texts
        self._rows: dict[int, NDArray[np.float32]] = {}
        self._failed: dict[int, str] = {}
        self._truncated: set[int] = set()
        self._parts: list[Part] = []

    def take_up(self, kept: dict[str, NDArray[np.float32]]) -> None:
        """Take the vectors that an earlier attempt got, unless the model has changed since."""
        for position, text in enumerate(self._texts):
            row = kept.pop(text, None)
            if row is not None and len(row) == self._server.dimension:
                self._rows[position] = row

    def answered(self, most: int) -> dict[str, NDArray[np.float32]]:
        """Return at most so many vectors by their texts, those of cut texts aside: they would not be counted again."""
        return {self._texts[i]: self._rows[i] for i in [*self._rows.keys() - self._truncated][: max(0, most)]}

    def run(self) -> Embedded:
        """Embed all texts. Raises when the server is at fault."""
        waiting = [i for i in range(len(self._texts)) if i not in self._rows]
        long = tuple(i for i in waiting if self._pace.too_long(self._texts[i]))
        short = tuple(sorted(set(waiting) - set(long)))
        for position in long:
            self._texts[position] = self._pace.cut(self._texts[position])
        self._parts = [*Part(long, truncate=True).split(self._pace.size), *Part(short).split(self._pace.size)]
        while self._parts:
            self._send(self._parts.pop())
            if self._parts:
                self._heed()
        return Embedded(self._matrix(), self._failed, len(self._truncated))

    def _matrix(self) -> NDArray[np.float32]:
        vectors = np.zeros((len(self._texts), self._server.dimension or 0), np.float32)
        for position, row in self._rows.items():
            vectors[position] = row
        return vectors

    def _send(self, part: Part) -> None:
        """Ask for one part, and store its vectors or see what its failure asks for."""
        answer = self._server.ask([self._texts[i] for i in part.positions], self._heed, truncate=part.truncate)
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
                if part.truncate:
                    self._truncated.add(position)
            else:  # alone, it is asked for again before it is blamed
                self._parts.append(replace(part, positions=(position,), tries=1))
        self._pace.took([] if part.truncate else [self._texts[i] for i in part.positions], len(rows))
        return None

    def _halve(self, part: Part, refusal: Refusal) -> None:
        """Send a request of several passages again in two: one of them is at fault, or they are too many."""
        if refusal.why not in (Why.TOO_LONG, Why.REJECTED):
            self._server.check_health(self._heed)
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
        if refusal.why is Why.REJECTED:
            self._server.check_health(self._heed)
            self._failed[part.positions[0]] = refusal.text
            return
        steady = self._server.is_steady(self._heed)
        part = replace(part, tries=part.tries + steady, doubts=part.doubts + (not steady))
        if part.tries < TRIES[refusal.why] and part.doubts < DOUBTS:
            self._parts.append(part)
        elif steady and refusal.why is not Why.OVERLOADED:
            self._failed[part.positions[0]] = refusal.text
        else:
            raise self._server.given_up(refusal)
