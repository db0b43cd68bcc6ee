"""Measures searches in many chunks: how long they take, what an index misses, and what all that weighs.

    python -m ops.bench.search FOLDER SOURCES... [--chunks N] [--repositories K] [--queries Q]

FOLDER keeps the grown trees and the home, so that a second run only searches. The queries are comments of the sources;
a hundred of them are also answered by reading all, to compare. The server gets the memory that the largest graph wants.
Times are of this run on this machine: compare them with each other, on an idle one.
"""

from __future__ import annotations

import argparse
import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from ops.bench.quality.home import running
from ops.bench.trees import grow, real_files
from pipeline.embedders.local import MODEL
from pipeline.querying import glob_pattern
from pipeline.search import DEPTH, SearchRequest, search
from pipeline.store import counts, jobs
from pipeline.store.jobs import JobFilter
from pipeline.store.narrowing import ChunkFilter
from pipeline.store.near import near
from pipeline.store.repositories import listed
from pipeline.store.vectors import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Row

    from ops.bench.quality.home import Home

Q = TypeVar("Q")
A = TypeVar("A")
COMMENT: Final = re.compile(r'(?:#|//|"""|\*) ([A-Z][a-z]+ [a-z]+ [a-z]+[^\n"]{0,80})')
PROJECT: Final = "bench"
KEPT: Final = (10, 60)
COMPARED: Final = 100
"""So many queries are answered exactly as well: of a million chunks each takes most of a second."""
EQUAL: Final = 1e-6
"""Distances that differ by less are equal: which of two copies is found counts nothing."""


class Narrowing(NamedTuple):
    """A filter to search with, by its name in the report."""

    title: str
    languages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    path_glob: str | None = None
    alone: bool = False
    """Search one repository of several."""


NARROWINGS: Final = (
    Narrowing("everything"),
    Narrowing("one repository", alone=True),
    Narrowing("language python", languages=("python",)),
    Narrowing("language javascript", languages=("javascript",)),
    Narrowing("kind method", kinds=("method",)),
    Narrowing("kind class", kinds=("class",)),
    Narrowing("kind enum", kinds=("enum",)),
    Narrowing("one folder", path_glob="00007/**"),
    Narrowing("ten folders", path_glob="0001?/**"),
)


