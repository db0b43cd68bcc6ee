"""The questions that are asked of a tree, and their right answers: from its own descriptions, names and paths."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ops.bench.quality.definitions import DESCRIBED, bare, definitions
from ops.bench.quality.messages import messages
from ops.bench.quality.records import BARE, Place, Question
from ops.bench.quality.stemming import stem
from ops.model.descriptions import summary
from ops.model.pairs import PASSED_OVER
from pipeline.languages import language_of
from pipeline.tokenizing import subwords

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ops.bench.quality.definitions import Bare, Found
    from ops.bench.quality.sources import Tree

MOST: Final = {"docstring": 200, "hard": 200, "symbol": 200, "path": 50, "error": 100}
MOST_ANSWERS: Final = 3
LEAST_WORDS: Final = 3
SHORTEST_NAME: Final = 4
USED_ELSEWHERE: Final = 3
"""A name that so many files use is one whose uses compete with its definition."""
HEAD: Final = 4_000
JOINTS: Final = {"cpp": "::", "rust": "::", "php": "::", "ruby": "#"}
FILLERS: Final = frozenset(
    "a all an and any are as at be been being by can do does for from given has have if in into is it its may not of on"
    " or should that the then there this to was were when whether which will with".split()
)
OTHER_TESTS: Final = re.compile(r"(?:_tests?|Tests?)\.\w+$")
GENERATED: Final = re.compile(r"\.pb\.|[._]gen\.|generated")
NO_HOLDERS: Final = frozenset({"", "self", "this", "module", "exports", "prototype"})
WORD: Final = re.compile(r"\w+")


class Survey:
    """What is found in a tree: the language of each file, its definitions, and the file without descriptions."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.languages = {path: language_of(path, text[:HEAD].encode()) for path, text in tree.files.items()}
        self.found: dict[str, list[Found]] = {}
        self.bare: dict[str, Bare] = {}
        for path, text in tree.files.items():
            self.found[path] = list(definitions(text, self.languages[path]))
            self.bare[path] = bare(text, self.languages[path], self.found[path])

    def asked(self) -> Iterator[str]:
        """Yield the paths of the files that questions are about: no tests, examples or copies of others' code."""
        for path, language in self.languages.items():
            if self.tree.package.writes(language) and not any(
                pattern.search(path) for pattern in (PASSED_OVER, OTHER_TESTS, GENERATED)
            ):
                yield path

    def question(self, task: str, query: str, answers: Iterable[Place], tree: str) -> Question:
        """Return a question of this tree."""
        package = self.tree.package
        return Question(task, package.label, package.language, query, tuple(answers), tree)


def questions(survey: Survey) -> list[Question]:
    """Return a sample of the questions of every task, the same ones each time."""
    found = [*described(survey), *symbols(survey), *paths(survey), *errors(survey)]
    by_task = defaultdict(list)
    for question in found:
        by_task[question.task].append(question)
    return [question for task, most in MOST.items() for question in sample(by_task[task], most)]


def sample(found: Iterable[Question], most: int) -> list[Question]:
    """Return up to `most` questions, in an order that depends on nothing but them."""
    ordered = sorted(found, key=lambda question: (question.query, question.answers[0].path))
    random.Random(len(ordered)).shuffle(ordered)  # noqa: S311 - of no secret
    return ordered[:most]


def described(survey: Survey) -> Iterator[Question]:
    """Yield the first sentence of each description, and the same without the words of what it describes."""
    answers: dict[str, list[Place]] = defaultdict(list)
    names: dict[str, set[str]] = defaultdict(set)
    for path in survey.asked():
        file = survey.bare[path]
        for each, said in file.described:
            query = _without_own_name(summary(said.text) or "", each.name)
            if len(query.split()) >= LEAST_WORDS:
                answers[query].append(Place(path, file.row(each.row) + 1, file.row(each.named) + 1))
                names[query] |= {stem(word) for word in subwords(each.name)}
    for query, places in answers.items():
        if len(places) <= MOST_ANSWERS:
            yield survey.question("docstring", query, places, BARE)
            if harder := without_words(query, names[query]):
                yield survey.question("hard", harder, places, BARE)


def _without_own_name(query: str, name: str) -> str:
    """Return a description that does not begin with the name, as Go's comments do: nobody would ask so."""
    first, _, rest = query.partition(" ")
    return rest if first == name else query


def without_words(query: str, names: set[str]) -> str | None:
    """Return a query without the words, and the identifiers of words, that are in a name; None when little is left."""
    kept = [word for word in query.split() if not names & {stem(part) for part in subwords(word)}]
    said = [word for word in kept if (bare := word.lower().strip(".,:;()'\"")) not in FILLERS and len(bare) > 1]
    return " ".join(kept) if len(said) >= LEAST_WORDS else None


def symbols(survey: Survey) -> Iterator[Question]:
    """Yield names as users type them: alone, of those that other files use, and with what holds them."""
    places: dict[str, list[Place]] = defaultdict(list)
    alone, held = set(), set()
    for path, found in survey.found.items():
        language = survey.languages[path]
        for each in found:
            holder, _, name = each.symbol.rpartition(".")
            holder = holder.rpartition(".")[2]
            names = [name, f"{holder}{JOINTS.get(language, '.')}{name}"][: 1 if holder in NO_HOLDERS | {name} else 2]
            for spelled in names:
                places[spelled].append(Place(path, each.row + 1, each.named + 1))
            if _is_asked_for(each):
                alone.add(name)
                held |= {*names[1:]} if language != "c" else set()
    users = Counter(word for text in survey.tree.files.values() for word in set(WORD.findall(text)))
    used = {name for name in alone if users[name] >= USED_ELSEWHERE}
    quota = MOST["symbol"] // 3
    for asked, most in ((alone - used, quota), (used, quota), (held, quota + 2)):
        yield from sample(_of_names(survey, "symbol", {name: places[name] for name in asked}), most)


def _is_asked_for(found: Found) -> bool:
    dunder = found.name.startswith("__") and found.name.endswith("__")
    return found.kind in DESCRIBED and len(found.name) >= SHORTEST_NAME and found.name.isidentifier() and not dunder


def _of_names(survey: Survey, task: str, places: Mapping[str, list[Place]]) -> Iterator[Question]:
    asked = set(survey.asked())
    for name, answers in places.items():
        if len(answers) <= MOST_ANSWERS and any(place.path in asked for place in answers):
            yield survey.question(task, name, answers, "whole")


def paths(survey: Survey) -> Iterator[Question]:
    """Yield names of files, and the ends of their paths."""
    places: dict[str, list[Place]] = defaultdict(list)
    for path in survey.tree.files:
        parts = PurePath(path).parts
        for count in {1, min(2, len(parts))}:
            places["/".join(parts[-count:])].append(Place(path))
    yield from _of_names(survey, "path", places)


def errors(survey: Survey) -> Iterator[Question]:
    """Yield the messages that code raises, throws or prints, as a user would see them."""
    places: dict[str, dict[Place, None]] = defaultdict(dict)
    for path in survey.asked():
        for message, first, last in messages(survey.tree.files[path], survey.languages[path]):
            places[message][Place(path, first, last)] = None
    for message, answers in places.items():
        if len(answers) <= MOST_ANSWERS:
            yield survey.question("error", message, answers, "whole")


def few(found: Iterable[Question], most: int) -> list[Question]:
    """Return at most so many questions of each task and source, the first of the sample."""
    groups = defaultdict(list)
    for question in found:
        groups[question.source, question.task].append(question)
    return [question for group in groups.values() for question in islice(group, most)]
