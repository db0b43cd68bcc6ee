"""The words that a chunk is found by, field by field."""

from __future__ import annotations

import pytest

from pipeline.chunking import chunk
from pipeline.wording import fields_of

PYTHON = '''\
class Mailer:
    """Delivers letters."""

    def send_all(self):
        # One after the other.
        return self.letters
'''
GO = "// Push appends a message.\nfunc (q *Queue) Push(message string) {\n\tq.items = append(q.items, message)\n}\n"
C = "#include <stdio.h>\n/* Prints a\n * line. */\nint print_line(void) {\n  return puts(LINE);\n}\n"


@pytest.mark.parametrize(
    ("language", "source", "names", "comments", "keys"),
    [
        ("python", PYTHON, "mailer send all sendall", "delivers letters one after the other", "=mailer.sendall"),
        ("go", GO, "push", "push appends a message", "=queue.push"),
        ("c", C, "print line printline", "prints a line", "=printline"),
    ],
)
def test_names_and_comments_are_told_from_code(
    language: str, source: str, names: str, comments: str, keys: str
) -> None:
    """Names are those of the definitions that begin in the chunk, members of a small class included."""
    found = [fields_of(piece) for piece in chunk(source, language)]
    assert names in [each.names for each in found]
    assert [each.comments for each in found if each.comments] == [comments]
    assert keys in [key for each in found for key in each.keys]
    assert not any(word in each.code.split() for each in found for word in ("delivers", "appends", "prints"))


def test_a_directive_is_no_comment() -> None:
    """What begins with a # in C is code."""
    [piece] = chunk("#define RETRIES 3\n", "c")
    assert fields_of(piece).comments == ""
    assert "retries" in fields_of(piece).code
