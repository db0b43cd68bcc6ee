"""Reads what people wrote about a definition: a docstring, or the comment before it, and its first sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LEAST_WORDS: Final = 4
MOST_WORDS: Final = 60
LONGEST_QUERY: Final = 300

_DEFINED = re.compile(r"\s*(?:async\s+)?(?:def|class)\b")
_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"|#.*")
_DOCSTRING = re.compile(
    r"\s*[rRuUbB]{0,2}(?:\"\"\"(.*?)\"\"\"|'''(.*?)'''|\"([^\"\n]{12,})\")[ \t]*(?:\n|$)", re.DOTALL
)
_COMMENT = re.compile(r"/\*|//|#(?:[\s#]|$)")
_MARKER = re.compile(r"^(?:/\*+!?|///?!?<?|#+|\*+/|\*(?!/))\s?|\s*\*+/$")
_MARKUP = re.compile(r"<[^>]{1,60}>|\{@\w+\s+|\}|:\w+:`~?|`")
_END_OF_SUMMARY = re.compile(
    r"\n\s*\n|\n\s*(?:@|:param|:return|:arg|Args:|Returns|Parameters\s*\n|>>>|\\param|- parameter)"
)
_TAG = re.compile(r"^\s*(?:@(?:brief|description|desc|summary)|\\brief)\s*")
_SENTENCE = re.compile(r"(.{15,}?[.!?])(?:\s|$)")
_NO_DESCRIPTION = re.compile(
    r"https?:|copyright|licen[sc]e|todo|fixme|deprecated|eslint|@internal|generated|nolint|spdx|istanbul|see above"
    r"|@override|frozen_string|coding:|inheritdoc|[;{}]\s*$|=>|==|\breturn\b.*;",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Description:
    """What is written about a definition, on which of its lines (from 0)."""

    text: str
    lines: tuple[int, ...]

    @property
    def plain(self) -> str:
        """The text in one line, without markup."""
        return " ".join(_MARKUP.sub("", self.text).split())


def description(content: str, language: str) -> Description | None:
    """Return what is written about a definition and where; None when nothing is."""
    lines = content.split("\n")
    return _docstring(lines) if language == "python" else _comment(lines)


def _docstring(lines: list[str]) -> Description | None:
    first = next((at for at, line in enumerate(lines) if _DEFINED.match(line)), None)
    if first is None:
        return None
    depth, last = 0, first
    for last in range(first, len(lines)):
        bare = _LITERAL.sub("", lines[last])
        depth += sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
        if depth <= 0 and bare.rstrip().endswith(":"):
            break
    found = _DOCSTRING.match("\n".join(lines[last + 1 :]))
    if found is None:
        return None
    height = len(found[0].removesuffix("\n").split("\n"))
    return Description(next(filter(None, found.groups()), ""), tuple(range(last + 1, last + 1 + height)))


def _comment(lines: list[str]) -> Description | None:
    comment, places, inside = [], [], False
    for at, line in enumerate(map(str.strip, lines)):
        if inside or _COMMENT.match(line):
            comment.append(_MARKER.sub("", _MARKER.sub("", line)))
            places.append(at)
            inside = (inside or line.startswith("/*")) and "*/" not in line
        elif line and not line.startswith(("@", "#[")):
            return Description("\n".join(comment), tuple(places)) if comment else None
    return None


def summary(written: str) -> str | None:
    """Return the first sentence of a description, None when it describes nothing."""
    first = _TAG.sub("", _END_OF_SUMMARY.split(_MARKUP.sub("", written).strip())[0])
    if first.lstrip().startswith("@"):
        return None
    paragraph = " ".join(first.split()).strip("=- *#/")
    sentence = _SENTENCE.match(paragraph)
    text = (sentence[1] if sentence else paragraph)[:LONGEST_QUERY]
    words = len(re.findall(r"[A-Za-z]{2,}", text))
    said = LEAST_WORDS <= words <= MOST_WORDS and not _NO_DESCRIPTION.search(text)
    return text if said and sum(map(str.isascii, text)) >= 0.9 * len(text) else None
