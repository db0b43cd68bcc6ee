"""The near half of a search: exact distances, filters, and the order of equals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from pipeline.store import near as near_module
from pipeline.store import vectors
from pipeline.store.embeddings import driver
from pipeline.store.narrowing import ChunkFilter
from pipeline.store.near import near
from pipeline.store.vectors import Due
from tests.inspecting import seal

if TYPE_CHECKING:
    from sqlalchemy import Engine

# Two repositories of 20 files with 5 chunks each, at growing angles to the query; the languages and kinds take turns.
FILL: Final = """
INSERT INTO penstock.models (embedder, model, dimension) VALUES ('local', 'm', 2), ('local', 'n', 2);
INSERT INTO penstock.repositories (project_id, root_path, name, model_id)
    SELECT 'p', '/r' || n, 'r', 1 FROM generate_series(1, 2) AS n;
INSERT INTO penstock.files (repository_id, path, size, mtime_ns, language, chunk_count)
    SELECT r, CASE WHEN n % 4 = 0 THEN 'tests/' ELSE 'src/' END || n, 100, 1,
        CASE WHEN n % 2 = 0 THEN 'go' ELSE 'python' END, 5
    FROM generate_series(1, 2) AS r, generate_series(1, 20) AS n;
INSERT INTO penstock.chunks (repository_id, file_id, ordinal, start_line, end_line, symbol, kind, language, content,
        content_hash, model_id, embedding, lexemes)
    SELECT f.repository_id, f.id, o, 1, 2, 's', CASE WHEN o = 0 THEN 'class' ELSE 'function' END,
        f.language, 'content', '\\x00', CASE WHEN o = 4 THEN 2 ELSE 1 END,
        CAST(ARRAY[cos((f.id + o / 2) / 50.0), sin((f.id + o / 2) / 50.0)] AS halfvec(2)), ''
    FROM penstock.files f, generate_series(0, 4) AS o ORDER BY random();
"""
QUERY: Final = np.array([1, 0], np.float32)
WANTED: Final = "SELECT c.id FROM penstock.chunks c JOIN penstock.files f ON f.id = c.file_id WHERE c.model_id = 1"


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Return an engine on a database with two repositories, in two models."""
    fill(engine)
    return engine


@pytest.fixture(scope="module")
def indexed(shared_engine: Engine) -> Engine:
    """Return an engine on such a database with vector indexes, for tests that only look at it."""
    fill(shared_engine)
    for repository in (1, 2):
        build(shared_engine, repository)
    seal(shared_engine)
    return shared_engine


def fill(engine: Engine) -> None:
    """Make two repositories, in two models."""
    with engine.begin() as connection:
        driver(connection).execute(FILL)


def build(engine: Engine, repository: int) -> None:
    """Build the vector index of a repository."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        vectors.build(connection, Due("build", repository, 1, 2, 80, 0))


@pytest.mark.parametrize(
    ("wanted", "condition"),
    [
        (ChunkFilter((1, 2)), "true"),
        (ChunkFilter((2,)), "c.repository_id = 2"),
        (ChunkFilter((1, 2), languages=("go", "c")), "c.language = 'go'"),
        (ChunkFilter((1,), kinds=("class",)), "c.repository_id = 1 AND c.kind = 'class'"),
        (ChunkFilter((1, 2), path_pattern="^tests/"), "f.path LIKE 'tests/%%'"),
        (
            ChunkFilter((2,), ("go",), ("class",), "^tests/"),
            "c.repository_id = 2 AND c.kind = 'class' AND f.path ~ '^t'",
        ),
        (ChunkFilter(()), "false"),
    ],
)
@pytest.mark.parametrize("way", ["exact", "by index", "by index as far as it goes", "by index in goes"])
def test_the_nearest_of_what_is_wanted_come_first(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, wanted: ChunkFilter, condition: str, way: str
) -> None:
    """Of one model only, in the order of the distance, equals in the order of their ids; no filter loses any (R52)."""
    engine: Engine = request.getfixturevalue("filled" if way == "exact" else "indexed")
    if way.startswith("by index"):
        monkeypatch.setattr(near_module, "READ", 0)
    if way.endswith("as far as it goes"):
        monkeypatch.setattr(near_module, "MOST_AT_ONCE", 1)
        monkeypatch.setattr(near_module, "MOST_SCANNED", 1)
    if way.endswith("in goes"):
        monkeypatch.setattr(near_module, "MOST_AT_ONCE", 7)
        monkeypatch.setattr(near_module, "VISITED", 20)
    order = "ORDER BY c.embedding <=> CAST('[1,0]' AS halfvec), c.id LIMIT 30"
    with engine.connect() as connection:
        if way.startswith("by index"):  # of so few chunks the planner would sort them all
            connection.exec_driver_sql("SET enable_sort = off")
        found = near(connection, 1, QUERY, wanted, 30)
        expected = connection.exec_driver_sql(f"{WANTED} AND {condition} {order}").scalars().all()
    assert [row.id for row in found] == expected
    assert [row.distance for row in found] == sorted(row.distance for row in found)
