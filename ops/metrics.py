"""The metrics of all processes in Prometheus's text format, from one look into the database."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate, product
from math import inf
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from actors.metering import METRICS
from pipeline.records import Record
from pipeline.states import JobStatus, Stage
from pipeline.store import counts
from pipeline.store.engine import reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric as Family
    from sqlalchemy import Connection, Engine, TextClause

    from actors.metering import Metric

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""What `exposition` is, for the head of an HTTP answer."""


class Sample(Record):
    """One number with its labels."""

    name: str
    labels: dict[str, str]
    value: float


class Samples(Record):
    """All metrics at one moment."""

    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that the tables tell; `values` are those of its labels that are shown as 0 when nothing is there."""

    name: str
    text: str
    question: TextClause
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()


GAUGES: Final = (
    Gauge(
        "penstock_queue_messages",
        "Messages by stage: waiting for a worker, held by one, delayed until later, or rejected (set aside for good).",
        counts.MESSAGES,
        ("stage", "state"),
        (tuple(Stage), ("waiting", "held", "delayed", "rejected")),
    ),
    Gauge(
        "penstock_queue_oldest_message_age_seconds",
        "For how long the oldest message of a stage has been due and waits for a worker.",
        counts.OLDEST_MESSAGE,
        ("stage",),
        (tuple(Stage),),
    ),
    Gauge("penstock_jobs", "Jobs that are stored, by status.", counts.JOBS, ("status",), (tuple(JobStatus),)),
    Gauge(
        "penstock_job_silence_seconds",
        "Longest time for which a running job has made no progress; 0 while none runs.",
        counts.SILENCE,
    ),
    Gauge("penstock_workers", "Worker processes online, by stage.", counts.WORKERS, ("stage",), (tuple(Stage),)),
    Gauge("penstock_worker_threads", "Their threads, by stage.", counts.THREADS, ("stage",), (tuple(Stage),)),
    Gauge(
        "penstock_repositories",
        "Repositories by the state of their index.",
        counts.REPOSITORIES,
        ("index_state",),
        (("empty", "partial", "complete"),),
    ),
    Gauge("penstock_notifications_waiting", "Notifications that were not delivered yet.", counts.NOTIFICATIONS),
    Gauge("penstock_table_bytes", "Size of a table with its indexes.", counts.TABLE_BYTES, ("table",)),
    Gauge(
        "penstock_build_info",
        "1, with the version of what answers and the revision of the database.",
        counts.REVISION.bindparams(version=version("penstock")),
        ("version", "revision"),
    ),
)


def exposition(engine: Engine) -> bytes:
    """Return all metrics in Prometheus's text format; raises DatabaseError."""
    return generate_latest(Fleet(engine))


def samples(engine: Engine) -> Samples:
    """Return all metrics as records; raises DatabaseError."""
    return Samples(
        samples=tuple(
            Sample(name=sample.name, labels=sample.labels, value=sample.value)
            for family in Fleet(engine).collect()
            for sample in family.samples
        )
    )


@dataclass(frozen=True, slots=True)
class Fleet:
    """All processes on one database, as a collector of prometheus-client's."""

    engine: Engine

    def collect(self) -> Iterator[Family]:
        """Yield the families of metrics as they are now."""
        with reading(self.engine) as connection:
            totals = counts.totals(connection)
            yield from (_counted(metric, totals) for metric in METRICS)
            yield from (_measured(gauge, connection) for gauge in GAUGES)


def _counted(metric: Metric, totals: Mapping[str, float]) -> Family:
    """Return a counter or a histogram; the values of its label that nobody expected are shown, too."""
    found = {name.split("/")[1] for name in totals if name.startswith(f"{metric.name}/")}
    values = (*metric.values, *sorted(found - set(metric.values)))
    labels = [metric.label] if metric.label else []
    if metric.bounds:
        histogram = HistogramMetricFamily(metric.name, metric.text, labels=labels)
        for value in values:
            prefix = f"{metric.name}/{value}"
            buckets = [totals.get(f"{prefix}/{bound:g}", 0.0) for bound in (*metric.bounds, inf)]
            bounds = (*(f"{float(bound)}" for bound in metric.bounds), "+Inf")
            histogram.add_metric(
                [value] * len(labels),
                list(zip(bounds, accumulate(buckets), strict=True)),
                totals.get(f"{prefix}/sum", 0.0),
            )
        return histogram
    counter = CounterMetricFamily(metric.name, metric.text, labels=labels)
    for value in values:
        counter.add_metric([value] * len(labels), totals.get(f"{metric.name}/{value}", 0.0))
    return counter


def _measured(gauge: Gauge, connection: Connection) -> Family:
    family = GaugeMetricFamily(gauge.name, gauge.text, labels=gauge.labels)
    absent = dict.fromkeys(product(*gauge.values), 0.0) if len(gauge.values) == len(gauge.labels) else {}
    for labels, value in (absent | counts.measure(connection, gauge.question)).items():
        family.add_metric(labels, value)
    return family
