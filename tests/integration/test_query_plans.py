"""Every statement of the house is planned; the hot ones use the index that was made for them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import TextClause, text

from pipeline import store
from pipeline.querying import terms
from pipeline.store import batches, chunks, files, jobs, messages, narrowing, near, vectors
from pipeline.store.chunks import Wording
from pipeline.store.embeddings import driver
from pipeline.store.narrowing import ChunkFilter
from tests.inspecting import seal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine

UNPREPARABLE: Final = {"LISTEN", "CREATE_VECTOR"}
"""Utility statements: PostgreSQL has no plan for them."""
NO_JOB: Final = UUID(int=7)

# One large repository among small ones, a long queue, many finished jobs: what the planner should expect.
FILL: Final = """
INSERT INTO penstock.models (embedder, model, dimension) VALUES ('local', 'm', 4);
INSERT INTO penstock.repositories (project_id, root_path, name, model_id)
    SELECT 'p', '/r' || n, 'r', 1 FROM generate_series(1, 40) AS n;
INSERT INTO penstock.files (repository_id, path, size, mtime_ns, content_hash, language)
    SELECT 1 + n % 40, 'src/file' || n, 100, 1, '\\x00', 'python' FROM generate_series(1, 8000) AS n;
INSERT INTO penstock.chunks (repository_id, file_id, ordinal, start_line, end_line, symbol, kind, language, content,
        content_hash, model_id, embedding, lexemes)
    SELECT f.repository_id, f.id, o, 1, 2, 's', 'function', 'python', 'content', '\\x00', 1, '[1,0,0,0]',
        to_tsvector('simple', 'common rare' || (f.id * 4 + o)) FROM penstock.files f, generate_series(0, 3) AS o;
INSERT INTO penstock.indexing_jobs (id, repository_id, project_id, repo_path, name, embedder, model, status,
        created_at, finished_at, completed_at, progress_percentage)
    SELECT gen_random_uuid(), 1 + n % 40, 'p', '/r' || (n % 40), 'r', 'local', 'm', 'completed',
        now() - n * interval '1 minute', now(), now(), 100 FROM generate_series(1, 10000) AS n;
INSERT INTO penstock.batches (job_id, sequence, stage, files, file_count, byte_count)
    SELECT j.id, n, 'done', '[]', 0, 0
    FROM (SELECT id FROM penstock.indexing_jobs LIMIT 200) j, generate_series(1, 60) n;
INSERT INTO dramatiq.queue (message_id, queue_name, lane, state, message)
    SELECT gen_random_uuid(), 'chunk', n % 3,
        (CASE WHEN n % 5 = 0 THEN 'consumed' ELSE 'queued' END)::dramatiq.state, '{}'
    FROM generate_series(1, 20000) AS n;
INSERT INTO penstock.embeddings (model_id, content_hash, embedding)
    SELECT 1, decode(lpad(to_hex(n), 8, '0'), 'hex'), '[1,0,0,0]' FROM generate_series(1, 20000) AS n;
ANALYZE;
"""


def statements() -> dict[str, TextClause]:
    """Return every statement that is kept as text in the store, by module and name."""
    found = {}
    for module in pkgutil.iter_modules(store.__path__):
        for name, value in vars(importlib.import_module(f"pipeline.store.{module.name}")).items():
            if isinstance(value, TextClause) and name not in UNPREPARABLE:
                found[f"{module.name}.{name}"] = value
    return found


@pytest.mark.parametrize("name", statements())
def test_every_statement_fits_the_schema(busy: Engine, name: str) -> None:
    """PostgreSQL parses and plans the statement against the migrated schema."""
    numbered = numbered_parameters(str(statements()[name]))
    with busy.connect() as connection:
        connection.detach()  # what is prepared stays with the session
        connection.exec_driver_sql(f"PREPARE checked AS {numbered}")


def numbered_parameters(statement: str) -> str:
    """Return the statement with $1, $2, … for its named parameters."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        names.append(match[1]) if match[1] not in names else None
        return f"${names.index(match[1]) + 1}"

    return re.sub(r"(?<!:):([a-z_][a-z_0-9]*)\b", number, statement).replace("%", "%%")


@pytest.fixture(scope="module")
def busy(shared_engine: Engine) -> Engine:
    """Return an engine on a database that looks like a busy installation, for tests that only look at it."""
    fill(shared_engine)
    seal(shared_engine)
    return shared_engine


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Return an engine on such a database of this test's own."""
    fill(engine)
    return engine


def fill(engine: Engine) -> None:
    """Make a database look like a busy installation."""
    with engine.begin() as connection:
        driver(connection).execute(FILL)


