"""One Ollama server as the embedder sees it: single requests, and what each way of failing means."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import httpx
import numpy as np
import ollama

from pipeline.embedders.loop_thread import LoopThread
from pipeline.embedders.ollama_clients import Clients
from pipeline.embedders.transport import has_vanished, root_of
from pipeline.errors import DimensionChanged, EmbedderUnavailable, ModelMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Rows = list[NDArray[np.float32]]

WITNESS: Final = "ready"
WITNESS_PAUSES: Final = (0.0, 0.05, 0.2)
PROBE_SECONDS: Final = 4.0
PASSAGE_STATUSES: Final = frozenset({400, 413, 422})
OVERLOAD_STATUSES: Final = frozenset({429, 503})
SERVER_STATUSES: Final = 500
TOO_LONG_WORDS: Final = ("context length", "context size", "too large to process")
MEMORY_WORDS: Final = ("system memory", "out of memory", "cudamalloc failed")
REASON_LENGTH: Final = 200
CREDENTIALS: Final = re.compile(r"//[^/]*@")


class Why(Enum):
    """What a request that was not answered means."""

    TOO_LONG = auto()
    """A passage has more tokens than the model's context."""
    REJECTED = auto()
    """The same request will always be refused: a passage in it is at fault."""
    OVERLOADED = auto()
    """The server has too much to do; no passage is at fault."""
    TIMEOUT = auto()
    BROKEN = auto()
    """A fault of the server, or of a passage that it cannot digest."""


HOPELESS: Final = frozenset({Why.TIMEOUT, Why.REJECTED})
"""What a server that refuses a harmless text for it need not be asked again at once."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not answered, and the server's words for it."""

    why: Why
    text: str


