"""Reading and decoding one file (R41)."""

from __future__ import annotations

import os
import random
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import FileSkipped
from pipeline.reading import SourceText, decode, read
from tests.repositories import add_oddities, unprivileged, write

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1_000_000
OLD_NS = 1_600_000_000_123_456_789
RUSSIAN = "// Проверяет, что пользователь существует, и возвращает ошибку\nint f();\n"
JAPANESE = "// ユーザーが存在するか確認し、エラーを返す。\nint f();\n"
CHINESE = "// 检查用户是否存在，并返回错误信息。\nint f();\n"  # noqa: RUF001 - as Chinese writes it


def read_one(root: Path, content: str | bytes, path: str = "a.py") -> SourceText:
    """Write and read a file that was last changed long ago."""
    write(root, {path: content})
    os.utime(root / path, ns=(OLD_NS, OLD_NS))
    return read(root, path, max_bytes=LIMIT)


def refusal(root: Path, path: str, max_bytes: int = LIMIT) -> FileSkipped:
    """Return why a file is passed over."""
    with pytest.raises(FileSkipped) as caught:
        read(root, path, max_bytes=max_bytes)
    return caught.value


def test_a_file_is_read_with_its_size_time_and_hash(tmp_path: Path) -> None:
    """The record is that of the raw bytes, the text that of the decoded ones (R05)."""
    source = read_one(tmp_path, "é = 1\r\n", "x/y/a.py")
    digest = blake2b("é = 1\r\n".encode(), digest_size=16).digest()
    assert source == SourceText("é = 1\r\n", 8, OLD_NS, digest, "utf-8")


def test_a_fresh_time_is_not_trusted(tmp_path: Path) -> None:
    """A file changed within two seconds, or in the future, may change again under the same time (R05)."""
    write(tmp_path, {"a.py": "x"})
    assert read(tmp_path, "a.py", max_bytes=LIMIT).mtime_ns == 0
    later = time.time_ns() + 3_600 * 10**9
    os.utime(tmp_path / "a.py", ns=(later, later))
    assert read(tmp_path, "a.py", max_bytes=LIMIT).mtime_ns == 0


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("x = 'é'\n", "utf-8", "utf-8"),
        ("x = 'é'\n", "utf-8-sig", "utf-8"),
        ("x = 'é'\n", "utf-16", "utf-16-le"),
        ("\ufeffx = 'é'\n", "utf-16-be", "utf-16-be"),
        ("x = 'é'\n", "utf-32", "utf-32-le"),
        ("\ufeffx = 'é'\n", "utf-32-be", "utf-32-be"),
        ("# Autor: José\ndef f(): pass\n", "latin-1", "cp1252"),
        ("// Grüße aus Köln: prüft die Größe\n", "cp1252", "cp1252"),
        ("/* Copyright © 2004 Some Body */\nint x;\n", "cp1252", "cp1252"),
        ("It’s a “quoted” dash – here\n", "cp1252", "cp1252"),  # noqa: RUF001 - as Windows writes it
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        (JAPANESE, "shift_jis", "cp932"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (CHINESE, "gb18030", "gb18030"),
        ("// 檢查使用者是否存在，並傳回錯誤訊息。\n", "big5", "big5"),  # noqa: RUF001
        ("// 사용자가 존재하는지 확인하고 오류를 반환합니다.\n", "cp949", "cp949"),
        ("// Sprawdź, czy użytkownik już istnieje w bazie; zażółć gęślą jaźń\n", "cp1250", "cp1250"),
    ],
)
def test_other_encodings_are_decoded(tmp_path: Path, text: str, encoding: str, found: str) -> None:
    """Text by byte order mark, else by its likeness; the mark is no part of the text (R41)."""
    source = read_one(tmp_path, text.encode(encoding))
    assert (source.text, source.encoding) == (text.removeprefix("\ufeff"), found)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"MZ\0\1\2", "binary"),
        (bytes(range(1, 256)) * 8, "binary"),
        (random.Random(1).randbytes(5_000).replace(b"\0", b"\1"), "binary"),  # noqa: S311 - no secret
        (bytes(random.Random(1).choices(range(128, 256), k=4_000)), "not text in a known encoding"),  # noqa: S311 - no secret
        (b"\xff\xfex", "not text in a known encoding"),
        (b"\xff\xfe\x00\xd8", "not text in a known encoding"),
        (b"\xef\xbb\xbf\xff", "not text in a known encoding"),
    ],
)
def test_what_is_no_text_is_skipped(data: bytes, reason: str) -> None:
    """Binary content and broken encodings are a reason, never an error or a guess (R41)."""
    with pytest.raises(FileSkipped) as caught:
        decode(data)
    assert caught.value.reason == reason


