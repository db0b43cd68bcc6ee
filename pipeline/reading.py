"""Reads one file of a repository and decodes it, or says why it is passed over (R41)."""

from __future__ import annotations

import codecs
import errno
import os
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from charset_normalizer import from_bytes

from pipeline.errors import FileSkipped
from pipeline.sifting import UNREADABLE, describe_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BINARY_PREFIX: Final = 8_000
"""A NUL among the first bytes makes a file binary, as for git; one further on is replaced by U+FFFD."""
FRESH_NS: Final = 2_000_000_000
"""A file that changed this recently may change again without a new time."""
HASH_BYTES: Final = 16
BLOCK: Final = 65_536
LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/v1\noid "
SAMPLE: Final = 4_096
"""Bytes of lines that are not ASCII which are enough to tell the encoding."""
MOST_CONTROLS: Final = 0.005
CONTROLS: Final = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))
BOMS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
LEGACY: Final = (
    *("cp1252", "euc_jp", "gb18030", "cp932", "big5", "cp949", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254"),
)
"""Encodings that are recognised beside Unicode; of equally likely ones the first is taken."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE: Final = {
    errno.ENOENT: "vanished after the scan",
    errno.ENOTDIR: "vanished after the scan: its folder was replaced",
    errno.ELOOP: "became a symbolic link after the scan",
    errno.ESTALE: "vanished after the scan",
}
_OWN_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class SourceText:
    """A file as it was read: its text, and the size, hash and time (0: too fresh to be trusted) of its bytes."""

    text: str
    size: int
    mtime_ns: int
    content_hash: bytes
    encoding: str


def read(root: Path, entry_path: str, *, max_bytes: int) -> SourceText:
    """Read and decode the file `entry_path` below `root`, following no link below `root`.

    The text holds no NUL and no byte order mark; `content_hash` is the 16-byte BLAKE2b of the raw bytes. Raises
    FileSkipped when the file is gone, unreadable, not a regular file, too large, or not text.
    """
    with _opened(root, entry_path) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileSkipped("not a regular file")
        data = _content(descriptor, status.st_size, max_bytes)
    age = time.time_ns() - status.st_mtime_ns
    settled = age > FRESH_NS and len(data) == status.st_size
    return understood(data, status.st_mtime_ns if settled else 0)


def understood(data: bytes, mtime_ns: int = 0) -> SourceText:
    """Return the bytes of a file as text, with their hash. Raises FileSkipped when they are no text."""
    if data.startswith(LFS_POINTER):
        raise FileSkipped("Git LFS pointer: the content is kept elsewhere")
    text, encoding = decode(data)
    return SourceText(text, len(data), mtime_ns, blake2b(data, digest_size=HASH_BYTES).digest(), encoding)


def decode(data: bytes) -> tuple[str, str]:
    """Return the text of a file and the encoding it was in. Raises FileSkipped when it is no text."""
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding)
    if b"\0" in data[:BINARY_PREFIX]:
        raise FileSkipped("binary")
    try:
        return data.decode().replace("\0", "\ufffd"), "utf-8"
    except UnicodeDecodeError:
        return _decoded(data, _legacy_encoding(data))


@contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    try:
        descriptor = _open(root, path)
    except OSError as error:
        raise _skip(error) from error
    try:
        yield descriptor
    except OSError as error:
        raise _skip(error) from error
    finally:
        os.close(descriptor)


def _open(root: Path, path: str) -> int:
    """Open folder by folder, so that no folder on the way can be a link, also not one made this moment."""
    *folders, name = path.encode().split(b"/")
    if b".." in folders or name in {b"", b".", b".."}:
        raise FileSkipped("not a path below the repository")
    at = os.open(root, _FOLDER)
    for folder in folders:
        at = _step(at, folder, _FOLDER)
    return _step(at, name, _FILE)


def _step(folder: int, name: bytes, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)


def _skip(error: OSError) -> FileSkipped | OSError:
    """Return what to raise: the file's fault is a reason to skip it, the process's fault is not."""
    if error.errno in _OWN_FAULTS:
        return error
    if error.errno in _GONE:
        return FileSkipped(_GONE[error.errno], gone=True)
    if error.errno == errno.ENXIO:
        return FileSkipped("not a regular file (socket)")
    return FileSkipped(f"{UNREADABLE}: {(error.strerror or str(error)).lower()}")


def _content(descriptor: int, size: int, max_bytes: int) -> bytes:
    data = os.read(descriptor, min(size, max_bytes) + 1)
    while len(data) <= max_bytes and (more := os.read(descriptor, BLOCK)):
        data += more
    if len(data) > max_bytes:
        raise FileSkipped(f"larger than {describe_size(max_bytes)} ({describe_size(max(size, len(data)))})")
    return data


def _decoded(data: bytes, encoding: str) -> tuple[str, str]:
    try:
        return data.decode(encoding).replace("\0", "\ufffd"), encoding
    except UnicodeDecodeError:
        raise FileSkipped("not text in a known encoding") from None


def _legacy_encoding(data: bytes) -> str:
    if len(data) - len(data.translate(None, CONTROLS)) > len(data) * MOST_CONTROLS:
        raise FileSkipped("binary")
    matches = from_bytes(
        _telling_lines(data), cp_isolation=list(LEGACY), preemptive_behaviour=False, enable_fallback=False
    )
    likely = [
        (round(match.chaos, 2), LEGACY.index(encoding))
        for match in matches
        for encoding in match.could_be_from_charset
        if encoding in LEGACY
    ]
    if not likely:
        raise FileSkipped("not text in a known encoding")
    return LEGACY[min(likely)[1]]


def _telling_lines(data: bytes) -> bytes:
    """Return the first lines that are not ASCII, whole, because half a character would mislead."""
    lines: list[bytes] = []
    size = 0
    for line in data.split(b"\n"):
        if not line.isascii():
            lines.append(line)
            size += len(line)
        if size > SAMPLE:
            break
    return b"\n".join(lines)