class OllamaServer:
    """A server and one of its models; remembers the dimension of the first answer and holds every later one to it.

    `heed` is called several times a second while an answer is awaited; what it raises gives the request up.
    """

    def __init__(self, host: str, model: str, *, timeout: float, keep_alive: str | None) -> None:
        self.host: Final = CREDENTIALS.sub("//", host)  # as it is told: errors go to logs and to users
        self.model: Final = model
        self.dimension: int | None = None
        self._timeout = timeout
        self._keep_alive = duration(keep_alive)
        self._clients = Clients(host, timeout)
        self._loop = LoopThread(self._clients.close)

    def close(self) -> None:
        """Give up what is under way, and close the connections."""
        self._loop.close()

    def ask(self, texts: Sequence[str], heed: Callable[[], None], *, truncate: bool) -> Rows | Refusal:
        """Send one request of n texts; return n vectors as the server gave them, or why it gave none.

        Raises EmbedderUnavailable when no server is there, ModelMissing when it lacks the model; what `heed` raises.
        """
        return self._loop.run(self._ask(texts, truncate=truncate), heed)

    async def _ask(self, texts: Sequence[str], *, truncate: bool) -> Rows | Refusal:
        try:
            async with self._clients.one() as client:
                answer = await client.embed(self.model, texts, truncate=truncate, keep_alive=self._keep_alive)
            rows = [np.asarray(row, np.float32) for row in answer.embeddings]
        except ollama.ResponseError as error:
            return self._refusal(error.status_code, brief(error.error))
        except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise self._away("cannot be reached") from error
        except (TimeoutError, httpx.TimeoutException):
            return Refusal(Why.TIMEOUT, f"no answer within {self._timeout:g} s")
        except httpx.HTTPError as error:
            if has_vanished(error):
                raise self._away("has gone silent: its machine, or the network, is down") from error
            return Refusal(Why.BROKEN, f"the connection broke off: {brief(root_of(error))}")
        except (ValueError, TypeError, AttributeError):  # what the client makes of an answer that is not Ollama's JSON
            return Refusal(Why.BROKEN, "the answer is not what Ollama answers")
        if len(rows) != len(texts):
            return Refusal(Why.BROKEN, f"{len(rows)} vectors for {len(texts)} passages")
        return rows

    def _refusal(self, status: int, text: str) -> Refusal:
        """Return what an error status means. Raises when it concerns every request."""
        if any(words in text.lower() for words in TOO_LONG_WORDS):
            return Refusal(Why.TOO_LONG, text)
        if status in PASSAGE_STATUSES:
            return Refusal(Why.REJECTED, text)
        if status in OVERLOAD_STATUSES:
            return Refusal(Why.OVERLOADED, text)
        if status >= SERVER_STATUSES:
            return Refusal(Why.BROKEN, text)
        if status == 404 and "model" in text:  # noqa: PLR2004 - as every reader knows it
            message = (
                f"the embedding server at {self.host} has no model {self.model}; run `ollama pull {self.model}` there"
            )
            raise ModelMissing(message)
        raise self._away(f"refuses every request ({status}: {text})")

    def check_health(self, heed: Callable[[], None]) -> None:
        """Return when the server embeds a harmless text: then it was the request that was at fault, not the server.

        Raises EmbedderUnavailable with the reason, or DimensionChanged, when the server is at fault.
        """
        self._witness(heed, enough=1)

    def is_steady(self, heed: Callable[[], None]) -> bool:
        """Return whether the server embeds a harmless text every time of several; raises when it never does, as above.

        A server that fails at times is no witness against a passage.
        """
        return self._witness(heed, enough=len(WITNESS_PAUSES))

    def _witness(self, heed: Callable[[], None], enough: int) -> bool:
        """Ask for a harmless text until `enough` answers were right, or more are hopeless; return whether all were."""
        right, last = 0, None
        for pause in WITNESS_PAUSES:
            time.sleep(pause)
            heed()
            fault = self._fault_in(self.ask([WITNESS], heed, truncate=True))
            right, last = right + (fault is None), fault or last
            if right == enough or (fault is not None and fault.why in HOPELESS):
                break
        if last is not None and not right:
            raise self.given_up(last)
        return last is None

    def probe(self, heed: Callable[[], None]) -> None:
        """Return when a server that was away embeds a harmless text again. Raises as `check_health` does.

        It is asked anew every few seconds while it does not answer, so that a request that hangs hides no recovery. The
        older requests stay: giving them up would make the server stop loading its model.
        """
        fault = self._fault_in(self._loop.run(self._first_answer(), heed))
        if fault is not None:
            raise self.given_up(fault)

    async def _first_answer(self) -> Rows | Refusal:
        asked: list[asyncio.Task[Rows | Refusal]] = []
        try:
            while True:
                asked.append(asyncio.create_task(self._ask([WITNESS], truncate=True)))
                done, _ = await asyncio.wait(asked, timeout=PROBE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return done.pop().result()
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _fault_in(self, answer: Rows | Refusal) -> Refusal | None:
        """Return what is wrong with the answer to a harmless text. Raises DimensionChanged."""
        if isinstance(answer, Refusal):
            return answer
        self._check_dimension(answer[0])
        fault = self.fault_of(answer[0])
        return None if fault is None else Refusal(Why.BROKEN, fault)

    def _check_dimension(self, row: NDArray[np.float32]) -> None:
        """Raise DimensionChanged when a harmless text has another dimension than before."""
        if self.dimension not in (None, len(row)):
            message = (
                f"model {self.model} at {self.host} answers with {len(row)} dimensions after {self.dimension}: it was"
                " replaced under its name; submit the repository again to embed it anew"
            )
            self.dimension = None
            raise DimensionChanged(message, len(row))

    def fault_of(self, row: NDArray[np.float32]) -> str | None:
        """Return what is wrong with a vector, or None."""
        if not row.any():
            return "its vector is empty or zero"
        if not np.isfinite(row).all():
            return "its vector holds NaN or infinity"
        if self.dimension not in (None, len(row)):
            return f"its vector has {len(row)} dimensions, not {self.dimension}"
        return None

    def given_up(self, refusal: Refusal) -> EmbedderUnavailable:
        """Return the error for a fault of the server."""
        return self._away(f"does not embed ({refusal.text})")

    def _away(self, what: str) -> EmbedderUnavailable:
        advice = (
            "free memory there or choose a smaller model" if is_memory(what) else "see that `ollama serve` runs there"
        )
        return EmbedderUnavailable(f"the embedding server at {self.host} {what}; {advice}, or set OLLAMA_HOST")


def is_memory(text: str) -> bool:
    """Return whether the server's words speak of too little memory."""
    return any(words in text.lower() for words in MEMORY_WORDS)


def duration(text: str | None) -> float | str | None:
    """Return a keep-alive as the API wants it: seconds without a unit must be a number there (`-1` = for ever)."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


def brief(text: object) -> str:
    """Return an error text of any server on one line, cut to a readable length."""
    return " ".join(str(text).split())[:REASON_LENGTH] or "no reason given"
