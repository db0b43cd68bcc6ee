"""What must be true once nothing is broken and every job has ended; each rule returns what breaks it, in words."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.states import MOVES, TERMINAL, JobStatus
from tests.chaos import audit
from tests.chaos.server import NAME
from tests.chaos.waiting import lasting
from tests.inspecting import chunk_set, leftovers, sums, vectors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import psycopg
    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from tests.chaos.users import User
    from tests.chaos.world import World

PATIENCE: Final = 75.0
"""What a crash leaves staged may wait a minute for the caretaker."""
LET_GO: Final = 20.0
"""How long a session, a lock or an entry of a dead worker may remain."""
STAGED: Final = "staged chunks"
REPEATED: Final = 0.01
CLOSE: Final = 0.01
"""How far apart two vectors of one text may be: they are stored in half precision."""
CONNECTIONS: Final = 12
"""Sessions of one worker process: at most twice its threads and two more, its lifeline, and one to spare."""
LEADS_TO: Final = {
    "submitted": JobStatus.PENDING,
    "started": JobStatus.RUNNING,
    "unblocked": JobStatus.RUNNING,
    "blocked": JobStatus.BLOCKED,
    "paused": JobStatus.PAUSED,
    "resumed": JobStatus.PENDING,
    "cancelled": JobStatus.CANCELLED,
    "completed": JobStatus.COMPLETED,
    "failed": JobStatus.FAILED,
}
"""The state that each event leads to; others change none."""

JOBS: Final = """
SELECT id, status, error_type, error_message, files_failed, format('created %s, embedded %s, reused %s, written %s',
    chunks_created, chunks_embedded, chunks_reused, chunks_written)
FROM penstock.indexing_jobs ORDER BY created_at
"""
EVENTS: Final = "SELECT job_id, array_agg(type ORDER BY id) FROM penstock.job_events GROUP BY job_id"
COUNTERS: Final = """
SELECT j.id, rule FROM penstock.indexing_jobs j
CROSS JOIN LATERAL (SELECT count(*) AS total, count(*) FILTER (WHERE stage = 'done') AS done,
        coalesce(sum(chunk_count) FILTER (WHERE stage = 'done'), 0) AS chunks,
        coalesce(sum(file_count) FILTER (WHERE stage = 'done'), 0) AS files
    FROM penstock.batches b WHERE b.job_id = j.id) AS of_batches
CROSS JOIN LATERAL (VALUES
    ('batches_total', j.batches_total = total), ('batches_done', j.batches_done = done),
    ('chunks_written', j.chunks_written = chunks), ('files_written', j.files_written = files),
    ('files_skipped and files_failed', (SELECT count(*) FROM penstock.file_outcomes o WHERE o.job_id = j.id)
        = j.files_skipped + j.files_failed)
) AS checked (rule, holds) WHERE NOT holds ORDER BY 1, 2
"""
LOCKS: Final = """
SELECT classid, objid, pid FROM pg_locks l
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND NOT (classid = x'706e7374'::int AND objsubid = 2
           AND (objid = 0 OR objid IN (SELECT id::text::oid FROM penstock.workers)))
"""
IDLERS: Final = """
SELECT pid, application_name, state FROM pg_stat_activity
WHERE datname = current_database() AND application_name <> %s AND state LIKE 'idle in transaction%%'
  AND state_change < clock_timestamp() - interval '2 seconds'
"""
SESSIONS: Final = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'penstock %%' AND application_name <> %s GROUP BY 1
"""
WORKERS: Final = "SELECT pid FROM penstock.workers"
HELD: Final = "SELECT message_id, queue_name FROM dramatiq.queue WHERE state = 'consumed'"
STRANGE_VECTORS: Final = """
SELECT r.root_path, count(*), r.model_id, array_agg(DISTINCT c.model_id || ':' || vector_dims(c.embedding))
FROM penstock.chunks c JOIN penstock.repositories r ON r.id = c.repository_id
LEFT JOIN penstock.embeddings e ON e.model_id = c.model_id AND e.content_hash = c.content_hash
JOIN penstock.models m ON m.id = c.model_id
WHERE e.embedding IS DISTINCT FROM c.embedding OR vector_dims(c.embedding) <> m.dimension
   OR c.model_id <> r.model_id
GROUP BY 1, 3 ORDER BY 1
"""


def broken(world: World, users: Iterable[User], *, since: int) -> tuple[int, list[str]]:
    """Return every rule that is broken, and the number of the audit's last entry; `since` is the one before.

    What is staged is looked at in the end only: `left` waits for it.
    """
    by_design = {"DimensionChanged"} if world.dimension_changes else set()
    with world.server.session() as session:
        found = [text for user in users for text in _of_repository(world, user)]
        found += left(world.engine, LET_GO, but={STAGED})
        for question in (locks, idlers, crowds, partial(ghosts, world)):
            found += lasting(partial(question, session), LET_GO)
        last, seen = audit.breaches(session, since)
        found += [*seen, *audit.undone(session), *counters(session), *ends(world.engine, session, by_design)]
        found += [*paths(session), *strange_vectors(session), *_repeated(world)]
    return last, found


