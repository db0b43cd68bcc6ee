"""Ignore rules as git has them: the patterns of ignore files, and what they say about a path.

Paths and patterns are bytes throughout, because git matches bytes: `?` is half of an `é`.
"""

from __future__ import annotations

import os
import re
import stat
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NEVER: Final = rb"(?!)"
"""A regular expression that matches nothing: what git makes of a malformed pattern."""
LARGEST_IGNORE_FILE: Final = 1_000_000
CLASSES: Final = {
    b"alnum": string.ascii_letters + string.digits,
    b"alpha": string.ascii_letters,
    b"blank": " \t",
    b"cntrl": "".join(map(chr, [*range(32), 127])),
    b"digit": string.digits,
    b"graph": string.ascii_letters + string.digits + string.punctuation,
    b"lower": string.ascii_lowercase,
    b"print": string.ascii_letters + string.digits + string.punctuation + " ",
    b"punct": string.punctuation,
    b"space": string.whitespace,
    b"upper": string.ascii_uppercase,
    b"xdigit": string.hexdigits,
}

_STARS = re.compile(rb"\*+")
_CLASS_NAME = re.compile(rb"\[:([^\]]*):\]")
_WILDCARD = re.compile(rb"[*?\[\\]")
_BEFORE_TRAILING_SPACES = re.compile(rb"((?:\\.|[^\\])*?) *", re.DOTALL)


class MalformedPatternError(ValueError):
    """A pattern that git reads as one that matches nothing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern: whether it ignores or re-includes, and what it is compared with."""

    source: bytes
    regex: re.Pattern[bytes]
    ignores: bool
    folders_only: bool
    by_name: bool


class Rules:
    """The patterns of one ignore file, which apply to the paths below `folder` (b"" for the root)."""

    __slots__ = ("_names", "_paths", "_rules", "_skip")

    def __init__(self, lines: Iterable[bytes], folder: bytes = b"") -> None:
        rules = [rule for rule in map(parse, lines) if rule]
        self._skip = len(folder) + 1 if folder else 0
        self._rules = rules[::-1]
        self._names = _any_of([rule for rule in rules if rule.by_name])
        self._paths = _any_of([rule for rule in rules if not rule.by_name])

    def __bool__(self) -> bool:
        """Return whether there is any pattern."""
        return bool(self._rules)

    def verdict(self, path: bytes, name: bytes, *, is_folder: bool) -> bool | None:
        """Say whether the last pattern that matches `path` ignores it; None when none does. `name` is its last part."""
        below = path[self._skip :]
        if not (self._names.fullmatch(name) or self._paths.fullmatch(below)):
            return None
        for rule in self._rules:
            if (is_folder or not rule.folders_only) and rule.regex.fullmatch(name if rule.by_name else below):
                return rule.ignores
        return None

    def covers(self, path: bytes) -> bool:
        """Return whether the patterns select a file or a folder that it is in, as a pathspec does."""
        parts = path.split(b"/")
        selected = False
        for depth, name in enumerate(parts, start=1):
            verdict = self.verdict(b"/".join(parts[:depth]), name, is_folder=depth < len(parts))
            selected = selected if verdict is None else verdict
        return selected


def ignored(chain: Sequence[Rules], path: bytes, name: bytes, *, is_folder: bool) -> bool:
    """Return whether a path is ignored by `chain`, in which later rules win (those of deeper folders)."""
    return bool(verdict(chain, path, name, is_folder=is_folder))


def verdict(chain: Sequence[Rules], path: bytes, name: bytes, *, is_folder: bool) -> bool | None:
    """Say whether `chain` ignores a path; False where a rule brings it back, None where none is about it."""
    for rules in reversed(chain):
        said = rules.verdict(path, name, is_folder=is_folder)
        if said is not None:
            return said
    return None


def read_rules(file: bytes, folder: bytes = b"") -> Rules | None:
    """Read an ignore file whose patterns apply below `folder`; None when there is none. Links are not followed."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor has no path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return rules_of(stream.read(LARGEST_IGNORE_FILE), folder)


def rules_of(text: bytes, folder: bytes = b"") -> Rules | None:
    """Return the rules of an ignore file's content; None when it states none."""
    return Rules(text[:LARGEST_IGNORE_FILE].removeprefix(b"\xef\xbb\xbf").split(b"\n"), folder) or None


