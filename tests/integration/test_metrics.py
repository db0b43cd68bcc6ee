"""The metrics: what workers count, that nothing of it is lost with them, and what a scrape shows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from actors.broker import LeaseBroker
from actors.metering import EMBED_REQUESTS, FILES, METRICS, Meter, MeteredEmbedder
from ops.metrics import CONTENT_TYPE, GAUGES, Samples, exposition, samples
from pipeline import jobs
from pipeline.embedders import Passage
from pipeline.errors import EmbedderUnavailable, JobStopped
from pipeline.records import JobRequest
from pipeline.states import Stage
from pipeline.store import counts, workers
from tests.acceptance.working import eventually, running
from tests.commanding import NOBODY_LISTENS, open_terminal
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.repositories import write
from tests.serving import serving, settings_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Engine

MANY_JOBS: Final = text("""
INSERT INTO penstock.indexing_jobs (id, repository_id, project_id, repo_path, name, status, embedder, model,
    error_message, finished_at)
SELECT gen_random_uuid(), :repository, 'default', '/srv/' || n, 'r', 'failed', 'local', 'm', repeat('x', 200), now()
FROM generate_series(1, 10000) AS n
""")
AGE: Final = text("UPDATE penstock.workers SET seen_at = now() - interval '1 hour', session = '' WHERE id = :id")


def value(engine: Engine, name: str, **labels: str) -> float:
    """Return the one sample of this name and these labels."""
    (found,) = (sample.value for sample in samples(engine).samples if sample.name == name and sample.labels == labels)
    return found


def enrol(engine: Engine, pid: int, **counted: float) -> int:
    """Enter a worker process that has counted files, and return its id."""
    with engine.begin() as connection:
        worker_id = workers.enrol(connection, "here", pid, ["chunk"], 1)
        workers.beat(connection, worker_id, {f"{FILES.name}/{outcome}": number for outcome, number in counted.items()})
    return worker_id


# --- counting ---------------------------------------------------------------------------------------------------------


def test_a_scrape_shows_what_all_workers_did(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """What came of a real job is counted, and stays when its workers are killed or end; deaths are counted (R33)."""
    root = write(tmp_path / "shop", {"a.py": "x = 1\n", "b.py": "y = 2\n", "c.py": b"\0\1"})
    with running(engine, database_url, tmp_path) as system:
        for stage in Stage:
            system.start(stage)
        eventually(lambda: len(jobs.online(engine)) == len(Stage))
        first = jobs.online(engine)
        job = system.finished(system.submit(root))
        eventually(lambda: value(engine, "penstock_job_events_total", event="completed"))
        for stage in Stage:  # each has told what it did: who is killed takes up to two seconds of it along
            eventually(partial(value, engine, "penstock_stage_duration_seconds_count", stage=stage))
        assert value(engine, "penstock_worker_deaths_total") == 0
        for worker in first:
            system.kill(worker.pid)
        eventually(lambda: value(engine, "penstock_worker_deaths_total") == len(Stage))
        assert value(engine, "penstock_workers", stage="write") == 1
    assert value(engine, "penstock_worker_deaths_total") == len(Stage)
    assert value(engine, "penstock_files_total", outcome="indexed") == job.files_indexed == 2
    assert value(engine, "penstock_files_total", outcome="skipped") == 1
    assert value(engine, "penstock_passages_total", outcome="embedded") == job.chunks_embedded == 2
    assert value(engine, "penstock_chunks_written_total") == 2
    assert value(engine, "penstock_indexed_bytes_total") == 12
    assert value(engine, "penstock_embed_requests_total", outcome="answered") == 1
    assert value(engine, "penstock_embed_request_duration_seconds_count") == 1
    for stage in Stage:
        assert value(engine, "penstock_stage_duration_seconds_count", stage=stage) == 1
        assert value(engine, "penstock_stage_duration_seconds_bucket", stage=stage, le="+Inf") == 1
        assert value(engine, "penstock_workers", stage=stage) == 0
    assert value(engine, "penstock_jobs", status="completed") == 1


@pytest.mark.parametrize("end", ["leave", "reap", "replace"])
def test_whoever_strikes_a_worker_keeps_what_it_counted(engine: Engine, end: str) -> None:
    """The sum over all workers is the same before and after, and only a death is counted as one."""
    gone, stays = enrol(engine, 1, indexed=3), enrol(engine, 2, indexed=4)
    with engine.begin() as connection:
        if end == "leave":
            workers.leave(connection, gone, {f"{FILES.name}/indexed": 5, f"{FILES.name}/failed": 1})
        elif end == "replace":
            workers.replace(connection, stays, "here", 1)
        else:
            connection.execute(AGE, {"id": gone})
            workers.reap(connection)
    left = end == "leave"
    assert [worker.pid for worker in jobs.online(engine)] == [2]
    assert value(engine, "penstock_files_total", outcome="indexed") == (9 if left else 7)
    assert value(engine, "penstock_files_total", outcome="failed") == left
    assert value(engine, "penstock_worker_deaths_total") == (not left)


def test_workers_that_end_at_once_lose_no_count(engine: Engine) -> None:
    """Six at a time add to the same totals: none is the victim of a deadlock, and every count is kept once."""

    def live(pid: int) -> None:
        with engine.begin() as connection:
            worker_id = workers.enrol(connection, "here", pid, ["chunk"], 1)
        with engine.begin() as connection:
            workers.leave(connection, worker_id, {f"{FILES.name}/{outcome}": 1 for outcome in FILES.values})

    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(live, range(120)))) == 120
    assert {value(engine, "penstock_files_total", outcome=outcome) for outcome in FILES.values} == {120}


def test_a_process_given_up_for_dead_counts_nothing_twice(engine: Engine) -> None:
    """What was kept when it was struck is not told again under its new id."""
    broker = LeaseBroker(engine, middleware=[])
    broker.meter.add(FILES, 3, "indexed")
    broker.consume(Stage.CHUNK)
    eventually(lambda: value(engine, "penstock_files_total", outcome="indexed") == 3)
    old = broker.worker_id
    with engine.begin() as connection:
        workers.leave(connection, old)
    broker.meter.add(FILES, 1, "indexed")
    eventually(lambda: broker.worker_id != old)
    eventually(lambda: value(engine, "penstock_files_total", outcome="indexed") == 4)
    broker.close()
    assert value(engine, "penstock_files_total", outcome="indexed") == 4


def test_requests_to_the_embedder_are_counted_by_their_outcome() -> None:
    """An answer has a duration; a failure and a request that was given up have none (R30, R51)."""
    meter, faults = Meter(), [EmbedderUnavailable("away"), JobStopped("paused")]

    def fail(_passages: Sequence[Passage]) -> None:
        if faults:
            raise faults.pop(0)

    embedder = MeteredEmbedder(WilfulEmbedder(before=fail), meter)
    for error in (EmbedderUnavailable, JobStopped):
        with pytest.raises(error):
            embedder.embed([Passage("", "x")])
    assert embedder.embed([Passage("", "x")]).vectors.shape == (1, 256)
    counted = meter.news() or {}
    assert {outcome: counted[f"{EMBED_REQUESTS.name}/{outcome}"] for outcome in EMBED_REQUESTS.values} == {
        "answered": 1,
        "failed": 1,
        "given_up": 1,
    }
    assert sum(number for name, number in counted.items() if "duration" in name and not name.endswith("sum")) == 1


# --- the state of things ----------------------------------------------------------------------------------------------


def test_the_queue_is_measured_by_stage(engine: Engine, tmp_path: Path) -> None:
    """Messages that wait, are held, or were set aside, and for how long the oldest waits (R65)."""
    driver = Driver(engine)
    for name in ("one", "two"):
        jobs.submit(driver.office, JobRequest(repo_path=str(write(tmp_path / name, {"a.py": "x = 1\n"}))))
    assert value(engine, "penstock_queue_messages", stage="scan", state="waiting") == 2
    driver.claim(Stage.SCAN)
    assert value(engine, "penstock_queue_messages", stage="scan", state="waiting") == 1
    assert value(engine, "penstock_queue_messages", stage="scan", state="held") == 1
    with engine.begin() as connection:
        connection.execute(text("UPDATE dramatiq.queue SET eta = now() - interval '5 min' WHERE state = 'queued'"))
    assert 300 <= value(engine, "penstock_queue_oldest_message_age_seconds", stage="scan") < 400
    with engine.begin() as connection:
        connection.execute(text("UPDATE dramatiq.queue SET state = 'rejected' WHERE state = 'consumed'"))
        connection.execute(text("UPDATE dramatiq.queue SET eta = now() + interval '1 h' WHERE state = 'queued'"))
    assert value(engine, "penstock_queue_messages", stage="scan", state="rejected") == 1
    assert value(engine, "penstock_queue_messages", stage="scan", state="delayed") == 1
    assert value(engine, "penstock_queue_oldest_message_age_seconds", stage="scan") == 0


def test_a_scrape_is_quick_beside_many_jobs(engine: Engine, tmp_path: Path) -> None:
    """With 10,000 jobs stored the look into the database costs a fraction of a scrape's interval."""
    driver = Driver(engine)
    driver.index(write(tmp_path / "shop", {"a.py": "x = 1\n"}))
    with engine.begin() as connection:
        repository = connection.execute(text("SELECT id FROM penstock.repositories")).scalar_one()
        connection.execute(MANY_JOBS, {"repository": repository})
    took = []
    for _ in range(5):
        began = time.perf_counter()
        exposition(engine)
        took.append(time.perf_counter() - began)
    assert value(engine, "penstock_jobs", status="failed") == 10_000
    assert min(took) < 0.25


