"""The local embedder: near for what means the same, the same in every process, and never without an answer."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from pipeline.embedders import Passage
from pipeline.embedders.choosing import EmbedderConfig, choose
from pipeline.embedders.local import DIMENSION, MODEL, SLICE, LocalEmbedder, slices
from pipeline.embedders.prompts import prompts_of
from pipeline.embedders.static_model import WEIGHTS, fields_of, load
from pipeline.errors import JobStopped, ModelMissing, ValidationError
from tests.meanings import FUNCTIONS, QUERIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT: Final = Path(__file__).parents[2]
PRINT_VECTORS: Final = """
import sys
from pipeline.embedders.local import LocalEmbedder
from tests.meanings import FUNCTIONS
sys.stdout.write(LocalEmbedder().embed(FUNCTIONS).vectors.tobytes().hex())
"""


def similarity(left: str, right: str) -> float:
    """Return the cosine of two texts."""
    embedder = LocalEmbedder()
    return float(embedder.embed_query(left) @ embedder.embed_query(right))


def ranks() -> list[int]:
    """Return the rank of the right function for every query, 1 being the best."""
    embedder = LocalEmbedder()
    vectors = embedder.embed(FUNCTIONS).vectors
    symbols = [function.symbol for function in FUNCTIONS]
    scores = [(vectors @ embedder.embed_query(query), symbols.index(symbol)) for query, symbol in QUERIES]
    return [int((score > score[right]).sum()) + 1 for score, right in scores]


def test_functions_are_found_by_what_they_do() -> None:
    """Of thirty functions in three languages, plain words find the right one; the floor is what was measured (R50)."""
    found = ranks()
    assert found.count(1) >= 13
    assert sum(rank <= 3 for rank in found) >= 15
    assert max(found) <= 10


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("remove the user", "delete an account", "sort the list"),
        ("parsing", "parser", "socket"),
        ("getUserName", "get_user_name", "set_file_size"),
        ("authentication", "authenticator", "multiplication"),
        ("la función añade", "función", "clase"),
        ("the database connection of it", "connection", "the of it"),
    ],
)
def test_related_texts_are_nearer_than_unrelated_ones(text: str, near: str, far: str) -> None:
    """Synonyms, word forms, naming styles and spellings meet; filler words do not count (R50)."""
    assert similarity(text, near) > similarity(text, far) + 0.1


def test_a_symbol_counts_more_than_the_body() -> None:
    """A word in the symbol says more of a passage than the same word in its body."""
    vectors = LocalEmbedder().embed([Passage("quota", "x\nledger"), Passage("ledger", "x\nquota")]).vectors
    query = LocalEmbedder().embed_query("quota")
    assert vectors[0] @ query > vectors[1] @ query + 0.2


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_gives_the_same_vectors(seed: str) -> None:
    """Vectors do not depend on the process, whatever its hash seed, bit by bit (R44)."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PRINT_VECTORS]
    printed = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    assert printed == LocalEmbedder().embed(FUNCTIONS).vectors.tobytes().hex()


@pytest.mark.parametrize(
    "content", ["", " \n\t ", "🙂🙃", "(){};", "0", "\0", "caf\udce9", "数据库连接", "x" * 100_000]
)
def test_any_text_has_a_unit_vector(content: str) -> None:
    """Passages without a word get a vector too, finite and of unit length (R51)."""
    vectors = LocalEmbedder().embed([Passage("", content)]).vectors
    assert vectors.shape == (1, DIMENSION)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors[0]) == pytest.approx(1)


def test_a_passage_is_embedded_alone_as_in_a_batch() -> None:
    """A vector does not depend on its neighbours in the request, bit by bit (R44)."""
    together = LocalEmbedder().embed(FUNCTIONS).vectors
    alone = np.vstack([LocalEmbedder().embed([function]).vectors for function in FUNCTIONS])
    np.testing.assert_array_equal(together, alone)


def test_no_passages_are_no_vectors() -> None:
    """An empty request has an empty answer."""
    assert LocalEmbedder().embed([]).vectors.shape == (0, DIMENSION)


def test_the_caller_is_heard_between_slices_of_a_request() -> None:
    """A large request is embedded in slices, as it would be in one, and ends with what `heed` raises (R30)."""
    many = [Passage("", f"total_{i} = {i} " * 700) for i in range(60)]
    heard: list[int] = []
    sliced = LocalEmbedder().embed(many, lambda: heard.append(1))
    assert len(heard) >= 4
    np.testing.assert_array_equal(sliced.vectors[37], LocalEmbedder().embed([many[37]]).vectors[0])

    def stop() -> None:
        raise JobStopped("cancelled")

    with pytest.raises(JobStopped):
        LocalEmbedder().embed(many, stop)
    assert LocalEmbedder().embed(many[:2], stop).vectors.any(axis=1).all()