def _of_repository(world: World, user: User) -> list[str]:
    return unlike(world.engine, world.undisturbed.index(user.tree, user.office.embedder), user.root)


def ends(engine: Engine, session: psycopg.Connection, by_design: Collection[str]) -> list[str]:
    """Every job has ended, failed for no other reason than the errors `by_design`, and lost no file; its sums agree."""
    found = []
    for job, status, kind, message, failed, chunks in session.execute(JOBS).fetchall():
        if status not in TERMINAL:
            found.append(f"job {job} is still {status}")
        if status == JobStatus.COMPLETED:
            found += [f"the sums of job {job} disagree: {rule} (chunks {chunks})" for rule in sums(engine, job)]
        if status == JobStatus.FAILED and kind not in by_design:
            found.append(f"job {job} failed: {kind}: {message}")
        if failed:
            found.append(f"job {job} failed {failed} healthy files")
    return found


def counters(session: psycopg.Connection) -> list[str]:
    """The counters of every job, ended or not, are the sums over its batches and outcomes."""
    return [f"{rule} of job {job} is not the sum over its parts" for job, rule in session.execute(COUNTERS)]


def paths(session: psycopg.Connection) -> list[str]:
    """The events of each job lead along the lines of the drawing to the state that it is in."""
    states = {job: status for job, status, *_ in session.execute(JOBS)}
    found = []
    for job, kinds in session.execute(EVENTS):
        path = [LEADS_TO[kind] for kind in kinds if kind in LEADS_TO]
        if kinds[0] != "submitted" or path[-1] != states[job] or not MOVES.issuperset(pairwise(path)):
            found.append(f"the events of job {job}, which is {states[job]}, are no path: {', '.join(kinds)}")
    return found


def left(engine: Engine, patience: float = PATIENCE, *, but: Collection[str] = ()) -> list[str]:
    """Nothing is left over of what jobs leave behind them: no message, no staged row, no chunk without a file."""
    found = lasting(
        lambda: [f"{count} {kind}" for kind, count in leftovers(engine).items() if kind not in but], patience
    )
    return [f"left over: {text}" for text in found]


def locks(session: psycopg.Connection) -> list[str]:
    """No advisory lock is held but those that prove that workers live, and the caretaker's."""
    return [f"an advisory lock is left: {row}" for row in session.execute(LOCKS)]


def idlers(session: psycopg.Connection) -> list[str]:
    """No session rests in a transaction."""
    return [f"a session is idle in a transaction: {row}" for row in session.execute(IDLERS, (NAME,))]


def crowds(session: psycopg.Connection) -> list[str]:
    """No worker process holds more sessions than its threads may need; each has a name of its own for them."""
    held = session.execute(SESSIONS, (NAME,))
    return [f"{sessions} sessions of {name}" for name, sessions in held if sessions > CONNECTIONS]


def ghosts(world: World, session: psycopg.Connection) -> list[str]:
    """The list of workers names exactly the processes that live."""
    listed = sorted(pid for (pid,) in session.execute(WORKERS))
    living = sorted(worker.pid for crew in world.crews for worker in crew.workers())
    return [] if listed == living else [f"the listed workers are {listed}, the living are {living}"]


def strange_vectors(session: psycopg.Connection) -> list[str]:
    """Every chunk has the vector that its text has in its repository's space."""
    return [
        f"{count} chunks of {root} have the vector of another text or model: {spaces} (model:dimension), not {model}"
        for root, count, model, spaces in session.execute(STRANGE_VECTORS)
    ]


def _repeated(world: World) -> list[str]:
    """Hardly a passage was embedded again without a reason (R33)."""
    embedded = world.embedded
    if embedded.unexplained <= REPEATED * embedded.total:
        return []
    return [f"{embedded.unexplained} of {embedded.total} passages were embedded again though nothing disturbed them"]


def unlike(disturbed: Engine, undisturbed: Engine, root: str) -> list[str]:
    """The index of a repository equals that of an undisturbed run, row for row, and its vectors are the same (R33)."""
    want, have = chunk_set(undisturbed, root), chunk_set(disturbed, root)
    if want != have:
        lost, more = set(want) - set(have), set(have) - set(want)
        files = sorted({str(row[0]) for row in lost | more})[:5]
        return [f"the index of {root} lacks {len(lost)} chunks and has {len(more)} others, in {', '.join(files)}"]
    expected, found = vectors(undisturbed, root), vectors(disturbed, root)
    apart = [at for at, vector in found.items() if not _close(vector, expected[at])]
    return [f"{len(apart)} vectors of {root} are not those of an undisturbed run, first {apart[0]}"] if apart else []


def _close(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() < CLOSE)


def after_the_end(world: World) -> list[str]:
    """Return what workers left behind that were asked to end: entries, messages in their hands, sessions."""
    with world.server.session() as session:
        return lasting(partial(_remains, session), LET_GO)


def _remains(session: psycopg.Connection) -> list[str]:
    rows = {
        "entries of workers": session.execute(WORKERS).fetchall(),
        "messages in their hands": session.execute(HELD).fetchall(),
        "sessions": session.execute(SESSIONS, (NAME,)).fetchall(),
    }
    return [f"workers that ended left {what}: {found}" for what, found in rows.items() if found]