def test_a_late_nul_is_replaced() -> None:
    """A NUL beyond what git looks at leaves the file text, but never reaches the database (R41)."""
    text, _ = decode(b"x" * 9_000 + b"\0y")
    assert text.endswith("x\ufffdy")
    assert decode("a\0b".encode("utf-16"))[0] == "a\ufffdb"


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_a_reason(data: bytes) -> None:
    """Whatever the bytes, the text can be stored: no NUL and no half of a pair (R41)."""
    try:
        text, _ = decode(data)
    except FileSkipped as skipped:
        assert skipped.reason in {"binary", "not text in a known encoding"}  # noqa: PT017 - either is right
        return
    assert "\0" not in text
    text.encode()


@given(st.text(max_size=200))
def test_any_text_survives_as_utf8(text: str) -> None:
    """UTF-8 comes back as it was, but for a mark at the start and NULs (R41)."""
    data = text.encode()
    if b"\0" not in data:
        assert decode(data) == (text.removeprefix("\ufeff"), "utf-8")


@pytest.mark.parametrize(
    ("path", "reason", "gone"),
    [
        ("gone.py", "vanished", True),
        ("no/such/folder.py", "vanished", True),
        ("a.py/below", "vanished", True),
        ("link.py", "became a symbolic link", True),
        ("linked/secret.py", "vanished", True),
        ("folder", "not a regular file", False),
        ("pipe", "not a regular file", False),
        ("big.txt", "larger than 1.0 MB (2.0 MB)", False),
        ("folder/../../secret.py", "not a path below the repository", False),
        ("..", "not a path below the repository", False),
    ],
)
def test_what_is_no_longer_a_file_of_the_repository_is_skipped(
    tmp_path: Path, path: str, reason: str, *, gone: bool
) -> None:
    """Vanished, linked, special and grown files are a reason each, and nothing outside is read (R36, R40, R41)."""
    write(tmp_path, {"secret.py": "x", "outside/secret.py": "x"})
    root = write(tmp_path / "root", {"a.py": "x", "folder/b.py": "x"})
    add_oddities(root)
    (root / "linked").symlink_to("../outside")
    skipped = refusal(root, path)
    assert skipped.reason.startswith(reason)
    assert skipped.gone is gone


def test_a_root_that_became_a_link_is_not_read(tmp_path: Path) -> None:
    """A root is resolved when it is submitted: a link in its place leads elsewhere (R06, R40)."""
    write(tmp_path / "real", {"a.py": "x"})
    (tmp_path / "root").symlink_to("real")
    assert refusal(tmp_path / "root", "a.py").gone


def test_a_file_that_may_not_be_read_is_skipped() -> None:
    """A missing right is a reason that a later run tries again (R41)."""
    with unprivileged() as root:
        write(root, {"a.py": "x"})
        (root / "a.py").chmod(0)
        assert refusal(root, "a.py").reason == "not readable: permission denied"


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is read, its time is not trusted, and the limit holds (R41)."""
    fstat = os.fstat

    def then_grow(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        os.truncate(tmp_path / "a.py", 200_000)
        return status

    monkeypatch.setattr("pipeline.reading.os.fstat", then_grow)
    source = read_one(tmp_path, "x" * 10_000)
    assert (len(source.text), source.size, source.mtime_ns) == (200_000, 200_000, 0)
    os.truncate(tmp_path / "a.py", 10_000)
    assert "larger than" in refusal(tmp_path, "a.py", max_bytes=90_000).reason


def test_a_full_process_is_not_blamed_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files is an error of the worker, which retries, not a reason to skip (R14)."""
    write(tmp_path, {"a.py": "x"})

    def full(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("pipeline.reading.os.open", full)
    with pytest.raises(OSError, match="Too many open files"):
        read(tmp_path, "a.py", max_bytes=LIMIT)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Neither reading nor skipping leaks (R70)."""
    root = write(tmp_path, {"x/a.py": "x"})
    add_oddities(root)
    before = set(os.listdir("/dev/fd"))  # noqa: PTH208 - pathlib would hold the folder open
    for path in ("x/a.py", "x/none.py", "no/none.py", "nul.bin", "big.txt", "link.py", "pipe"):
        try:
            read(root, path, max_bytes=LIMIT)
        except FileSkipped:
            continue
    assert set(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_detecting_an_encoding_is_bounded() -> None:
    """A large file in an old encoding costs milliseconds, not seconds (R41)."""
    data = ("x = 1  # Größe\n" * 60_000).encode("latin-1")
    decode(data[:1_000])
    started = time.process_time()
    assert decode(data)[1] == "cp1252"
    assert time.process_time() - started < 0.3
