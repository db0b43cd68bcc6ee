"""What makes the local model: pairs out of sources, and a training whose gradient is right."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from ops.model.collect import Source, sources
from ops.model.descriptions import summary
from ops.model.evaluate import HELD_OUT, by_family, embedder, judged, remarked
from ops.model.examples import BUCKETS, beside, chosen, encoded, reciprocal_ranks, vocabulary
from ops.model.pairs import Pair, pairs_of
from ops.model.training import Bags, Trainer, contrast, spread, summed
from pipeline.embedders import Passage

if TYPE_CHECKING:
    from pathlib import Path

SOURCE: Final = {
    "shop/retries.py": '''
def delay(attempt: int) -> float:
    """Return the seconds to wait before the next attempt.

    :param attempt: how many there were
    """
    return min(60.0, 0.5 * 2**attempt)
''',
    "shop/till.go": """
// Total adds up the prices of all items.
func (t *Till) Total(items []Item) int {
	sum := 0
	for _, item := range items { sum += item.Price }
	return sum
}
""",
    "shop/tests/test_till.py": 'def test_it():\n    """This is only about a test of it."""\n    assert 1 + 1 == 2\n',
}
NEVER: Final = "django sqlalchemy scikit-learn twisted celery sympy requests flask mypy ansible ansible-core penstock"


def test_definitions_are_paired_with_what_is_written_about_them(tmp_path: Path) -> None:
    """The query is the first sentence, the passage has none of it, and tests are passed over."""
    archive = tmp_path / "shop-1.0.whl"
    with zipfile.ZipFile(archive, "w") as bundle:
        for name, content in SOURCE.items():
            bundle.writestr(name, content)
    found = {pair.passage.symbol: pair for pair in pairs_of(archive, 10)}
    assert found["delay"].query == "Return the seconds to wait before the next attempt."
    assert found["delay"].passage.content.split("\n") == [
        "def delay(attempt: int) -> float:",
        "    return min(60.0, 0.5 * 2**attempt)",
    ]
    assert found["Till.Total"].query == "Total adds up the prices of all items."
    assert found["Till.Total"].passage.content.startswith("func (t *Till) Total")
    assert not [symbol for symbol in found if symbol.startswith("test")]


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("@brief Reads one line of the file.\n@param file the file", "Reads one line of the file."),
        ("Gets the {@link User} of a session, or none at all.", "Gets the User of a session, or none at all."),
        ("Copyright 2020 by somebody or other.", None),
        ("TODO: find out what this is about", None),
        ("Short.", None),
    ],
)
def test_a_summary_is_a_sentence_about_the_code(written: str, query: str | None) -> None:
    """Markup goes, and what describes nothing is no query."""
    assert summary(written) == query


def test_a_chunk_is_found_by_all_that_it_defines(tmp_path: Path) -> None:
    """A passage is a chunk as the product cuts it, without any description; the code between has no query."""
    archive = tmp_path / "shop-1.0.whl"
    methods = "".join(
        f'    def {name}(self):\n        """{said}"""\n        return self.{name}_of(1, 2, 3)\n\n'
        for name, said in (
            ("price", "Say what a thing costs."),
            ("stock", "Count what is left of it."),
            ("tax", "Tax."),
        )
    )
    plain = "".join(
        f"def step_{number}(first, second):\n    return first + second * {number}\n\n" for number in range(99)
    )
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("shop.py", f"class Thing:\n{methods}\n{plain}")
    found = pairs_of(archive, 10)
    asked = {pair.name: pair for pair in found if pair.query}
    assert set(asked) == {"price", "stock"}
    assert asked["price"].passage == asked["stock"].passage
    assert "def tax(self)" in asked["price"].passage.content
    assert not any(said in asked["price"].passage.content for said in ("costs", "left of it", "Tax."))
    assert all("def step_" in pair.passage.content for pair in found if not pair.query)
    assert any(not pair.query for pair in found)


def test_only_the_version_that_the_table_names_is_read(tmp_path: Path) -> None:
    """Debian gives out today's version of a source; another than the table's is refused, and so are signatures."""
    for version in ("1.2.13", "1.2.130", "1.3"):
        for ending in ("orig.tar.gz", "orig-extra.tar.xz", "orig.tar.gz.asc"):
            (tmp_path / f"zlib_{version}.{ending}").touch()
    found = Source("debian", "zlib", "1.2.13", "Zlib", "train").archives(tmp_path)
    assert [path.name for path in found] == ["zlib_1.2.13.orig-extra.tar.xz", "zlib_1.2.13.orig.tar.gz"]
    assert not Source("debian", "zlib", "1.2.12", "Zlib", "train").archives(tmp_path)


def test_a_section_of_prose_is_paired_with_its_heading(tmp_path: Path) -> None:
    """A heading that says enough is the query, and else the first sentence; neither is in the passage."""
    archive = tmp_path / "shop-1.0.whl"
    text = "All prices are kept in cents, because of rounding, and never as fractions of a whole number.\n"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("docs/till.md", f"# How the till counts\n\n{text}\n# Till\n\nIt adds up all.\n\n{text * 9}")
        bundle.writestr("CHANGES.md", f"# What was changed again\n\n{text}")
    found = {pair.query: pair.passage for pair in pairs_of(archive, 10)}
    assert set(found) == {"How the till counts", "It adds up all."}
    assert found["How the till counts"] == Passage("", f"\n{text.rstrip()}")
    assert found["It adds up all."].symbol == "Till"
    assert "adds up" not in found["It adds up all."].content


def test_comments_of_all_kinds_are_read(tmp_path: Path) -> None:
    """An empty line of a comment does not end it (Ruby), and what follows the first sentence is kept apart."""
    archive = tmp_path / "shop-1.0.whl"
    comment = "# Adds up the prices of all items.\n#\n# Empty tills give nothing.\n"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("till.rb", f"{comment}def total(items)\n  items.sum do |item| item.price end\nend\n")
    (found,) = pairs_of(archive, 10)
    assert (found.query, found.remarks) == ("Adds up the prices of all items.", " Empty tills give nothing.")
    assert "#" not in found.passage.content
    assert remarked(found).passage.content.startswith("//  Empty tills give nothing.\n")


def pair(number: int) -> Pair:
    """Return one of many pairs of one source."""
    words = [f"word{letter}" for letter in "abcdefgh"[number % 5 :]]
    return Pair("shop", "python", "function", " ".join(words[:4]), Passage(f"shop.{words[0]}", "\n".join(words)))


def test_the_gradient_is_that_of_the_loss() -> None:
    """Moving the sums of 5 queries, their passages and 3 others a little changes the loss as the gradient says."""
    chance = np.random.default_rng(3)
    sums, step = chance.standard_normal((13, 8)), chance.standard_normal((13, 8)) * 1e-5
    labels = np.array([[1, 6], [2, 7], [3, 8], [4, 6], [2, 9]])
    _, pull, _ = contrast(sums, labels, 3.0)
    rise = contrast(sums + step, labels, 3.0)[0] - contrast(sums - step, labels, 3.0)[0]
    assert rise == pytest.approx(2 * (pull * step).sum(), rel=1e-3)


def test_bags_are_summed_in_blocks() -> None:
    """Sums and gradients are those of all words at once, however many blocks they are worked on in."""
    chance = np.random.default_rng(4)
    lengths = chance.integers(1, 90, 150)
    owners, starts = np.repeat(np.arange(150), lengths), np.cumsum(lengths) - lengths
    rows = chance.integers(0, 40, len(owners)).astype(np.int32)
    vectors, pull = (chance.standard_normal((size, 6)).astype(np.float32) for size in (50, 150))
    weights = chance.random(len(rows), np.float32)
    sums, gradient = np.zeros((150, 6), np.float32), np.zeros((50, 6), np.float32)
    np.add.at(sums, owners, vectors[rows] * weights[:, None])
    np.add.at(gradient, rows, pull[owners] * weights[:, None])
    assert summed(vectors, rows, weights, starts) == pytest.approx(sums, abs=1e-4)
    used, found, felt = spread(vectors, rows, weights, pull, owners)
    assert used.tolist() == sorted(set(rows.tolist()))
    assert found == pytest.approx(gradient[used], abs=1e-3)
    assert felt == pytest.approx((vectors[rows] * pull[owners]).sum(axis=1) * weights, abs=1e-4)


def test_some_queries_become_questions() -> None:
    """Some queries get words that make them questions; a fifth of all words is left out, and no bag is empty."""
    one = encoded(pair(0), vocabulary([pair(0)] * 3))
    bags = Bags.of([one] * 900, np.random.default_rng(5), [99])
    assert set(bags.owners.tolist()) == set(range(1_800))
    assert bags.starts.tolist() == np.searchsorted(bags.owners, range(1_800)).tolist()
    asked = bags.owners[(bags.rows == 99) & (bags.fields == -1)]
    assert 900 * 0.1 < len(set(asked.tolist())) < 900 * 0.2
    words = 900 * (len(one.query_rows) + len(one.rows)) + 3 * 900 * 0.15
    assert words * 0.78 < len(bags.rows) < words * 0.88


def test_some_queries_do_without_the_name() -> None:
    """The words of the definition's name go at times, where two others are left; no other chunk has a query."""
    rows = {word: row for row, word in enumerate("give back the worker lock".split())}
    known = Pair("shop", "go", "function", "gives back the locked worker", Passage("", "x"), name="LockWorkers")
    asked = [encoded(known, rows), encoded(replace(known, query="the locked worker"), rows)]
    assert asked[0].named.tolist() == [False, False, False, True, True]
    bags = Bags.of(asked * 400, np.random.default_rng(5), others=asked[:1] * 9)
    assert len(bags.starts) == 1_609
    named = np.isin(bags.rows, asked[0].query_rows[asked[0].named]) & (bags.fields == -1)
    without = set(range(800)) - set(bags.owners[named].tolist())
    assert 400 * 0.1 < len([owner for owner in without if owner % 2 == 0]) < 400 * 0.28
    assert len([owner for owner in without if owner % 2]) < 400 * 0.1