def parse(line: bytes) -> Rule | None:
    """Return the rule that a line of an ignore file states; None for comments and blank lines."""
    pattern = _without_trailing_spaces(line.removesuffix(b"\r"))
    if not pattern or pattern.startswith(b"#"):
        return None
    ignores = not pattern.startswith(b"!")
    pattern = pattern if ignores else pattern[1:]
    folders_only = pattern.endswith(b"/")
    pattern = pattern[:-1] if folders_only else pattern
    by_name = b"/" not in pattern
    source = _regex(pattern) if by_name else _anchored_regex(pattern.removeprefix(b"/"))
    return Rule(source, re.compile(source, re.DOTALL), ignores, folders_only, by_name)


def _without_trailing_spaces(line: bytes) -> bytes:
    match = _BEFORE_TRAILING_SPACES.fullmatch(line)
    return match[1] if match else line


def _any_of(rules: Sequence[Rule]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(b"(?:%b)" % rule.source for rule in rules) if rules else NEVER, re.DOTALL)


def _anchored_regex(pattern: bytes) -> bytes:
    # Git compares the literal start by itself, so `foo**/bar` means what `foo` followed by `**/bar` would.
    wildcard = _WILDCARD.search(pattern)
    start = wildcard.start() if wildcard else len(pattern)
    return re.escape(pattern[:start]) + _regex(pattern[start:])


def _regex(pattern: bytes) -> bytes:
    """Translate a wildmatch pattern, in which only `**` between slashes crosses folders."""
    try:
        return b"".join(_pieces(pattern))
    except MalformedPatternError:
        return NEVER


def _pieces(pattern: bytes) -> Iterable[bytes]:
    at = 0
    while at < len(pattern):
        match pattern[at : at + 1]:
            case b"*":
                piece, at = _stars(pattern, at)
            case b"?":
                piece, at = b"[^/]", at + 1
            case b"[":
                piece, at = _bracket(pattern, at)
            case b"\\":
                piece, at = re.escape(_character(pattern, at + 1)), at + 2
            case literal:
                piece, at = re.escape(literal), at + 1
        yield piece


def _stars(pattern: bytes, at: int) -> tuple[bytes, int]:
    stars = _STARS.match(pattern, at)
    end = stars.end() if stars else at + 1
    bounded = (at == 0 or pattern[at - 1 : at] == b"/") and (
        end == len(pattern) or pattern.startswith((b"/", b"\\/"), end)
    )
    if end - at == 1 or not bounded:
        return b"[^/]*", end
    return (b"(?:.*/)?", end + 1) if pattern.startswith(b"/", end) else (b".*", end)


def _bracket(pattern: bytes, at: int) -> tuple[bytes, int]:
    at += 1
    negated = pattern[at : at + 1] in {b"!", b"^"}
    at += negated
    members, at = _members(pattern, at)
    inside = b"".join(b"\\x%02x" % member for member in sorted(members))
    if negated:
        return b"[^/%b]" % inside, at
    return (b"[%b]" % inside if members else NEVER), at


def _members(pattern: bytes, at: int) -> tuple[set[int], int]:
    """Return the bytes that a bracket expression names, without the slash, and where it ends."""
    members: set[int] = set()
    start, left = at, 0  # left: the byte that a range may begin with; a `]` that comes first is a member
    while at == start or pattern[at : at + 1] != b"]":
        character = _character(pattern, at)
        if named := _CLASS_NAME.match(pattern, at):
            members.update(_class(named[1]))
            at, left = named.end(), 0
        elif character == b"-" and left and pattern[at + 1 : at + 2] not in {b"", b"]"}:
            right, at = _member(pattern, at + 1)
            members.update(range(left, right + 1))
            left = 0
        else:
            left, at = _member(pattern, at)
            members.add(left)
    return members - {ord("/")}, at + 1


def _member(pattern: bytes, at: int) -> tuple[int, int]:
    at += _character(pattern, at) == b"\\"
    return ord(_character(pattern, at)), at + 1


def _class(name: bytes) -> bytes:
    if name not in CLASSES:
        raise MalformedPatternError(name)
    return CLASSES[name].encode()


def _character(pattern: bytes, at: int) -> bytes:
    if at >= len(pattern):
        raise MalformedPatternError(pattern)
    return pattern[at : at + 1]