@pytest.mark.parametrize("lengths", [[], [0], [5], [SLICE + 1], [SLICE, 1, 1, SLICE + 5, SLICE + 5, 3]])
def test_slices_hold_every_passage_once(lengths: list[int]) -> None:
    """Whatever the lengths, the slices follow on each other, none is empty, and a passage too many begins the next."""
    found = list(slices([Passage("", "x" * length) for length in lengths]))
    assert [at for start, stop in found for at in range(start, stop)] == list(range(len(lengths)))
    assert all(sum(lengths[start : stop - 1]) <= SLICE for start, stop in found)


def test_threads_share_one_embedder() -> None:
    """Threads that embed at the same time get the vectors that one thread gets."""
    embedder, expected = LocalEmbedder(), LocalEmbedder().embed(FUNCTIONS).vectors

    def embed(_turn: int) -> NDArray[np.float32]:
        return embedder.embed(FUNCTIONS).vectors

    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(embed, range(12)):
            np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize(
    ("model", "passage", "query"),
    [
        ("nomic-embed-text:v1.5", "search_document: shop.pay\nx = 1", "search_query: pay"),
        (
            "someone/mxbai-embed-large",
            "shop.pay\nx = 1",
            "Represent this sentence for searching relevant passages: pay",
        ),
        ("all-minilm", "shop.pay\nx = 1", "pay"),
    ],
)
def test_models_get_the_prefixes_they_were_trained_with(model: str, passage: str, query: str) -> None:
    """A model is recognised by its family, without namespace and tag (R50)."""
    prompts = prompts_of(model)
    assert prompts.of_passage(Passage("shop.pay", "x = 1")) == passage
    assert prompts.of_query("pay") == query


def test_an_embedder_is_made_once_a_process() -> None:
    """The same name, model and configuration share connections and caches (R50)."""
    config = EmbedderConfig()
    assert choose("local", "", config) is choose("local", MODEL, EmbedderConfig())
    assert choose("ollama", "all-minilm", config) is choose("ollama", "all-minilm", EmbedderConfig())
    assert choose("ollama", "all-minilm", config) is not choose("ollama", "bge-m3", config)
    assert (choose("ollama", "", config).name, choose("ollama", "", config).model) == ("ollama", "nomic-embed-text")


@pytest.mark.parametrize("name", ["openai", ""])
def test_an_unknown_embedder_is_refused(name: str) -> None:
    """A name that does not exist is a mistake of the user, and says what there is (R50)."""
    with pytest.raises(ValidationError, match="local"):
        choose(name, "", EmbedderConfig())


def test_the_model_of_an_older_release_is_missing() -> None:
    """What it had embedded is found by words until it is indexed again: an outage, and no mistake of the user (R50)."""
    with pytest.raises(ModelMissing, match=f"{MODEL}, not penstock-hash-1: index the repository again"):
        choose("local", "penstock-hash-1", EmbedderConfig())


def test_the_weights_are_those_of_the_model() -> None:
    """The files say which model they are, are small, and hold what they promise."""
    model = load()
    assert (model.name, model.dimension) == (MODEL, DIMENSION)
    assert len(model.rows) < len(model.vectors) == len(model.passage_weights) == len(model.query_weights)
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 12_000_000


@pytest.mark.parametrize(
    ("content", "signature"),
    [
        ("@cache\ndef load(path):\n    return path", "def load(path):"),
        ("/**\n * Reads a line.\n */\nint read_line(FILE *in)\n{\n}", "int read_line(FILE *in)"),
        ("#[inline]\npub fn id(self) -> u64 {", "pub fn id(self) -> u64 {"),
        ("#define LIMIT(x) ((x) < 5)", "#define LIMIT(x) ((x) < 5)"),
        ("// nothing but a comment", "// nothing but a comment"),
        ("", ""),
    ],
)
def test_the_first_line_of_code_is_the_signature(content: str, signature: str) -> None:
    """Comments, decorators and attributes before it count as the body; no line is lost."""
    fields = fields_of(Passage("shop.Till.pay", content))
    assert (fields.name, fields.path, fields.signature) == ("pay", "shop.Till", signature)
    assert sorted([*fields.body.split("\n"), signature]) == sorted(
        [*content.split("\n"), *[""] * ("\n" not in content)]
    )
