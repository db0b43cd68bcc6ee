"""A search over real rows: filters, paging, what it says of the index, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from pipeline.errors import EmbedderUnavailable, RepositoryNotFound, ValidationError
from pipeline.ranking import Signals
from pipeline.search import DEFAULT, DEPTH, LEAST_TOKENS, MOST_TOKENS, SearchRequest, search
from pipeline.store.engine import reading
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
from tests.inspecting import seal
from tests.repositories import write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from pipeline.records import SearchResults

FILES: Final = {
    "src/mail.py": (
        'class Mailer:\n    def send(self, letter):\n        """Deliver a letter to the post office."""\n'
        "        return letter\n"
    ),
    "src/queue.go": "package queue\n\n// Push appends a message to the queue.\nfunc Push(message string) {}\n",
    "web/cart.js": "export function addToCart(item) {\n  return cart.concat(item);\n}\n",
    "docs/brewing.md": "# Brewing\n\nMalt, hops, yeast and water.\n",
}


@pytest.fixture
def driver(engine: Engine, tmp_path: Path) -> Driver:
    """Return a driver that has indexed one repository in four languages."""
    return stocked(engine, tmp_path)


@pytest.fixture(scope="module")
def shared(shared_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """Return such a driver for tests that only search."""
    driver = stocked(shared_engine, tmp_path_factory.mktemp("shared"))
    seal(shared_engine)
    return driver


def stocked(engine: Engine, folder: Path) -> Driver:
    """Return a driver that has indexed one repository in four languages, made in a folder."""
    driver = Driver(engine, embedder=WilfulEmbedder())
    driver.index(write(folder / "shop", FILES))
    return driver


def ask(driver: Driver, query: str, signals: Signals = DEFAULT, /, **options: object) -> SearchResults:
    """Search on the driver's database."""
    request = replace(SearchRequest(query), **options)  # type: ignore[arg-type]
    return search(driver.engine, driver.bench.embedder_for, request, signals)


@pytest.mark.parametrize(
    ("query", "path", "symbol"),
    [
        ("deliver a letter", "src/mail.py", "Mailer"),
        ("append to a queue", "src/queue.go", "Push"),
        ("addToCart", "web/cart.js", "addToCart"),
        ("how is beer made: hops and malt", "docs/brewing.md", "Brewing"),
    ],
)
def test_the_best_hit_is_the_right_one(shared: Driver, query: str, path: str, symbol: str) -> None:
    """Words, identifiers and prose find their file, with symbol and lines (R52)."""
    best = ask(shared, query).results[0]
    assert (best.path, best.symbol.split(".")[0]) == (path, symbol)
    text = FILES[path].splitlines()
    assert best.content.splitlines() == text[best.start_line - 1 : best.end_line]


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"languages": ("go", "javascript")}, {"src/queue.go", "web/cart.js"}),
        ({"path_glob": "src/**"}, {"src/mail.py", "src/queue.go"}),
        ({"path_glob": "*.md"}, {"docs/brewing.md"}),
        ({"kinds": ("section",)}, {"docs/brewing.md"}),
        ({"project_id": "other"}, set()),
    ],
)
def test_filters_keep_what_they_name(shared: Driver, options: dict[str, object], paths: set[str]) -> None:
    """Language, path glob, kind and project narrow the answer (R52)."""
    assert {hit.path for hit in ask(shared, "message", **options).results} == paths


def test_words_that_mean_the_same_decide_between_equals(engine: Engine, tmp_path: Path) -> None:
    """Of chunks with the same words of the query, the one whose other words mean the rest of it is first (R52)."""
    names = {"paint": "colour", "store": "insert", "stage": "remove"}
    texts = {f"{name}.py": f"def {name}(row):\n    cache.{done}(row)\n" for name, done in names.items()}
    driver = Driver(engine, embedder=WilfulEmbedder())
    driver.index(write(tmp_path / "shop", texts))
    words_alone = Signals(vectors=0.0, reranker=0.0)
    assert len({hit.score for hit in ask(driver, "delete it from the cache", words_alone).results}) == 1
    best = ask(driver, "delete it from the cache", replace(words_alone, reranker=1.0)).results[0]
    assert best.path == "stage.py"