# --- what is printed --------------------------------------------------------------------------------------------------


def test_the_text_is_prometheus_own_and_follows_its_conventions(engine: Engine) -> None:
    """Its parser reads it; every name has our prefix and a base unit, every number is there before there is work."""
    families = {family.name: family for family in text_string_to_metric_families(exposition(engine).decode())}
    assert families.keys() == {each.name for each in (*METRICS, *GAUGES)}
    for family in families.values():
        assert family.documentation.endswith(".")
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.samples, family.name
        assert all(sample.name.endswith("_total") for sample in family.samples if family.type == "counter")


def test_the_commands_print_the_same(
    engine: Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`penstock metrics` is what Prometheus scrapes; with `--json` the same numbers are records (R60)."""
    enrol(engine, 1, indexed=3)
    run = open_terminal(database_url, tmp_path, monkeypatch)
    assert 'penstock_files_total{outcome="indexed"} 3.0\n' in run("metrics").stdout
    found = Samples.model_validate_json(run("metrics", "--json").stdout).samples
    assert [each.value for each in found if each.labels == {"outcome": "indexed"}] == [3.0]


def test_prometheus_scrapes_the_site(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """`/metrics` of `penstock serve` is that text with Prometheus' content type; an unreachable database is a 503."""
    enrol(engine, 1, indexed=3)
    with serving(settings_for(database_url, tmp_path)) as site:
        answer = site.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert 'penstock_files_total{outcome="indexed"} 3.0\n' in answer.body
    with serving(settings_for(f"postgresql://{NOBODY_LISTENS}/penstock", tmp_path)) as site:
        assert site.get("/metrics").status == 503


def test_totals_never_fall_while_workers_come_and_go(engine: Engine) -> None:
    """Each scrape sees a worker's counts once: in its row or among those that were kept."""
    seen = []
    for pid in range(1, 20):
        worker_id = enrol(engine, pid, indexed=1)
        with engine.begin() as leaving, engine.connect() as looking:
            workers.leave(leaving, worker_id)
            seen.append(counts.totals(looking)[f"{FILES.name}/indexed"])
        seen.append(value(engine, "penstock_files_total", outcome="indexed"))
    assert seen == [pid for pid in range(1, 20) for _ in range(2)]