def main() -> None:
    """Measure, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--repositories", type=int, default=1)
    parser.add_argument("--queries", type=int, default=200)
    given = parser.parse_args()
    console = Console(width=140)
    each = given.chunks // given.repositories
    trees = [given.folder / f"tree-{each}-{at}" for at in range(given.repositories)]
    for at, tree in enumerate(trees):
        if not tree.exists():
            with phase(console, f"growing {tree}"):
                grow(given.sources, tree, each, first=at * each)
    queries = comments(given.sources, given.queries)
    with running(given.folder / f"home-{given.chunks}-{given.repositories}", {}, afresh=False) as home:
        give_memory(home, each)
        for tree in trees:
            index(console, home, tree, str(each))
        report(console, home, queries)


@contextmanager
def phase(console: Console, what: str) -> Iterator[None]:
    """Say what is done, and then how long it took."""
    console.print(f"{what} …")
    began = time.perf_counter()
    yield
    console.print(f"  took {time.perf_counter() - began:,.0f} s")


def give_memory(home: Home, chunks: int) -> None:
    """Let the server build an index of so many chunks in memory, as an operator would; it keeps what it has if more."""
    megabytes = max(512, chunks * CHUNK_BYTES // 1_000_000)
    with home.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ALTER SYSTEM SET maintenance_work_mem = '{megabytes}MB'")
        connection.exec_driver_sql("SELECT pg_reload_conf()")


def index(console: Console, home: Home, tree: Path, said: str) -> None:
    """Have a tree indexed when it is not, and say what of the time went to the counts and the index of its vectors."""
    with phase(console, f"indexing {tree}"):
        done = home.index(tree, said, PROJECT, {})
        now = datetime.now(UTC)
    if done:
        with home.engine.connect() as connection:
            (job,), _ = jobs.page(connection, JobFilter(project_id=PROJECT), 1, 0)
        console.print(f"  {(now - job.finished_at).total_seconds():,.0f} s of that after the job: words and vectors")


def comments(sources: Sequence[Path], most: int) -> list[str]:
    """Return so many comments of source files, in a fixed order."""
    files = real_files(sources)
    Random(1).shuffle(files)  # noqa: S311 - no secret
    found: dict[str, None] = {}
    for file in files:
        match = COMMENT.search(file.read_text(errors="replace"), 2_000)  # beyond the licence
        if match:
            found.setdefault(match[1].strip())
        if len(found) == most:
            break
    return list(found)


def report(console: Console, home: Home, queries: Sequence[str]) -> None:
    """Print what searches take and miss, and what the chunks weigh."""
    with home.engine.connect() as connection:
        repositories = listed(connection, PROJECT)
    chunks = sum(row.chunks for row in repositories)
    title = f"{chunks:,} chunks in {len(repositories)} repositories, {len(queries)} queries"
    columns = ("search ms p50", "p95", "near ms p50", "p95", "exact ms p50", "p95", *(f"recall@{k}" for k in KEPT))
    table = Table("filter", *columns, title=title)
    for narrowing in NARROWINGS:
        if narrowing.alone and len(repositories) == 1:
            continue
        with phase(console, f"asking for {narrowing.title}"):
            table.add_row(narrowing.title, *measured(home, repositories, queries, narrowing))
    console.print(table)
    console.print(storage(home, chunks))


def measured(
    home: Home, repositories: Sequence[Row[Any]], queries: Sequence[str], narrowing: Narrowing
) -> Iterator[str]:
    """Yield the row of a filter: times of the whole search, of its near half, of reading all; and what is missed."""
    filters = narrowing._asdict()
    del filters["title"], filters["alone"]
    repositories = repositories[:1] if narrowing.alone else repositories
    root = repositories[0].root_path if narrowing.alone else None
    asking = [SearchRequest(query, project_id=PROJECT, repo_path=root, **filters) for query in queries]
    yield from times(lambda request: search(home.engine, home.embedder_for, request), asking)[1]
    embedder = home.embedder_for("local", MODEL)
    pattern = glob_pattern(narrowing.path_glob) if narrowing.path_glob else None
    wanted = ChunkFilter(tuple(row.id for row in repositories), narrowing.languages, narrowing.kinds, pattern)
    vectors = [embedder.embed_query(query) for query in queries]
    with home.engine.connect() as connection:
        ask = partial(near, connection, repositories[0].model_id, wanted=wanted, depth=DEPTH)
        found, quick = times(lambda vector: ask(vector=vector), vectors)
        best, slow = times(lambda vector: ask(vector=vector, exact=True), vectors[:COMPARED], before=1)
    yield from (*quick, *slow)
    for kept in KEPT:
        yield f"{np.mean([recall(have, all_, kept) for have, all_ in zip(found, best, strict=False)]):.4f}"


def times(ask: Callable[[Q], A], questions: Sequence[Q], before: int | None = None) -> tuple[list[A], tuple[str, str]]:
    """Return the answers, and the median and the 95th percentile of their milliseconds.

    All questions are asked once before, or only so many.
    """
    for question in questions[:before]:
        ask(question)
    answers, seconds = [], []
    for question in questions:
        began = time.perf_counter()
        answers.append(ask(question))
        seconds.append(time.perf_counter() - began)
    middle, late = np.percentile(seconds, (50, 95)) * 1_000
    return answers, (f"{middle:.1f}", f"{late:.1f}")


def recall(found: Sequence[Row[Any]], best: Sequence[Row[Any]], kept: int) -> float:
    """Return which share of the best was found, or something as near."""
    if not best:
        return 1.0
    wanted = best[:kept]
    worst = wanted[-1].distance + EQUAL
    return sum(bool(row.distance <= worst) for row in found[: len(wanted)]) / len(wanted)


def storage(home: Home, chunks: int) -> Table:
    """Return what the parts of the index weigh, in all and for each chunk."""
    table = Table("part", "MB", "bytes a chunk", title="Storage")
    with home.engine.connect() as connection:
        parts = counts.measure(connection, counts.INDEX_BYTES)
    for (name,), size in sorted(parts.items(), key=lambda part: -part[1]):
        table.add_row(name, f"{size / 1e6:,.1f}", f"{size / chunks:,.0f}")
    return table


if __name__ == "__main__":
    main()
