"""The totals of a repository's row are what its files and chunks come to, after every step of every job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from pipeline import jobs
from pipeline.records import JobRequest
from tests.driving import Driver
from tests.repositories import write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

FILES: Final[dict[str, str | bytes]] = {f"part{n}.py": f"def part{n}():\n    return {n}\n" for n in range(9)}
TOTALS: Final = text("""
SELECT r.files, r.chunks,
    (SELECT count(*) FROM penstock.files f WHERE f.repository_id = r.id AND f.skip_reason IS NULL),
    (SELECT count(*) FROM penstock.chunks c WHERE c.repository_id = r.id), r.changes
FROM penstock.repositories r
""")


def totals(engine: Engine) -> tuple[int, int, int]:
    """Return the noted totals, which must be those that are counted, and the changes."""
    with engine.connect() as connection:
        files, chunks, counted_files, counted_chunks, changes = connection.execute(TOTALS).one()
    assert (files, chunks) == (counted_files, counted_chunks)
    return files, chunks, changes


def index(driver: Driver, root: Path, *, force: bool = False) -> tuple[int, int, int]:
    """Index a folder, looking at the totals after every message; return the last."""
    jobs.submit(driver.office, JobRequest(repo_path=str(root), force_reindex=force))
    while driver.step():
        totals(driver.engine)
    return totals(driver.engine)


def test_totals_follow_every_transaction(engine: Engine, tmp_path: Path) -> None:
    """New, changed, removed, skipped and forced files are counted once, also when each message comes twice (R52)."""
    driver, root = Driver(engine, times=2), write(tmp_path / "machine", FILES)
    assert index(driver, root) == (9, 9, 9)

    write(root, {"part1.py": "def other():\n    return 1\n", "part2.py": b"\x00\x01binary\x00", "new.py": "x = 1\n"})
    (root / "part3.py").unlink()
    assert index(driver, root) == (8, 8, 9 + 5)

    assert index(driver, root, force=True) == (8, 8, 14 + 16)


def test_a_file_that_vanishes_before_it_is_read_is_not_counted(engine: Engine, tmp_path: Path) -> None:
    """What the scan saw and the chunk stage did not find leaves the totals with its chunks (R36)."""
    driver, root = Driver(engine), write(tmp_path / "machine", FILES)
    index(driver, root)
    write(root, {"part1.py": "def other():\n    return 1\n"})
    driver.begin(root)
    driver.step()
    (root / "part1.py").unlink()
    driver.drain()
    assert totals(engine) == (8, 8, 10)
