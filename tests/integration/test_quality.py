"""The quality bench over real rows: it asks the product, and others, and knows a right answer."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from ops.bench.quality import minilm, ollama_server
from ops.bench.quality.home import Home
from ops.bench.quality.sources import Package, Tree, lay_out
from ops.bench.quality.systems import systems
from ops.bench.quality.tasks import Survey, questions
from pipeline.embedders import Passage
from pipeline.embedders.choosing import EmbedderConfig, choose
from pipeline.errors import ModelMissing
from tests.driving import Driver

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

FILES: Final = {
    "shop/till.py": '''
class Till:
    def give_change(self, paid):
        """Count out the coins that are owed to a customer."""
        return split(paid, self.coins)
''',
    "shop/letters.py": '''
def frank(letter):
    """Put the right stamp on an envelope before it is sent."""
    return letter.stamped(postage(letter.weight))
''',
    "shop/doors.py": '''
def close_doors(doors):
    """Lock up the building for the night."""
    for door in doors:
        door.lock()
''',
}
SHOP: Final = Package("pypi", "shop", "1.0", "MIT", "develop", small=True, language="python", folders=())


def test_the_product_and_bm25_are_asked_and_judged(engine: Engine, tmp_path: Path) -> None:
    """Each system finds the definitions of a tiny tree by their names, through the store."""
    driver = Driver(engine)
    lay_out(FILES, tmp_path / "tree")
    driver.index(tmp_path / "tree")
    home = Home(tmp_path, {}, engine, driver.bench.embedder_for)
    asked = [each for each in questions(Survey(Tree(SHOP, FILES))) if each.task == "symbol"]
    assert {each.query for each in asked} >= {"give_change", "Till.give_change", "frank", "close_doors"}
    for name in ("hybrid", "vectors", "words", "bm25"):
        answered = [systems()[name].answer(home, tmp_path / "tree", each) for each in asked]
        assert [each.rank for each in answered] == [1] * len(asked), name


def test_minilm_is_reached_as_an_ollama_server(tmp_path: Path) -> None:
    """What was embedded once is answered again, over real HTTP; a model that it is not is missing."""
    file = tmp_path / "vectors.sqlite"
    with ollama_server.serving(file) as host, sqlite3.connect(file) as kept:
        vector = np.eye(1, minilm.DIMENSION, dtype=np.float32)[0]
        name = blake2b(b"Till\nreturn 1", digest_size=16).digest()
        kept.execute("INSERT INTO vectors VALUES (?, ?)", (name, vector.tobytes()))
        kept.commit()
        config = EmbedderConfig(ollama_host=host)
        answer = choose("ollama", ollama_server.MODEL, config).embed([Passage("Till", "return 1")])
        assert np.array_equal(answer.vectors, [vector])
        with pytest.raises(ModelMissing):
            choose("ollama", "nomic-embed-text", config).embed_query("anything")
