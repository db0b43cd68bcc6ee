"""A search over real rows: filters, paging, what it says of the index, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from pipeline.errors import EmbedderUnavailable, RepositoryNotFound, ValidationError
from pipeline.search import SearchRequest, search
from tests.driving import Driver
from tests.embedders import WilfulEmbedder
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
    driver = Driver(engine, embedder=WilfulEmbedder())
    driver.index(write(tmp_path / "shop", FILES))
    return driver


def ask(driver: Driver, query: str, **options: object) -> SearchResults:
    """Search on the driver's database."""
    request = replace(SearchRequest(query), **options)  # type: ignore[arg-type]
    return search(driver.engine, driver.bench.embedder_for, request)


@pytest.mark.parametrize(
    ("query", "path", "symbol"),
    [
        ("deliver a letter", "src/mail.py", "Mailer"),
        ("append to a queue", "src/queue.go", "Push"),
        ("addToCart", "web/cart.js", "addToCart"),
        ("how is beer made: hops and malt", "docs/brewing.md", "Brewing"),
    ],
)
def test_the_best_hit_is_the_right_one(driver: Driver, query: str, path: str, symbol: str) -> None:
    """Words, identifiers and prose find their file, with symbol and lines (R52)."""
    best = ask(driver, query).results[0]
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
def test_filters_keep_what_they_name(driver: Driver, options: dict[str, object], paths: set[str]) -> None:
    """Language, path glob, kind and project narrow the answer (R52)."""
    assert {hit.path for hit in ask(driver, "message", **options).results} == paths


def test_pages_follow_each_other(driver: Driver) -> None:
    """offset goes on where the page before ended, without gaps or repeats (R52)."""
    everything = [hit.path for hit in ask(driver, "message").results]
    pages = [hit.path for offset in (0, 2) for hit in ask(driver, "message", limit=2, offset=offset).results]
    assert pages == everything[:4]
    assert len(set(pages)) == 4


def test_without_its_embedder_the_words_decide_and_the_answer_says_so(driver: Driver) -> None:
    """An embedder that is away weakens a search; it does not end it (R51, R52)."""

    class Absent(WilfulEmbedder):
        def embed_query(self, query: str) -> NoReturn:
            raise EmbedderUnavailable(f"the server does not answer: {query}")

    driver.embedder = Absent()
    found = ask(driver, "letter")
    assert found.note == "ranked by words only: the server does not answer: letter"
    assert [hit.path for hit in found.results] == ["src/mail.py"]


@pytest.mark.parametrize(
    ("query", "options", "text"),
    [
        ("  ", {}, "is empty"),
        ("x" * 2001, {}, "2,001 characters"),
        ("a\0b", {}, "NUL"),
        ("x", {"limit": 0}, "between 1 and 50"),
        ("x", {"limit": 51}, "between 1 and 50"),
        ("x", {"offset": -1}, "offset -1"),
        ("x", {"offset": 10**20}, "10,000"),
        ("x", {"languages": ("a\0b",)}, "languages"),
        ("x", {"project_id": "\ud800"}, "project_id"),
        ("x", {"path_glob": "!*.py"}, "names no paths"),
        ("x", {"path_glob": "[z-a].py"}, "cannot be matched: invalid regular expression"),
    ],
)
def test_a_bad_query_is_refused(driver: Driver, query: str, options: dict[str, object], text: str) -> None:
    """Empty, over-long and out of bounds: each has its own text (R53)."""
    with pytest.raises(ValidationError, match=text):
        ask(driver, query, **options)


def test_an_unknown_repository_is_an_error_with_the_next_step(driver: Driver, tmp_path: Path) -> None:
    """The text names the command that indexes it (R53)."""
    with pytest.raises(RepositoryNotFound, match="penstock index"):
        ask(driver, "x", repo_path=tmp_path / "unknown")


@pytest.mark.parametrize(
    "query", ["'; DROP TABLE penstock.chunks; --", "a & | ! ( b", "\\", "the of and", "日本語", "🦜"]
)
def test_no_query_breaks_the_search(driver: Driver, query: str) -> None:
    """Quotes, operators, stop words and any script are only words (R53)."""
    assert ask(driver, query).limit == 10
