"""The PostgreSQL of a run: on a small disk of its own, with few connections, kept alive as an operator's is."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, LiteralString

import psutil
import psycopg
from psycopg import sql
from sqlalchemy import make_url

from ops import database, postgres
from pipeline.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

DISK_MIB: Final = 768
ROLE: Final = "penstock"
DATABASE: Final = "penstock"
UNDISTURBED: Final = "undisturbed"
"""The database in which the same trees are indexed while nothing breaks."""
NAME: Final = "penstock chaos"
CONNECT_SECONDS: Final = 5
NETWORK: Final = "198.18.0.0/15"
"""Where other hosts have their addresses."""
# A few more than the workers open; the last three are for superusers, which the watchers are and the workers are not.
SETTINGS: Final[dict[LiteralString, str]] = {
    "max_connections": "70",
    "shared_buffers": "64MB",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
    "autovacuum_naptime": "5s",
}


def mount(disk: Path) -> bool:
    """Make the folder, mount a small disk on it where that is allowed, and say whether it was."""
    disk.mkdir(mode=0o755)
    if os.geteuid() != 0:
        return False
    options = f"size={DISK_MIB}m,mode=755"
    command = ["mount", "-t", "tmpfs", "-o", options, "penstock-chaos", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Server:
    """The server under the home `disk`; while it is `wanted`, whoever tends it starts it again."""

    def __init__(self, disk: Path, *, small: bool) -> None:
        self.disk = disk
        self.small = small
        """Whether the disk may be filled: it is not the machine's."""
        self.wanted = threading.Event()
        self.starts = 0
        self._url = postgres.ensure(disk)

    def prepare(self, address: str) -> None:
        """Set the server up to listen on its socket and on `address`, and make and migrate the two databases."""
        with (self.disk / "postgres" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETWORK} trust\n")
        with self.session("postgres") as session:
            for name, value in {**SETTINGS, "listen_addresses": address}.items():
                session.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            session.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        postgres.stop(self.disk)
        postgres.ensure(self.disk)
        self._make(DATABASE, "ALTER DATABASE {} OWNER TO {}")
        self._make(UNDISTURBED, "CREATE DATABASE {} OWNER {}")
        self.wanted.set()

    def _make(self, name: str, statement: LiteralString) -> None:
        with self.session("postgres") as session:
            session.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(ROLE)))
        with self.session(name) as session:
            session.execute("CREATE EXTENSION vector")
        database.upgrade(self.url(name))

    def url(self, name: str = DATABASE, role: str = ROLE) -> str:
        """Return the libpq URL of a database."""
        return make_url(self._url).set(database=name, username=role).render_as_string(hide_password=False)

    def url_at(self, host: str, port: int) -> str:
        """Return the workers' URL for those who reach the server at this address."""
        return make_url("postgresql://").set(username=ROLE, host=host, port=port, database=DATABASE).render_as_string()

    @contextmanager
    def session(self, name: str = DATABASE, role: str = "postgres") -> Iterator[psycopg.Connection]:
        """Yield a session of an administrator, in which every statement commits. Raises psycopg.Error."""
        options = {"application_name": NAME, "connect_timeout": CONNECT_SECONDS}
        with psycopg.connect(self.url(name, role), autocommit=True, **options) as connection:  # type: ignore[arg-type]  # its stubs want each by name
            yield connection

    @property
    def socket(self) -> Path:
        """The server's socket."""
        return self.disk / "postgres" / ".s.PGSQL.5432"

    def answers(self) -> bool:
        """Say whether a statement is answered at this moment."""
        try:
            with self.session() as session:
                session.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def tend(self) -> None:
        """Start the server again when it is wanted and down, as systemd would."""
        if self.wanted.is_set() and not postgres.running(self.disk):
            with suppress(DatabaseError):  # the disk may be full: it is tried again
                postgres.ensure(self.disk)
                self.starts += 1

    @contextmanager
    def down(self, how: Literal["fast", "immediate"]) -> Iterator[None]:
        """Stop the server and keep it down."""
        self.wanted.clear()
        try:
            postgres.stop(self.disk, how)
            yield
        finally:
            self.wanted.set()

    def postmaster(self) -> psutil.Process:
        """Return the server's first process. Raises LookupError when there is none."""
        try:
            pid = int((self.disk / "postgres" / "postmaster.pid").read_text().split()[0])
            return psutil.Process(pid)
        except (OSError, IndexError, psutil.NoSuchProcess) as error:
            raise LookupError("the server is down") from error

    @contextmanager
    def full_disk(self) -> Iterator[int]:
        """Leave no free byte on the disk, and yield how many there were."""
        ballast = self.disk / "ballast"
        free = os.statvfs(self.disk)
        count = free.f_bavail * free.f_bsize
        try:
            with ballast.open("wb") as file, suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, count)
            yield count
        finally:
            ballast.unlink(missing_ok=True)
