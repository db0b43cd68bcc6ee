"""The chunk stage's checkpoint: the files of a batch become staged chunks and an outcome each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Final, TypeAlias

from pipeline import sources
from pipeline.blobs import Blobs
from pipeline.chunking import chunk as chunks_of
from pipeline.embedding import content_hash
from pipeline.errors import FileAtFault, FileSkipped, SourceUnavailable
from pipeline.languages import language_of
from pipeline.reading import SourceText, read, understood
from pipeline.records import FileEntry, Outcome
from pipeline.sifting import UNREADABLE
from pipeline.sources import Kind
from pipeline.stages.workbench import due
from pipeline.states import BatchStage, Stage
from pipeline.store import batches, embeddings, files, progress
from pipeline.store.batches import FileResult
from pipeline.store.embeddings import StagedChunk
from pipeline.store.progress import Clock, Progress
from pipeline.tokenizing import words
from pipeline.wording import fields_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.records import Chunk, Limits
    from pipeline.sources import Source
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.workbench import Workbench
    from pipeline.store.batches import Batch

HEAD: Final = 4_000
"""Characters that tell the language where the name does not: a C++ header's first lines are its licence."""

TextOf: TypeAlias = Callable[[FileEntry], SourceText]


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """What one chunk batch came to, for its log line."""

    job_id: str
    batch_id: int
    files: int
    indexed: int
    unchanged: int
    skipped: int
    chunks: int
    seconds: float


def chunk(bench: Workbench, subject: str, delivery: Delivery) -> ChunkReport:
    """Read, hash and chunk the files of a batch, stage the chunks and hand the batch on (R05, R41, R42).

    Raises BatchMoved on a second delivery, JobStopped when the job is not running any more, FileAtFault.
    """
    started = time.monotonic()
    with bench.engine.connect() as connection:
        batch = due(connection, subject, BatchStage.CHUNK)
        known = _hashes(connection, batch)
    with _reader(bench, batch, delivery) as text_of:
        results, staged = _read_all(bench, batch, text_of, known, wary=delivery.deaths > 0)
    _commit(bench, batch, results, staged, delivery, started)
    return _report(batch, results, len(staged), time.monotonic() - started)


def _hashes(connection: Connection, batch: Batch) -> dict[str, bytes]:
    paths = [entry.path for entry in batch.files]
    return files.hashes(connection, batch.repository_id, batch.model_id, batch.force_before, paths)


@contextmanager
def _reader(bench: Workbench, batch: Batch, delivery: Delivery) -> Iterator[TextOf]:
    """Yield what reads a file of the batch: from its folder, or from the git repository that holds its commit.

    Raises SourceUnavailable when this host has neither.
    """
    source = sources.parse(batch.root_path)
    if batch.revision is None:
        root = Path(source.place)
        if not root.is_dir():  # on a host that does not share the folder, every file would look as if it had vanished
            raise SourceUnavailable(f"host {gethostname()} does not see {root}: mount it there, or cancel the job")
        yield lambda entry: read(root, entry.path, max_bytes=bench.limits.max_file_bytes)
        return
    heed = bench.heed(batch.job_id, delivery)
    with Blobs(bench.mirrors.holding(source, batch.revision, heed)) as blobs:
        yield lambda entry: understood(_content(bench, source, blobs, entry))


def _content(bench: Workbench, source: Source, blobs: Blobs, entry: FileEntry) -> bytes:
    """Return the content of a blob; where a mirror lost it while it was read, the mirror is made again."""
    try:
        return blobs.read(entry.blob_id)
    except FileSkipped as missing:
        if source.kind is not Kind.REMOTE:
            raise
        bench.mirrors.remove(source.place)
        raise SourceUnavailable(f"the mirror of {source.place} lost a file; it is made again") from missing


def _read_all(
    bench: Workbench, batch: Batch, text_of: TextOf, known: dict[str, bytes], *, wary: bool
) -> tuple[list[FileResult], list[StagedChunk]]:
    """Read every file; after a death each is noted first, so that a second death tells which one it was (R34)."""
    results: list[FileResult] = []
    staged: list[StagedChunk] = []
    for index, entry in enumerate(batch.files):
        if wary:
            with bench.engine.begin() as connection:
                batches.note_suspect(connection, batch.batch_id, index)
        try:
            result, pieces = _read(bench.limits, text_of, entry, known)
        except SourceUnavailable:
            raise
        except BaseException as error:  # also the time limit, which Dramatiq raises in this thread
            raise FileAtFault(index, error) from error
        results.append(result)
        staged += [_staged(index, ordinal, piece) for ordinal, piece in enumerate(pieces)]
    return results, staged


def _read(limits: Limits, text_of: TextOf, entry: FileEntry, known: dict[str, bytes]) -> tuple[FileResult, list[Chunk]]:
    try:
        source = text_of(entry)
    except FileSkipped as skip:
        return _skipped(entry, skip), []
    result = _result(entry, source)
    if known.get(entry.path) == source.content_hash:
        return replace(result, outcome=Outcome.UNCHANGED), []
    pieces = chunks_of(source.text, result.language, limit=limits.chunk_characters)
    return replace(result, chunks=len(pieces)), pieces


def _result(entry: FileEntry, source: SourceText) -> FileResult:
    return FileResult(
        path=entry.path,
        size=source.size,
        mtime_ns=source.mtime_ns,
        outcome=Outcome.INDEXED,
        hash=source.content_hash.hex(),
        language=language_of(entry.path, source.text[:HEAD].encode()),
        words=" ".join(words(entry.path)),
        blob=entry.blob_id or None,
    )


def _skipped(entry: FileEntry, skip: FileSkipped) -> FileResult:
    # What could not be read this time is not known by its blob, so that the next run tries again.
    blob = None if skip.reason.startswith(UNREADABLE) else entry.blob_id or None
    return FileResult(entry.path, entry.size, entry.mtime_ns, Outcome.SKIPPED, skip.reason, gone=skip.gone, blob=blob)


def _staged(index: int, ordinal: int, piece: Chunk) -> StagedChunk:
    return StagedChunk(
        file_index=index,
        ordinal=ordinal,
        chunk=piece,
        content_hash=content_hash(piece.symbol, piece.content),
        fields=fields_of(piece),
    )


def _commit(
    bench: Workbench,
    batch: Batch,
    results: list[FileResult],
    staged: list[StagedChunk],
    delivery: Delivery,
    started: float,
) -> None:
    following = Stage.EMBED if staged else Stage.WRITE
    with bench.engine.begin() as connection:
        batches.move(
            connection,
            batch.batch_id,
            BatchStage.CHUNK,
            BatchStage(following),
            outcomes=batches.results_json(results),
            chunk_count=len(staged),
        )
        batches.drop_staged(connection, [batch.batch_id])
        embeddings.stage(connection, batch.batch_id, staged)
        delivery.complete(connection)
        delivery.send(connection, following, str(batch.batch_id), batch.job_id)
        added = Progress(files_chunked=len(batch.files), chunks_created=len(staged))
        progress.advance(connection, batch.job_id, added, Clock(Stage.CHUNK, time.monotonic() - started))


def _report(batch: Batch, results: list[FileResult], chunks: int, seconds: float) -> ChunkReport:
    outcomes = [result.outcome for result in results]
    return ChunkReport(
        job_id=str(batch.job_id),
        batch_id=batch.batch_id,
        files=len(results),
        indexed=outcomes.count(Outcome.INDEXED),
        unchanged=outcomes.count(Outcome.UNCHANGED),
        skipped=outcomes.count(Outcome.SKIPPED),
        chunks=chunks,
        seconds=seconds,
    )