def synonyms() -> list[Pair]:
    """Return pairs whose queries and passages have no word in common, but always the same words for the same thing."""
    things = [f"{first}{second}" for first in "bdfgklmp" for second in "aeioruvy"]
    return [
        Pair("shop", "python", "function", f"ask {thing}x", Passage(f"{thing}z", f"def {thing}z():\n    tell"))
        for thing in things * 8
    ]


def trained(rounds: int) -> Trainer:
    """Return a trainer that has seen the synonyms so often."""
    pairs = synonyms()
    rows = vocabulary(pairs)
    first = np.random.default_rng(6).standard_normal((len(rows) + BUCKETS, 32)) / 100
    others = [replace(pair, query="", passage=Passage("", "lend")) for pair in pairs[:9]]
    trainer = Trainer(pairs, rows, first.astype(np.float32), others)
    trainer.run(lambda _step, _loss: None, rounds)
    return trainer


def test_training_finds_what_words_mean() -> None:
    """What is asked for in other words is found after training."""
    things = synonyms()[:64]
    assert judged(embedder(trained(1).model("first")), things).mean < 0.3
    assert judged(embedder(trained(30).model("second")), things).mean > 0.7


def test_training_is_repeatable() -> None:
    """The same pairs give the same weights, bit by bit."""
    first, second = trained(2).model("first"), trained(2).model("second")
    assert np.array_equal(first.vectors, second.vectors)
    assert np.array_equal(first.query_weights, second.query_weights)


