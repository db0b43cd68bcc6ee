"""Comparing the file list with the index, and grouping what changed (R05, R37, R43)."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching import Batcher, Change, Changed, KnownFile, Removed, Unchanged, changes
from pipeline.records import FileEntry, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SMALL = Limits(batch_files=10, batch_bytes=100)
NAMES = st.sampled_from(["a", "a/b", "a.py", "B", "é", "\uffff", "\U0001f600", "zz"])


def entries(*sizes: int) -> list[FileEntry]:
    """Return files of these sizes with rising names."""
    return [FileEntry(f"{number:06}", size, 1) for number, size in enumerate(sizes)]


def batched(files: Iterable[FileEntry], limits: Limits, *, made: int = 0) -> Iterator[tuple[FileEntry, ...]]:
    """Yield the batches that a scan makes of files when it need not hurry."""
    batcher = Batcher(limits, made)
    for file in files:
        if not batcher.fits(file):
            yield batcher.take()
        batcher.add(file)
    if last := batcher.take():
        yield last


def test_the_first_batches_are_small() -> None:
    """A job starts with batches of 4, 8, 16 and 32 files, so that all stages start at once (R21)."""
    sizes = [len(batch) for batch in batched(entries(*[1] * 300), Limits())]
    assert sizes == [4, 8, 16, 32, 64, 64, 64, 48]


def test_a_resumed_scan_does_not_start_small_again() -> None:
    """The size of a batch depends on how many the job has (R36)."""
    assert [len(batch) for batch in batched(entries(*[1] * 80), Limits(), made=4)] == [64, 16]


def test_a_file_larger_than_a_batch_is_alone() -> None:
    """Only a single file may exceed the limit of bytes (R37)."""
    batches = [[entry.size for entry in batch] for batch in batched(entries(60, 500, 40, 60, 1, 500), SMALL)]
    assert batches == [[60], [500], [40, 60], [1], [500]]


def test_no_files_make_no_batch() -> None:
    """Nothing to do is no batch, not an empty one (R05)."""
    assert list(batched([], SMALL)) == []


@given(st.lists(st.integers(1, 150), max_size=80))
def test_batches_keep_every_file_in_order_and_their_limits(sizes: list[int]) -> None:
    """Whatever the sizes, nothing is lost or reordered and no limit is exceeded (R36, R37)."""
    files = entries(*sizes)
    batches = list(batched(files, SMALL))
    assert [entry for batch in batches for entry in batch] == files
    for batch in batches:
        assert 1 <= len(batch) <= SMALL.batch_files
        assert len(batch) == 1 or sum(entry.size for entry in batch) <= SMALL.batch_bytes


@given(st.dictionaries(NAMES, st.integers(1, 2)), st.dictionaries(NAMES, st.integers(0, 2)))
def test_a_comparison_is_what_the_two_sides_say(now: dict[str, int], before: dict[str, int]) -> None:
    """Each path is compared with itself, in the order of its UTF-8 bytes (R05, R43)."""
    listing = [FileEntry(path, 5, now[path]) for path in sorted(now, key=str.encode)]
    known = [KnownFile(path, 5, before[path]) for path in sorted(before, key=str.encode)]
    found = list(changes(listing, known))
    assert {change.path for change in found if isinstance(change, Removed)} == before.keys() - now.keys()
    assert [path_of(change) for change in found] == sorted(now.keys() | before.keys(), key=str.encode)
    same = {path for path in now if before.get(path) == now[path]}
    assert {change.entry.path for change in found if isinstance(change, Unchanged)} == same


def path_of(change: Change) -> str:
    """Return the path that a change is about."""
    return change.path if isinstance(change, Removed) else change.entry.path


def test_size_and_time_decide_what_is_read_again() -> None:
    """A new size, a new time, an untrusted time and a new file are changes (R05)."""
    known = KnownFile("a", 5, 100)
    entry = FileEntry("a", 5, 100)
    assert list(changes([entry], [known])) == [Unchanged(entry)]
    assert list(changes([entry], [replace(known, size=4)])) == [Changed(entry)]
    assert list(changes([entry], [replace(known, mtime_ns=99)])) == [Changed(entry)]
    assert list(changes([entry], [])) == [Changed(entry)]
    untimed = FileEntry("a", 5, 0)
    assert list(changes([untimed], [replace(known, mtime_ns=0)])) == [Changed(untimed)]


def test_a_skipped_file_stays_skipped_until_it_changes() -> None:
    """Its reason is handed on; only a file that could not be read is tried each time (R41)."""
    entry = FileEntry("a", 5, 100)
    assert list(changes([entry], [KnownFile("a", 5, 100, "binary")])) == [Unchanged(entry, "binary")]
    assert list(changes([entry], [KnownFile("a", 5, 100, "not readable: permission denied")])) == [Changed(entry)]


def test_a_file_without_a_time_has_changed() -> None:
    """A time of 0 stands for what must be done anew: forced, of another model, too fresh to be trusted (R05)."""
    entry = FileEntry("b", 5, 100)
    known = [KnownFile("a", 1, 1), KnownFile("b", 5, 0), KnownFile("c", 1, 1)]
    assert list(changes([entry], known)) == [Removed("a"), Changed(entry), Removed("c")]


def test_a_comparison_needs_no_memory() -> None:
    """The two streams are never held (R37)."""

    def stream() -> Iterator[FileEntry]:
        return (FileEntry(f"{number:08}", 1, 1) for number in range(20_000))

    known = (KnownFile(entry.path, 1, 1) for entry in stream())
    tracemalloc.start()
    try:
        assert sum(isinstance(change, Unchanged) for change in changes(stream(), known)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
