"""The quality bench: what it asks of a tree, and what it makes of the answers."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from math import log2
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from ops.bench.quality.bm25 import Bm25
from ops.bench.quality.definitions import bare, definitions
from ops.bench.quality.history import prepare_history
from ops.bench.quality.messages import messages
from ops.bench.quality.metrics import resampled, rows, scores
from ops.bench.quality.records import BARE, Answered, Place, Question
from ops.bench.quality.sources import Package, Tree, lay_out, packages, read
from ops.bench.quality.stemming import stem
from ops.bench.quality.systems import chosen, systems
from ops.bench.quality.tasks import Survey, questions, without_words
from ops.model.collect import sources
from pipeline.ranking import Signals
from tests.repositories import git, repository, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SHOP: Final = Package("pypi", "shop", "1.0", "MIT", "develop", small=True, language="python", folders=())
TILL: Final = '''"""A till."""


class Till:
    """Holds the money that customers have paid today."""

    def give_change(self, paid: int) -> int:
        """
        Count out the coins that are owed to a customer.

        Nothing else.
        """
        if paid < 0:
            raise ValueError(f"cannot give change for {paid!r} coins from {self.path}")
        return paid


def forgotten():
    """Do nothing that anybody knows of."""
'''
FILES: Final = {
    "shop/till.py": TILL,
    "shop/counter.py": "from shop.till import Till\n\n\ndef serve(till):\n    return till.give_change(3)\n",
    "tests/test_till.py": 'def test_it():\n    """This sentence is only about a test of it."""\n',
}


def asked(task: str, rank: int | None, *, source: str = "shop", answers: Sequence[str] = ("a",)) -> Answered:
    """Return an answer whose right hit is at this rank."""
    hits = tuple(Place("a" if at == rank else "wrong", 1, 30) for at in range(1, 11))
    return Answered(Question(task, source, "python", "q", tuple(map(Place, answers))), hits)


# --- measures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (1, (1, 1, 1, 1, 1)),
        (3, (1 / 3, 0, 1, 1 / 2, 1)),
        (4, (1 / 4, 0, 1, 1 / log2(5), 0)),
        (10, (0.1, 0, 1, 1 / log2(11), 0)),
        (None, (0, 0, 0, 0, 0)),
    ],
)
def test_an_answer_is_worth_its_rank(rank: int | None, expected: tuple[float, ...]) -> None:
    """MRR@10, Recall@1, Recall@10, NDCG@10 of one right answer, and whether it ends within a hundred lines."""
    assert scores(asked("docstring", rank)) == pytest.approx(expected)


def test_where_every_answer_is_wanted_the_missing_ones_count() -> None:
    """The first and the third of two right files: (1 + 1/2) of (1 + 1/log2 3)."""
    question = Question("commit", "shop", "history", "q", (Place("a"), Place("b"), Place("c")), every=True)
    found = scores(Answered(question, (Place("a"), Place("x"), Place("b"), Place("a"))))
    assert found.ndcg == pytest.approx(1.5 / (1 + 1 / log2(3) + 1 / 2))
    assert found.mrr == 1


def test_a_hit_is_right_when_it_holds_a_line_of_the_answer() -> None:
    """The same file is not enough."""
    question = Question("symbol", "shop", "python", "q", (Place("a", 10, 11),))
    assert Answered(question, (Place("a", 1, 9), Place("b", 10, 10), Place("a", 11, 40))).rank == 3


def test_means_are_over_sources_and_differences_over_pairs() -> None:
    """A source of many questions counts as much as one of few, and one of a handful not at all."""
    large = [asked("docstring", None, source="large") for _ in range(30)]
    small = [asked("docstring", rank, source="small") for rank in (1, 2) * 5]
    tiny = [asked("docstring", 1, source="tiny")]
    better = [asked("docstring", 1, source="large") for _ in range(30)]
    found = {(row.name, row.system): row for row in rows({"one": large + small + tiny, "other": better + small + tiny})}
    assert found["", "one"].mrr.value == pytest.approx((0 + 0.75) / 2)
    assert found["small", "other"].ahead == pytest.approx((0, 0, 0))
    assert found["large", "other"].ahead == pytest.approx((1, 1, 1))
    assert found["tiny", "one"].mrr.value == 1
    low, high = found["small", "one"].mrr[1:]
    assert 0.5 <= low < 0.75 < high <= 1


def test_draws_are_the_same_each_time() -> None:
    """Intervals do not change from run to run."""
    values = [np.random.default_rng(1).random((7, 2, 4)), np.random.default_rng(2).random((3, 2, 4))]
    assert np.array_equal(resampled(values), resampled(values))


# --- trees and questions ----------------------------------------------------------------------------------------------


def test_descriptions_are_taken_out_of_every_definition() -> None:
    """What is left parses as before, and rows are found again."""
    found = list(definitions(TILL, "python"))
    left = bare(TILL, "python", found)
    assert [each.symbol for each in found] == ["Till", "Till.give_change", "forgotten"]
    assert not [word for word in ("customers", "owed", "Nothing else", "anybody") if word in left.text]
    assert left.text.endswith("def forgotten():\n    ...\n")
    lines = left.text.split("\n")
    assert ["def " in lines[left.row(each.named)] for each in found] == [False, True, True]


def test_a_tree_is_asked_for_what_it_describes_names_and_raises() -> None:
    """Each task has its questions, none about tests, with answers where the definitions are."""
    survey = Survey(Tree(SHOP, FILES))
    found = {(each.task, each.query): each for each in questions(survey)}
    described = found["docstring", "Count out the coins that are owed to a customer."]
    (place,) = described.answers
    assert described.tree == BARE
    assert survey.bare[place.path].text.split("\n")[place.first - 1].strip().startswith("def give_change")
    assert ("hard", "Holds the money that customers have paid today.") in found
    assert found["symbol", "Till.give_change"].answers == (Place("shop/till.py", 7, 7),)
    assert ("path", "till.py") in found
    assert found["error", "cannot give change for 'demo' coins from data/x.txt"].answers[0].path == "shop/till.py"
    assert not [key for key, each in found.items() if each.answers[0].path.startswith("tests")]
    assert questions(survey) == questions(Survey(Tree(SHOP, dict(reversed(FILES.items())))))


@pytest.mark.parametrize(
    ("query", "name", "harder"),
    [
        ("Parses the given headers of a letter", {"pars", "letter"}, None),
        ("Return the parsed_header of old letters", {"pars"}, "Return the of old letters"),
    ],
)
def test_harder_questions_lack_the_words_of_the_name(query: str, name: set[str], harder: str | None) -> None:
    """Stems count; a question of which little is left is none."""
    assert without_words(query, name) == harder


@pytest.mark.parametrize(
    ("language", "code", "message"),
    [
        ("go", 'return fmt.Errorf("no such bucket %q in region %s", b, r)', "no such bucket 'demo' in region demo"),
        ("javascript", "throw new Error('No access to table \"' + name + '\"')", 'No access to table "demo"'),
        ("c", 'log_warn("num_runs: %" PRIu64 ", run interval too long", n)', "num_runs: 3, run interval too long"),
        ("c", 'fprintf(stderr, "read %d of %zu bytes, 100%% wrong\\n", n)', "read 3 of 3 bytes, 100% wrong"),
        (
            "java",
            'throw new IllegalStateException("The queue of " + n + " is full now");',
            "The queue of demo is full now",
        ),
        ("python", 'raise ValueError("too short")', None),
        ("javascript", " * throw new Error('this is only an example of one')", None),
        ("python", 'names = ["a list of words", "no message at all"]', None),
    ],
)
def test_messages_are_read_as_a_user_sees_them(language: str, code: str, message: str | None) -> None:
    """Placeholders are filled; what is short, or no message, is left out."""
    assert [found for found, _, _ in messages(f"\n{code}", language)] == ([message] if message else [])
    assert all((first, last) == (2, 2) for _, first, last in messages(f"\n{code}", language))


def test_commits_are_asked_of_the_tree_before_them(tmp_path: Path) -> None:
    """The subject is the query, the files that were there are right; what only adds files is no question."""
    root = repository(tmp_path / "shop", {"till.py": "a = 1\n", "counter.py": "b = 1\n"})
    for subject, content in (
        ("Give the shop a sign", {"sign.py": "c = 1\n"}),
        ("Teach the till to count", {"till.py": "a = 2\n"}),
        ("Add a new door", {"door.py": "\n"}),
    ):
        write(root, content)
        git(root, "add", "-A")
        git(root, "commit", "-m", subject)
    prepared = prepare_history(tmp_path, root, later=2)
    assert [(each.query, each.answers) for each in prepared.questions] == [
        ("Teach the till to count", (Place("till.py"),))
    ]
    assert (prepared.trees["whole"] / "till.py").read_text() == "a = 1\n"


def test_a_package_is_laid_out_in_part(tmp_path: Path) -> None:
    """Only the folders that the table names, no metadata, and nothing of an earlier tree."""
    archive = tmp_path / "shop-1.0.whl"
    with zipfile.ZipFile(archive, "w") as bundle:
        for name in ("shop/a.py", "shop/old/b.py", "other/c.py", "d.py", "shop-1.0.dist-info/METADATA"):
            bundle.writestr(name, f"{name}\n")
    tree = read(SHOP._replace(folders=("shop", ".", "-shop/old")), [archive])
    assert list(tree.files) == ["d.py", "shop/a.py"]
    write(tmp_path / "tree", {"gone.py": "x = 1\n"})
    lay_out(tree.files, tmp_path / "tree")
    assert sorted(each.name for each in (tmp_path / "tree").rglob("*.py")) == ["a.py", "d.py"]


# --- sources and systems ----------------------------------------------------------------------------------------------


def test_nothing_that_the_model_learned_from_is_asked_about() -> None:
    """Held-out and develop are apart from the model's sources and from each other; each has a small part a language."""
    trained = {(source.registry, source.name.lower()) for source in sources() if source.use == "train"}
    found = packages()
    assert not {(package.registry, package.name.lower()) for package in found} & trained
    assert len({package.name for package in found}) == len(found)
    for language in ("python", "javascript", "typescript", "go", "java", "c", "cpp"):
        for use in ("develop", "held-out"):
            assert {package.small for package in found if (package.language, package.set) == (language, use)} >= {True}
    assert all(package.licence and package.version for package in found)


def test_each_signal_can_be_switched_off() -> None:
    """An ablation compares the product with itself, less one signal."""
    names = [system.name for system in chosen(None, compare=False, ablate=True)]
    assert names == ["hybrid", *(f"without-{field.name}" for field in fields(Signals))]
    assert {system.project for system in chosen(None, compare=False, ablate=False)} == {"default"}
    assert {"minilm", "minilm-vectors"} <= {system.name for system in chosen(None, compare=True, ablate=False)}
    assert set(names) < set(systems())


def test_bm25_prefers_rare_words_and_short_texts() -> None:
    """Stems match; a word that all texts have says nearly nothing."""
    index = Bm25(["the parser parses", "the writer", "the parser and much else that is long", "the end"])
    found = index.scores("the parsing")
    assert np.argsort(-found).tolist()[:2] == [0, 2]
    assert index.scores("unheard of").tolist() == [0, 0, 0, 0]


def test_endings_do_not_count() -> None:
    """As Porter's algorithm has it, about."""
    assert len({stem(word) for word in ("parse", "parses", "parsed", "parsing", "parser")}) == 1
    assert stem("status") == "status"
    assert stem("stopping") == stem("stops") == stem("stop")