@pytest.mark.parametrize(
    ("query", "again"),
    [("addToCart", False), ("src/mail.py", False), ("deliver a letter", True), ("letters in src/mail.py", True)],
)
def test_a_name_or_a_path_is_not_reranked(shared: Driver, query: str, *, again: bool) -> None:
    """What is a name or a path alone scores what it does without the reranker; what says more does not (R52)."""
    plain = ask(shared, query, replace(DEFAULT, reranker=0.0))
    assert (ask(shared, query) != plain) == again


def test_pages_follow_each_other(shared: Driver) -> None:
    """offset goes on where the page before ended, without gaps or repeats (R52)."""
    everything = [hit.path for hit in ask(shared, "message").results]
    pages = [hit.path for offset in (0, 2) for hit in ask(shared, "message", limit=2, offset=offset).results]
    assert pages == everything[:4]
    assert len(set(pages)) == 4


def test_the_statements_of_a_search_are_planned_once(driver: Driver) -> None:
    """A session that has searched some times keeps the plans of all statements that a search needs (R52)."""
    for _ in range(8):
        ask(driver, "deliver a letter")
    with reading(driver.engine) as connection:
        kept = "\n".join(connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements").scalars())
    for table in ("indexing_jobs", "lexicon", "ts_rank", "<=>", "SELECT id, content", "WITH ORDINALITY"):
        assert table in kept


def test_without_its_embedder_the_words_decide_and_the_answer_says_so(driver: Driver) -> None:
    """An embedder that is away weakens a search; it does not end it (R51, R52)."""

    class Absent(WilfulEmbedder):
        def embed_query(self, query: str) -> NoReturn:
            raise EmbedderUnavailable(f"the server does not answer: {query}")

    driver.embedder = Absent()
    found = ask(driver, "letter")
    assert found.note == "ranked by words only: the server does not answer: letter"
    assert [hit.path for hit in found.results] == ["src/mail.py"]


def steps(method: str, word: str, count: int) -> str:
    """Return a method of so many lines of some forty characters."""
    body = "".join(f"        self.{word}_{number} = order.{word}_{number}\n" for number in range(count))
    return f"    def {method}(self, order):\n{body}"


@pytest.fixture
def long(driver: Driver, tmp_path: Path) -> str:
    """Index a class with a method of several chunks between two others, and return the file's text."""
    ending = steps("finish", "invoice", 20)
    text = f"import orders\n\n\nclass Mill:\n{steps('start', 'letter', 20)}\n{steps('grind', 'barley', 150)}\n{ending}"
    driver.index(write(tmp_path / "mill", {"mill.py": text}))
    return text


def test_pieces_of_one_method_are_one_result_with_all_their_lines(driver: Driver, long: str) -> None:
    """What was cut for the index is joined for the reader, in results that hold no line twice (R52)."""
    hits = [hit for hit in ask(driver, "barley grind", path_glob="mill.py").results if hit.symbol == "Mill.grind"]
    lines = long.split("\n")
    for hit in hits:
        assert hit.content.split("\n") == lines[hit.start_line - 1 : hit.end_line]
        assert hit.start_line <= hit.best_line <= hit.end_line
    assert max(len(hit.content) for hit in hits) > 2 * driver.limits.chunk_characters
    shown = [number for hit in hits for number in range(hit.start_line, hit.end_line + 1)]
    assert len(shown) == len(set(shown)) > 145


def test_a_result_says_in_which_class_and_method_it_lies(driver: Driver, long: str) -> None:
    """The lines of the definitions around come with it, by their numbers; its own first line is not repeated (R52)."""
    hits = [hit for offset in range(9) for hit in ask(driver, "barley_149", limit=1, offset=offset).results]
    last = next(hit for hit in hits if "barley_149" in hit.content)
    lines = long.split("\n")
    head, method = lines.index("class Mill:") + 1, lines.index("    def grind(self, order):") + 1
    assert last.context == (f"{head}: class Mill:", f"{method}: def grind(self, order):")
    finish = ask(driver, "finish").results[0]
    assert (finish.symbol, finish.context) == ("Mill.finish", (f"{head}: class Mill:",))


def test_pages_neither_repeat_nor_lose_what_was_joined(driver: Driver, long: str) -> None:
    """Neighbours are joined before the list is cut: pages of one together are the whole list (R52)."""
    everything = ask(driver, "barley letter invoice").results
    pages = [ask(driver, "barley letter invoice", limit=1, offset=at).results for at in range(len(everything) + 1)]
    assert [hit for page in pages for hit in page] == list(everything)
    assert any(hit.path == "mill.py" for hit in everything)
    assert long


def test_pages_beyond_the_first_look_go_on_where_it_ended(driver: Driver, tmp_path: Path) -> None:
    """A page for which more chunks must be ranked shows none of those before it, and none is left out (R52)."""
    functions = 2 * DEPTH + 20
    text = "\n\n".join(f"def barley_{at}(mill):\n    return mill.grind('barley', {at})\n" for at in range(functions))
    driver.index(write(tmp_path / "mill", {f"mill{at}.py": part for at, part in enumerate(text.split("\n\n\n"))}))
    pages = [ask(driver, "grind barley", path_glob="mill*.py", limit=50, offset=at).results for at in range(0, 300, 50)]
    places = [hit.path for page in pages for hit in page]
    assert [len(page) for page in pages] == [50, 50, 50, 50, 20, 0]
    assert len(set(places)) == functions


def test_an_answer_fits_the_tokens_that_are_left_for_it(driver: Driver, long: str) -> None:
    """The best results are whole, others by lines that are in the file, and what is missing is counted (R52)."""
    whole = ask(driver, "barley letter invoice")
    for most in (LEAST_TOKENS, 500, 1_000):
        fitted = ask(driver, "barley letter invoice", max_tokens=most)
        assert len(fitted.model_dump_json()) <= 4 * most
        assert fitted.shortened + fitted.omitted > 0
        assert len(fitted.results) + fitted.omitted == len(whole.results)
        assert fitted.results[0].symbol == whole.results[0].symbol
    assert ask(driver, "barley letter invoice", max_tokens=MOST_TOKENS) == whole
    assert long


@pytest.mark.parametrize(
    ("query", "options", "text"),
    [
        ("  ", {}, "is empty"),
        ("x" * 2001, {}, "2,001 characters"),
        ("a\0b", {}, "NUL"),
        ("x", {"limit": 0}, "between 1 and 50"),
        ("x", {"limit": 51}, "between 1 and 50"),
        ("x", {"max_tokens": 199}, "max_tokens 199 is not between 200 and 100,000"),
        ("x", {"offset": -1}, "offset -1"),
        ("x", {"offset": 10**20}, "10,000"),
        ("x", {"languages": ("a\0b",)}, "languages"),
        ("x", {"project_id": "\ud800"}, "project_id"),
        ("x", {"path_glob": "!*.py"}, "names no paths"),
        ("x", {"path_glob": "[z-a].py"}, "cannot be matched: invalid regular expression"),
    ],
)
def test_a_bad_query_is_refused(shared: Driver, query: str, options: dict[str, object], text: str) -> None:
    """Empty, over-long and out of bounds: each has its own text (R53)."""
    with pytest.raises(ValidationError, match=text):
        ask(shared, query, **options)


def test_an_unknown_repository_is_an_error_with_the_next_step(shared: Driver, tmp_path: Path) -> None:
    """The text names the command that indexes it (R53)."""
    with pytest.raises(RepositoryNotFound, match="penstock index"):
        ask(shared, "x", repo_path=tmp_path / "unknown")


@pytest.mark.parametrize(
    "query", ["'; DROP TABLE penstock.chunks; --", "a & | ! ( b", "\\", "the of and", "日本語", "🦜"]
)
def test_no_query_breaks_the_search(shared: Driver, query: str) -> None:
    """Quotes, operators, stop words and any script are only words (R53)."""
    assert ask(shared, query).limit == 10
