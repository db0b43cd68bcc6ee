"""Answer a query: rank by vectors and by words, merge by rank, and say how much of the index was there to search."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import DataError

from pipeline import checking, fitting, reranking, results, sources
from pipeline.embedders import Passage
from pipeline.errors import EmbedderError, InvalidQuery, RepositoryNotFound
from pipeline.querying import glob_pattern, matching, parse, terms
from pipeline.ranking import Ranked, Signals, rank, reranked
from pipeline.records import SearchResults
from pipeline.states import ACTIVE
from pipeline.store import chunks, contents, lexicon
from pipeline.store.chunks import Wording
from pipeline.store.engine import reading
from pipeline.store.narrowing import ChunkFilter
from pipeline.store.near import near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection, Engine, Row

    from pipeline.embedders import Embedder
    from pipeline.querying import Query

MAX_QUERY: Final = 2_000
MAX_LIMIT: Final = 50
LEAST_TOKENS: Final = 200
MOST_TOKENS: Final = 100_000
DEPTH: Final = 100
DEPTHS: Final = tuple(DEPTH << doubled for doubled in range(10))
"""How many chunks each ranking puts forward; more for a page that the ones before do not fill."""
BUDGET: Final = 500
"""About how many chunks are looked at for their words."""
RERANKED: Final = 20
"""How many of the first chunks have their words matched with the query's."""
DEFAULT: Final = Signals()


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a search asks for (R52); None or an empty tuple means any, and `max_tokens` None an answer of any size."""

    query: str
    project_id: str | None = None
    repo_path: Path | str | None = None
    path_glob: str | None = None
    languages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    limit: int = 10
    offset: int = 0
    max_tokens: int | None = None


def search(
    engine: Engine,
    embedder_for: Callable[[str, str], Embedder],
    request: SearchRequest,
    signals: Signals = DEFAULT,
) -> SearchResults:
    """Return the best results for a query; works while jobs run, on what is written already.

    Raises InvalidQuery for a query, limit or offset out of bounds (R53), RepositoryNotFound for an unknown repository.
    When an embedder is away the words alone decide, and the answer's `note` says so.
    """
    query = _check(request)
    with reading(engine) as connection, _matchable():
        scope = _scope(connection, request)
    vectors, note = _vectors(embedder_for, scope, query)
    with reading(engine, snapshot=True) as connection, _matchable():
        rounds = _rounds(connection, request, signals, scope, vectors)
        page = results.page(connection, rounds, request.limit, request.offset)
    state, coverage = _coverage(scope)
    answer = SearchResults(
        query=query,
        results=page,
        index_state=state,
        coverage=coverage,
        limit=request.limit,
        offset=request.offset,
        note=note,
    )
    return answer if request.max_tokens is None else fitting.fit(answer, request.max_tokens)


def _check(request: SearchRequest) -> str:
    query = request.query.strip()
    if not query:
        raise InvalidQuery("the query is empty: say in words or in code what to look for")
    if len(query) > MAX_QUERY:
        raise InvalidQuery(f"the query has {len(query):,} characters, at most {MAX_QUERY:,} are answered")
    checking.texts(
        query=(query[: checking.LONGEST], query[checking.LONGEST :]),
        project_id=request.project_id,
        path_glob=request.path_glob,
        languages=request.languages,
        kinds=request.kinds,
    )
    checking.offset(request.offset)
    if not 1 <= request.limit <= MAX_LIMIT:
        raise InvalidQuery(f"limit {request.limit} is not between 1 and {MAX_LIMIT}")
    if request.max_tokens is not None and not LEAST_TOKENS <= request.max_tokens <= MOST_TOKENS:
        raise InvalidQuery(f"max_tokens {request.max_tokens} is not between {LEAST_TOKENS} and {MOST_TOKENS:,}")
    return query


@contextmanager
def _matchable() -> Iterator[None]:
    """Tell the user of a filter that PostgreSQL cannot match: an odd range of characters, a NUL."""
    try:
        yield
    except DataError as error:
        reason = str(error.orig).partition("\n")[0]
        raise InvalidQuery(f"the path glob or another filter cannot be matched: {reason}") from error


def _scope(connection: Connection, request: SearchRequest) -> Sequence[Row[Any]]:
    root = None if request.repo_path is None else sources.parse(str(request.repo_path)).name
    scope = chunks.scope(connection, request.project_id, root)
    if not scope and root is not None:
        raise RepositoryNotFound(
            f"{root} is not indexed; `penstock index {root}` indexes it, `penstock repos` lists what is"
        )
    return scope


def _vectors(
    embedder_for: Callable[[str, str], Embedder], scope: Sequence[Row[Any]], query: str
) -> tuple[dict[int, NDArray[np.float32]], str | None]:
    """Embed the query in every model in scope; a model whose embedder is away is left out, and the note says why."""
    vectors, note = {}, None
    for model_id, embedder, model in {(row.model_id, row.embedder, row.model) for row in scope if row.model_id}:
        try:
            vectors[model_id] = embedder_for(embedder, model).embed_query(query)
        except EmbedderError as error:
            note = f"ranked by words only: {error}"
    return vectors, note


def _rounds(
    connection: Connection,
    request: SearchRequest,
    signals: Signals,
    scope: Sequence[Row[Any]],
    vectors: dict[int, NDArray[np.float32]],
) -> Iterator[list[Ranked]]:
    """Yield what vectors, words and paths find, best first; every round looks deeper than the one before."""
    pattern = None if request.path_glob is None else glob_pattern(request.path_glob)
    repositories = {row.id: row for row in scope}
    wanted = ChunkFilter(tuple(repositories), request.languages, request.kinds, pattern)
    query = parse(request.query)
    total = sum(row.counted_chunks for row in repositories.values())
    found = terms(lexicon.look_up(connection, wanted.repository_ids, query.words), total)
    tsquery = matching(found, query.names if signals.definition else (), total, BUDGET) if signals.words else ""
    for depth in DEPTHS:
        similar = [
            row.id
            for model_id, vector in vectors.items()
            for row in (near(connection, model_id, vector, wanted, depth) if signals.vectors else ())
        ]
        wording = Wording(found, tsquery, query.names, query.paths if signals.path else (), depth)
        candidates = chunks.find(connection, wording, wanted, similar, vectors)
        ranked = rank(candidates, query, found, signals, DEPTH)
        yield _reranked(connection, ranked, query, signals.reranker) if depth == DEPTH else ranked


def _reranked(connection: Connection, ranked: list[Ranked], query: Query, weight: float) -> list[Ranked]:
    """Match the words of the first chunks with the query's; a name or a path alone has nothing more to tell."""
    if query.exact or query.path_alone or not weight:
        return ranked
    first = [item.candidate for item in ranked[:RERANKED]]
    texts = contents.of_chunks(connection, [found.id for found in first])
    passages = [Passage(found.symbol, texts[found.id]) for found in first]
    return reranked(ranked, reranking.load().scores(query.text, passages), weight)


def _coverage(scope: Sequence[Row[Any]]) -> tuple[str, float]:
    """Return the least complete state in scope, and the share of the known files that is searchable."""
    repositories = {row.id: row for row in scope}.values()
    searchable = sum(row.searchable for row in repositories)
    behind = [row.status in ACTIVE or row.index_state == "partial" for row in repositories]
    known = sum(
        max(row.searchable, row.listed or 0) if late else row.searchable
        for row, late in zip(repositories, behind, strict=True)
    )
    states = {row.index_state for row in repositories} | {"partial" for row in repositories if row.status in ACTIVE}
    state = next((state for state in ("partial", "complete") if state in states), "empty")
    return state, round(searchable / known, 4) if known else 0.0