def plan(connection: Connection, statement: TextClause, values: Mapping[str, object]) -> str:
    """Return the plan of a statement with these values, as text."""
    explained = text(f"EXPLAIN {statement.text}").bindparams(*statement._bindparams.values())  # noqa: SLF001
    return "\n".join(connection.execute(explained, dict(values)).scalars())


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        pytest.param(
            messages.CLAIM,
            {"queues": ["chunk"], "count": 1, "worker": 1, "recent": ["chunk 1"]},
            "queue_ready",
            id="claim",
        ),
        pytest.param(messages.FINISH, {"message_id": NO_JOB, "claim": 1}, "queue_pkey", id="finish a message"),
        pytest.param(batches.LET_IN, {"job": NO_JOB, "window": 16}, "ix_batches_ready", id="let in"),
        pytest.param(batches.LET_IN, {"job": NO_JOB, "window": 16}, "ix_batches_in_flight", id="count the window"),
        pytest.param(
            files.KNOWN,
            {"repository": 1, "model": 1, "force_before": None, "after": "", "page": 50},
            "uq_files_repository_id_path",
            id="known files",
        ),
        pytest.param(
            files.HASHES,
            {"repository": 1, "model": 1, "force_before": None, "paths": ["src/file40"]},
            "uq_files_repository_id_path",
            id="hashes",
        ),
    ],
)
def test_a_hot_statement_uses_its_index(
    busy: Engine, statement: TextClause, values: dict[str, object], index: str
) -> None:
    """The plan names the index that was made for the statement, and reads no other way through its table."""
    with busy.connect() as connection:
        assert index in plan(connection, statement, values)


@pytest.mark.parametrize("pattern", [None, "^src/"])
def test_a_search_by_words_uses_the_text_index(busy: Engine, pattern: str | None) -> None:
    """What words find is looked up in the GIN index, and what else is asked for by its key (R52).

    It is so in the plan that a session keeps, too, which knows none of the values.
    """
    wording = Wording(
        terms([("rare5", [1], 0), ("common", [2], 32_000)], 32_000), "'rare5' | 'rare6'", ("=rare5",), (), 100
    )
    wanted = ChunkFilter((3,), path_pattern=pattern)
    statement, values = chunks.finding(wording, wanted, [1, 2], {1: np.ones(4, np.float32)})
    with busy.connect() as connection:
        now = plan(connection, statement, values)
        kept = connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {numbered_parameters(statement.text)}")
        for shown in (now, "\n".join(kept.scalars())):
            assert "ix_chunks_lexemes" in shown
            assert "Seq Scan on chunks" not in shown


def test_the_words_of_a_long_chunk_stay_in_its_row(filled: Engine) -> None:
    """To weigh hundreds of chunks reads no words out of line; what is long goes there with the content (R52)."""
    words = " ".join(f"word{number}" for number in range(150))
    prolong = """UPDATE penstock.chunks SET lexemes = to_tsvector('simple', :words), content = (
        SELECT string_agg(md5(CAST(n AS text)), ' ') FROM generate_series(1, 50) AS n) WHERE id = 7"""
    with filled.begin() as connection:
        connection.execute(text(prolong), {"words": words})
        away = "SELECT pg_column_toast_chunk_id(lexemes), pg_column_toast_chunk_id(content) FROM penstock.chunks"
        lexemes, content = connection.execute(text(f"{away} WHERE id = 7")).one()
    assert lexemes is None
    assert content is not None


def test_the_nearest_are_looked_up_in_the_index_of_their_repository(filled: Engine) -> None:
    """The planner proves from the text of the statement which of many partial indexes holds what is wanted (R52)."""
    with filled.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        for repository in range(1, 6):
            vectors.build(connection, vectors.Due("build", repository, 1, 4, 800, 0))
        connection.exec_driver_sql("SET enable_sort = off")  # of 800 chunks the planner would sort them all
        for filters in ("", narrowing.BY_LANGUAGE, narrowing.BY_PATH_OF_CHUNK):
            statement = near.BY_INDEX.format(repository=3, model=1, dimension=4, fetched=60, filters=filters)
            known = {"vector": "[1,0,0,0]", "depth": 30, "languages": ["go"], "pattern": "^src/"}
            values = {name: value for name, value in known.items() if f":{name}" in statement}
            shown = plan(connection, text(statement), values)
            assert re.findall(r"ix_chunks_vectors_\d+_\d+", shown) == ["ix_chunks_vectors_3_1"]


def test_the_newest_jobs_are_listed_by_index(busy: Engine) -> None:
    """A page of jobs reads the page, not all jobs (R25)."""
    with busy.connect() as connection:
        rows, total = jobs.page(connection, jobs.JobFilter(), 20, 0)
        shown = "\n".join(
            connection.exec_driver_sql(
                "EXPLAIN SELECT * FROM penstock.indexing_jobs ORDER BY created_at DESC, id LIMIT 20"
            ).scalars()
        )
    assert (len(rows), total) == (20, 10_000)
    assert "ix_indexing_jobs_created" in shown