def test_other_chunks_are_half_as_many() -> None:
    """Of each source, chunks that nothing is written about are kept beside the pairs."""
    silent = replace(pair(0), query="")
    assert beside([silent] * 9 + [pair(0)] * 9, most=8) == [silent] * 4
    assert chosen([silent] * 9, most=8) == []


def test_few_pairs_ask_the_same() -> None:
    """Generated code says the same of hundreds of functions."""
    assert len(chosen([pair(0)] * 9, most=100)) == 4
    assert len(chosen([pair(number) for number in range(5)] * 2, most=3)) == 3


def test_words_that_are_rare_share_buckets() -> None:
    """Only what was seen three times has a row of its own."""
    pairs = [pair(number) for number in range(5)]
    rows = vocabulary(pairs)
    assert set(rows) == {"worde", "wordf", "wordg", "wordh", "shop"} | {"wordd", "wordc"}
    assert max(encoded(pairs[0], rows).rows) >= len(rows)


def test_ranks_count_within_a_source() -> None:
    """A query competes with the passages of its own source; beyond the depth there is nothing."""
    same = np.eye(3, dtype=np.float32)
    assert reciprocal_ranks(same, same, ["a", "a", "b"]).tolist() == [1, 1, 1]
    assert reciprocal_ranks(same, same[::-1], ["a", "a", "a"], depth=1).tolist() == [0, 1, 0]


def test_packages_are_judged_by_the_language() -> None:
    """A package counts with each language that it has enough of; the interval holds the mean."""
    pairs = [replace(pair(0), query=f"find the item number {number}", language=language)
             for number in range(45) for language in ("c", "go")[: 1 + (number < 9)]]  # fmt: skip
    families = by_family(pairs)
    assert {family: len(found) for family, found in families.items()} == {"C, C++": 45}
    chance = np.random.default_rng(2)
    near = chance.standard_normal((45, 4)).astype(np.float32)
    score = judged(lambda _: (near, near + chance.standard_normal((45, 4)).astype(np.float32)), families["C, C++"])
    assert 0 < score.low < score.mean < score.high < 1


def test_what_is_kept_to_judge_by_is_no_source() -> None:
    """The table names licences, and nothing that the model is judged by."""
    assert all(source.licence and source.version for source in sources())
    assert not {source.name.lower() for source in sources()} & set(NEVER.split())
    assert {source.use for source in sources()} == {"train", "develop"}
    assert not {source.name.lower() for source in sources()} & {source.name.lower() for source in sources(HELD_OUT)}
