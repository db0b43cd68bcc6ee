"""What embedding models expect before a passage and before a query, by model family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.embedders import Passage


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prefixes that a model was trained with."""

    passage: str = ""
    query: str = ""

    def of_passage(self, passage: Passage) -> str:
        """Return what is embedded of a passage: the prefix, a header line with the symbol, the content."""
        header = f"{passage.symbol}\n" if passage.symbol else ""
        return encodable(f"{self.passage}{header}{passage.content}")

    def of_query(self, query: str) -> str:
        """Return what is embedded of a query."""
        return encodable(f"{self.query}{query}")


RETRIEVAL: Final = Prompts(query="Represent this sentence for searching relevant passages: ")
FAMILIES: Final[Mapping[str, Prompts]] = {
    # From each model's card; families that are not named here (all-minilm, bge-m3, …) were trained without prefixes.
    "nomic-embed-text": Prompts("search_document: ", "search_query: "),
    "nomic-embed-text-v2-moe": Prompts("search_document: ", "search_query: "),
    "nomic-embed-code": Prompts(query="Represent this query for searching relevant code: "),
    "mxbai-embed-large": RETRIEVAL,
    "bge-large": RETRIEVAL,
    "snowflake-arctic-embed": RETRIEVAL,
    "snowflake-arctic-embed2": Prompts(query="query: "),
    "embeddinggemma": Prompts("title: none | text: ", "task: code retrieval | query: "),
    "qwen3-embedding": Prompts(query="Instruct: Given a search query, retrieve the code that answers it\nQuery: "),
}


def prompts_of(model: str) -> Prompts:
    """Return the prompts of a model named as Ollama names it (`[namespace/]family[:tag]`)."""
    family = model.rpartition("/")[2].partition(":")[0].lower()
    return FAMILIES.get(family, Prompts())


def encodable(text: str) -> str:
    """Return the text without lone surrogates, which JSON over HTTP cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
