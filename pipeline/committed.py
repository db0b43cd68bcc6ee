"""The file list of a commit, out of the objects of a git repository: no work tree is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pipeline import git
from pipeline.blobs import Blobs
from pipeline.errors import FetchFailed, FileSkipped
from pipeline.excluding import folder_reason
from pipeline.ignoring import LARGEST_IGNORE_FILE, Rules, ignored, rules_of
from pipeline.sifting import IGNORE_FILE, Folder, Listing, ScanOptions, Sieve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REGULAR: Final = (b"100644", b"100755", b"100664")
KIND_REASONS: Final = {
    b"120000": "symbolic link, not followed",
    b"160000": "submodule, a repository of its own: index its URL",
}


class Entry(NamedTuple):
    """A path of a commit, with the mode, id and size that git has of it; what is no file has the size 0."""

    path: bytes
    mode: bytes
    blob_id: str
    size: int


def list_commit(
    repository: Path, commit: str, options: ScanOptions, heed: Callable[[], None] = lambda: None
) -> Listing:
    """List the files of a commit by the same rules as those of a folder whose every file is tracked.

    `heed` is called in between; what it raises ends the listing. Raises FetchFailed when git cannot read the commit.
    """
    listed = git.run(
        bytes(repository),
        *("ls-tree", "-r", "-z", "-l", "--full-tree", commit),
        ceiling=bytes(repository.parent),
    )
    if listed is None:
        raise FetchFailed(f"git cannot list commit {commit[:12]} in {repository}: is it damaged, or a partial clone?")
    entries = list(_parsed(listed.stdout))
    sieve = _Sieve(_ignore_files(repository, entries), options, heed)
    for entry in entries:
        sieve.judge(entry)
    return sieve.listing()


def _parsed(listed: bytes) -> Iterator[Entry]:
    for record in listed.split(b"\0")[:-1]:
        about, _, path = record.partition(b"\t")
        mode, _, blob_id, size = about.split()
        yield Entry(path, mode, blob_id.decode(), int(size) if size.isdigit() else 0)


def _ignore_files(repository: Path, entries: list[Entry]) -> dict[bytes, Rules]:
    """Return the rules of the ignore files, by their folder."""
    found = {}
    with Blobs(repository) as blobs:
        for entry in entries:
            folder, _, name = entry.path.rpartition(b"/")
            if name == IGNORE_FILE and entry.mode in REGULAR and entry.size <= LARGEST_IGNORE_FILE:
                found[folder] = _rules(blobs, entry.blob_id, folder)
    return {folder: rules for folder, rules in found.items() if rules}


def _rules(blobs: Blobs, blob_id: str, folder: bytes) -> Rules | None:
    try:
        return rules_of(blobs.read(blob_id), folder)
    except FileSkipped:
        return None


class _Sieve(Sieve):
    """Sorts the paths of a commit."""

    def __init__(self, ignore_files: dict[bytes, Rules], options: ScanOptions, heed: Callable[[], None]) -> None:
        self._ignore_files = ignore_files
        super().__init__(options, heed)

    def rules(self, folder: bytes) -> tuple[Rules, ...]:
        """Return the rules of the ignore file in a folder of the commit."""
        rules = self._ignore_files.get(folder)
        return (rules,) if rules else ()

    def look_at(self, path: bytes, parent: Folder) -> Folder:
        """Judge a folder by its name and the rules above it."""
        name = path.rpartition(b"/")[2]
        reason = folder_reason(name.decode(errors="surrogateescape"))
        if not reason and ignored(parent.rules, path, name, is_folder=True):
            reason = "ignored by .penstockignore"
        return Folder((*parent.rules, *self.rules(path)), reason, path)

    def judge(self, entry: Entry) -> None:
        """Take a path or note why it is passed over."""
        above = entry.path.rpartition(b"/")[0]
        if above and not self._options.recursive:
            self.enters(entry.path.partition(b"/")[0])
            return
        folder = self.folder(above)
        if folder.reason:
            self.skip(entry.path, folder.reason)
        else:
            reason = "" if entry.mode in REGULAR else KIND_REASONS.get(entry.mode, "not a regular file")
            self.file(entry.path, folder, reason, entry.size, 0, entry.blob_id)
