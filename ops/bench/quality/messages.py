"""The messages that code raises, throws or prints, with plausible values where it fills some in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_CALL: Final = 800
LEAST_WORDS: Final = 4
LONGEST: Final = 200

BEGINS: Final = re.compile(
    r"\braise\s+[\w.]+\s*\("
    r"|\bthrow\s+(?:new\s+)?[\w.:]+\s*\("
    r"|\b(?:fmt\.Errorf|errors\.New|errors\.Wrapf?|errors\.Errorf|panic|reject|fail)\s*\("
    r"|\b\w*(?:printf|error|err|warn|warning|fatal|failf|infof|panic|die|log|invalid)\w*!?\s*\(",
    re.IGNORECASE,
)
TOKEN: Final = re.compile(
    r"(?P<literal>[rRbBuUfFL]{0,2}(?:\"\"\"(?P<a>.*?)\"\"\"|'''(?P<b>.*?)'''|\"(?P<c>(?:[^\"\\\n]|\\.)*)\""
    r"|'(?P<d>(?:[^'\\\n]|\\.)*)'|`(?P<e>[^`]*)`))|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comma>[,;])|(?P<plus>\+)|.",
    re.DOTALL,
)
FILLED: Final = re.compile(
    r"\$\{(?P<a>[^{}]*)\}|\{(?P<b>[^{}\s]*(?:\([^{}]*\))?[^{}\s]*)\}"
    r"|%\((?P<c>\w+)\)[-+ #0]*\d*(?:\.\d+)?(?P<d>[a-z])"
    r"|%[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh?|ll?|z|j)?(?P<e>[diouxXeEfFgGcrspqvTw])"
    r"|%(?P<f>%)"
)
COMMENT: Final = re.compile(r"[ \t]*(?:\*|//|/\*|#)")
SPLIT: Final = re.compile(r"(?<!%)%$")
"""As C writes it: `"%" PRIu64`."""
ESCAPE: Final = re.compile(r"\\(.)|\s+")
NUMBERS: Final = frozenset("diouxXeEfFgGc")
QUOTED: Final = frozenset("rq")
JOINED: Final = "\0"


def messages(text: str, language: str) -> Iterator[tuple[str, int, int]]:
    """Yield each message of at least four words with its first and last line, from 1."""
    for begin in BEGINS.finditer(text):
        if COMMENT.match(text, text.rfind("\n", 0, begin.start()) + 1):
            continue
        found = _message(text, begin.end(), language)
        if found is not None:
            message, start, end = found
            yield message, text.count("\n", 0, start) + 1, text.count("\n", 0, end) + 1


def _message(text: str, start: int, language: str) -> tuple[str, int, int] | None:
    """Read the arguments of a call up to the comma after the first text, or the end of the call."""
    depth, at, first, parts = 1, start, None, list[str]()
    for token in TOKEN.finditer(text, start, start + LONGEST_CALL):
        if (literal := next((token[name] for name in "abcde" if token[name] is not None), None)) is not None:
            first = token.start() if first is None else first
            parts += ["d", literal] if SPLIT.search("".join(parts)) else [literal]
            at = token.end()
        elif token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif first is not None and token["plus"]:
            parts.append(JOINED)
        if depth == 0 or (first is not None and token["comma"]):
            break
    message = written(parts, language)
    return None if message is None or first is None else (message, first, at)


def written(parts: list[str], language: str) -> str | None:
    """Return a message as it is seen, None when it is short or no text."""
    joined = re.sub(rf"{JOINED}+", JOINED, "".join(parts))
    joined = re.sub(rf"{JOINED}$", " ", joined) if language == "python" else joined.replace(JOINED, "{}")
    text = ESCAPE.sub(_unescaped, FILLED.sub(_value, joined.replace(JOINED, ""))).strip()
    words = re.findall(r"[A-Za-z]{2,}", FILLED.sub("", joined))
    said = len(words) >= LEAST_WORDS and len(text) <= LONGEST and " " in text.strip()
    return text if said and 2 * sum(map(len, words)) > len(text) - text.count(" ") else None


def _unescaped(escape: re.Match[str]) -> str:
    return {"n": " ", "t": " ", "r": "", "0": ""}.get(escape[1], escape[1]) if escape[1] else " "


def _value(place: re.Match[str]) -> str:
    """Return what a user might see in a placeholder: by its name, else by its type."""
    name = (place["a"] or place["b"] or place["c"] or "").lower()
    kind = place["d"] or place["e"] or ("r" if name.endswith("!r") else "")
    if place["f"]:
        value = "%"
    elif any(word in name for word in ("path", "file")):
        value = "data/x.txt"
    elif kind in NUMBERS or any(word in name for word in ("len", "num", "count", "size", "index")):
        value = "3"
    else:
        value = "demo"
    return f"'{value}'" if kind in QUOTED else value
