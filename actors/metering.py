"""What a worker process counts: its heartbeat tells the database, so that one scrape shows all processes."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from pipeline.embedders import unheeding
from pipeline.errors import JobStopped
from pipeline.records import Outcome
from pipeline.stages.embed import EmbedReport
from pipeline.stages.scan import ScanReport
from pipeline.stages.write import WriteReport
from pipeline.states import Stage
from pipeline.store.counts import WORKER_DEATHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pipeline.embedders import Embedded, Embedder, Passage
    from pipeline.stages.mend import Mended

REMOVED: Final = "removed"
FAILED_FILE: Final = "failed_file"


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter by its Prometheus name (without `_total`), or a histogram when it has `bounds`.

    It has one label at most, with few values for ever: never an id, a path or an error's text. `values` are those that
    are shown as 0 before anything was counted.
    """

    name: str
    text: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    bounds: tuple[float, ...] = ()


STAGE_SECONDS: Final = Metric(
    "penstock_stage_duration_seconds",
    "Time that a stage took for a batch (the scan: for a job), of those that it completed.",
    "stage",
    tuple(Stage),
    (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800),
)
EMBED_SECONDS: Final = Metric(
    "penstock_embed_request_duration_seconds",
    "Time until the embedder answered a request.",
    bounds=(0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
EMBED_REQUESTS: Final = Metric(
    "penstock_embed_requests",
    "Requests to the embedder; given_up are those whose job was paused, cancelled or ended meanwhile.",
    "outcome",
    ("answered", "failed", "given_up"),
)
PASSAGES: Final = Metric(
    "penstock_passages", "Passages of batches that were embedded, or found embedded.", "outcome", ("embedded", "reused")
)
TRUNCATED: Final = Metric("penstock_passages_truncated", "Passages that were cut to what the model takes.")
FILES: Final = Metric("penstock_files", "Files by what became of them in a job.", "outcome", (*Outcome, REMOVED))
INDEXED_BYTES: Final = Metric("penstock_indexed_bytes", "Size of the files that were indexed.")
CHUNKS: Final = Metric("penstock_chunks_written", "Chunks that were written to the index.")
MENDED: Final = Metric(
    "penstock_batches_mended",
    "Messages whose stage could not complete, by what was done: `again` is a retry, `dropped` came too late.",
    "action",
    ("again", "back_to_chunk", "blocked", "dropped", FAILED_FILE, "failed_job", "split"),
)
LEASES_LOST: Final = Metric("penstock_leases_lost", "Messages that another worker had taken over before the end.")
DEATHS: Final = Metric(WORKER_DEATHS, "Worker processes that ended without signing off: killed, crashed, or cut off.")
JOB_EVENTS: Final = Metric(
    "penstock_job_events",
    "Events in the life of jobs.",
    "event",
    ("submitted", "started", "completed", "failed", "cancelled", "paused", "resumed", "blocked", "unblocked"),
)
NOTIFICATIONS: Final = Metric(
    "penstock_notifications", "Attempts to notify a service outside.", "outcome", ("sent", "failed")
)
METRICS: Final = (
    STAGE_SECONDS,
    EMBED_SECONDS,
    EMBED_REQUESTS,
    PASSAGES,
    TRUNCATED,
    FILES,
    INDEXED_BYTES,
    CHUNKS,
    MENDED,
    LEASES_LOST,
    DEATHS,
    JOB_EVENTS,
    NOTIFICATIONS,
)


class Meter:
    """Counts, from any thread; what it holds goes to the database as names with values.

    A name is the metric's, a slash and the label's value; of a histogram another slash and the bucket's upper bound, or
    `sum`.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._told: dict[str, float] = {}

    def add(self, metric: Metric, amount: float = 1, label: str = "") -> None:
        """Count one, or so many."""
        if amount:
            with self._lock:
                self._counts[f"{metric.name}/{label}"] += amount  # type: ignore[assignment]

    def observe(self, metric: Metric, seconds: float, label: str = "") -> None:
        """Count into the bucket of a histogram."""
        bound = next((bound for bound in metric.bounds if seconds <= bound), math.inf)
        with self._lock:
            self._counts[f"{metric.name}/{label}/{bound:g}"] += 1
            self._counts[f"{metric.name}/{label}/sum"] += seconds  # type: ignore[assignment]

    # --- what the heartbeat asks ---

    def news(self) -> dict[str, float] | None:
        """Return all counts, None when the database has them already."""
        with self._lock:
            return dict(self._counts) if self._counts != self._told else None

    def told(self, counts: Mapping[str, float] | None) -> None:
        """Note what the database has."""
        if counts is not None:
            self._told = dict(counts)

    def start_over(self) -> None:
        """Forget what the database has: it was kept when this process was struck from the list of workers."""
        with self._lock:
            for name, value in self._told.items():
                self._counts[name] -= value  # type: ignore[assignment]
            self._told = {}

    # --- what is said of a message ---

    def count_report(self, stage: Stage, report: object) -> None:
        """Count what a stage reports of a message that it completed."""
        if isinstance(report, Timed):
            self.observe(STAGE_SECONDS, report.seconds, stage)
        if isinstance(report, ScanReport):
            self.add(FILES, report.files_unchanged, Outcome.UNCHANGED)
            self.add(FILES, report.files_skipped, Outcome.SKIPPED)
            self.add(FILES, report.files_removed, REMOVED)
        elif isinstance(report, EmbedReport):
            self.add(PASSAGES, report.embedded, "embedded")
            self.add(PASSAGES, report.reused, "reused")
            self.add(TRUNCATED, report.truncated)
        elif isinstance(report, WriteReport):
            for outcome in Outcome:
                self.add(FILES, getattr(report, outcome), outcome)
            self.add(INDEXED_BYTES, report.bytes)
            self.add(CHUNKS, report.chunks)

    def count_mended(self, mended: Mended) -> None:
        """Count what was done about a message whose stage could not complete."""
        self.add(MENDED, label=mended.kind)
        if mended.kind == FAILED_FILE:
            self.add(FILES, label=Outcome.FAILED)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request to the embedder, and how long its answer took."""
        began, outcome = monotonic(), "failed"
        try:
            yield
            outcome = "answered"
            self.observe(EMBED_SECONDS, monotonic() - began)
        except JobStopped:
            outcome = "given_up"
            raise
        finally:
            self.add(EMBED_REQUESTS, label=outcome)


@runtime_checkable
class Timed(Protocol):
    """A report that says how long the work took."""

    @property
    def seconds(self) -> float:
        """The time that the work took."""


@dataclass(frozen=True, slots=True)
class MeteredEmbedder:
    """An embedder whose requests are counted."""

    inner: Embedder
    meter: Meter

    @property
    def name(self) -> str:
        """The provider."""
        return self.inner.name

    @property
    def model(self) -> str:
        """The model's name."""
        return self.inner.model

    @property
    def batch_size(self) -> int:
        """The largest number of passages that one request should hold."""
        return self.inner.batch_size

    def embed(self, passages: Sequence[Passage], heed: Callable[[], None] = unheeding) -> Embedded:
        """Embed as the inner one does, and count the request."""
        with self.meter.request():
            return self.inner.embed(passages, heed)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Embed a query as the inner one does."""
        return self.inner.embed_query(query)
