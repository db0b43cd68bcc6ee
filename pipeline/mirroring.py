"""Keeps mirrors of git repositories on this host: a commit of a URL is fetched once, and read from disk by every batch.

A mirror is a bare repository that holds the commits which jobs asked for, without their history. It can be made again
at any time, so nothing of it is precious. One process fetches at a time: the git that it starts holds its lock, too, so
that what a killed worker leaves behind is cleared away by the next one, and never while it is being written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline import git
from pipeline.errors import FetchFailed, ScanRefused, SourceUnavailable
from pipeline.sources import PROTOCOLS, Kind, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FETCH_SECONDS: Final = 1_800.0
POLL_SECONDS: Final = 0.05
KEPT_COMMITS: Final = 20
UNUSED_SECONDS: Final = 30 * 86_400.0
INCOMING: Final = "refs/penstock/incoming"
KEPT: Final = "refs/penstock/commits"
FETCH: Final = (
    *("-c", "transfer.unpackLimit=1"),  # a pack is there as a whole or not at all
    *("-c", "gc.auto=0", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"),
    *("fetch", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-progress", "--force"),
    *("--no-prune", "--no-auto-maintenance"),
)
INIT: Final = (
    *(
        "-c",
        "init.defaultRefFormat=files",
        "-c",
        "init.defaultObjectFormat=sha1",
    ),  # whatever the account's settings say
    *("init", "--bare", "--quiet", "--template=", "."),
)
OWN_VARIABLES: Final = ("GIT_SSL_", "GIT_HTTP_", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_")
"""How variables begin by which an operator tells git about proxies, certificates and credentials."""
TIDY: Final = ("-c", "gc.autoDetach=false", "-c", "gc.packRefs=false", "gc", "--auto", "--quiet")
SSH: Final = "{ssh} -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15"
NO_GIT: Final = "git is not installed where the workers run: install it, or index a folder"
LEFT_BEHIND: Final = ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/tmp_objdir-*")

_USER = re.compile(r"(?<=://)[^/@\s]+@")
_NO_SHALLOW = re.compile(r"shallow (?:capabilities|clients)")
_REFUSED = re.compile(
    r"permission denied|authentication failed|could not read (?:username|password)|not found|does not exist|not our ref"
    r"|access denied|host key verification|error: 40[0134]\b|remote ref|unadvertised object|not appear to be a git"
    r"|not allowed",
    re.IGNORECASE,
)
_AWAY = re.compile(
    r"resolve host|name resolution|connect|timed out|too slow|early EOF|hung up|RPC failed"
    r"|(?:error:|HTTP) (?:5\d\d|429)|unreachable|no route|empty reply",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The mirrors of this host: their folder, the bytes that each may have, and whether redirects are followed."""

    folder: Path
    most_bytes: int = 10 * 1024**3
    redirects: bool = True

    def resolve(self, source: Source, heed: Callable[[], None]) -> str:
        """Return the commit that a source names now, which is on this host afterwards.

        `heed` is called in between; what it raises ends git and the call. Raises ScanRefused when there is no such
        repository or ref or no right to it, SourceUnavailable when its host is away, FetchFailed.
        """
        if source.kind is Kind.LOCAL:
            return _commit(Path(source.place), source.ref or "HEAD", source)
        with self._locked(source.place, heed) as mirror:
            mirror.fetch(source.ref or "HEAD")
            return mirror.keep(source)

    def holding(self, source: Source, commit: str, heed: Callable[[], None]) -> Path:
        """Return the git repository on this host that holds a commit, which is fetched when it is missing.

        Raises SourceUnavailable, saying which host lacks what: another one may have it.
        """
        folder = Path(source.place) if source.kind is Kind.LOCAL else self._path(source.place)
        try:
            if source.kind is Kind.LOCAL:
                _commit(folder, commit, source)
            elif not (folder / KEPT / commit).exists():
                with self._locked(source.place, heed) as mirror:
                    mirror.fetch_again(commit, source)
        except (FetchFailed, ScanRefused) as error:
            raise SourceUnavailable(f"host {socket.gethostname()} lacks commit {commit[:12]}: {error}") from error
        return folder

    def remove(self, url: str) -> None:
        """Delete the mirror of a URL, unless it is being fetched this moment."""
        if self._path(url).exists():
            self._discard(self._path(url))

    def _path(self, url: str) -> Path:
        return self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.git"

    @contextmanager
    def _locked(self, url: str, heed: Callable[[], None]) -> Iterator[_Mirror]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prune()
        folder = self._path(url)
        deadline = time.monotonic() + FETCH_SECONDS
        while (lock := _lock(folder)) is None:
            if time.monotonic() > deadline:
                raise SourceUnavailable(f"another process has been fetching {url} for {FETCH_SECONDS:g} s")
            heed()
            time.sleep(POLL_SECONDS)
        try:
            yield _Mirror(self, folder, url, lock, heed)
        finally:
            os.close(lock)

    def _prune(self) -> None:
        """Delete the mirrors that nobody fetched into for long."""
        for folder in self.folder.glob("*.git"):
            if time.time() - folder.stat().st_mtime > UNUSED_SECONDS:
                self._discard(folder)

    def _discard(self, folder: Path) -> None:
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _lock_file(folder).unlink(missing_ok=True)
            os.close(lock)


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _lock(folder: Path) -> int | None:
    """Lock a mirror and return the lock's descriptor; None while another process has it."""
    file = _lock_file(folder)
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == file.stat().st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):  # held, or deleted with its mirror this moment
        pass
    os.close(lock)
    return None


@dataclass(frozen=True, slots=True)
class _Mirror:
    """A mirror that this process has locked."""

    mirrors: Mirrors
    folder: Path
    url: str
    lock: int
    heed: Callable[[], None]

    def fetch(self, wanted: str, *, deep: bool = False) -> None:
        """Fetch a ref or commit without its history, or, `deep`, with it: some servers can do no less."""
        try:
            self._prepare()
            self._fetch(wanted, deep=deep)
        except FetchFailed as error:
            if not deep and _NO_SHALLOW.search(str(error)):
                self.fetch(wanted, deep=True)
                return
            if type(error) is FetchFailed:  # nobody knows what is wrong: perhaps the mirror is
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            self._clear()

    def keep(self, source: Source) -> str:
        """Note that the commit fetched last is here as a whole, and return its id."""
        commit = _commit(self.folder, INCOMING, source)
        self._run("update-ref", f"{KEPT}/{commit}", commit)
        (self.folder / KEPT / commit).touch()
        kept = sorted((self.folder / KEPT).iterdir(), key=lambda ref: ref.stat().st_mtime)
        for old in kept[:-KEPT_COMMITS]:
            old.unlink()
        with suppress(FetchFailed):
            self._run(*TIDY)
        return commit

    def fetch_again(self, commit: str, source: Source) -> None:
        """Fetch a commit that was a ref's once: by its id, or else with its ref, which may have gone on since."""
        if (self.folder / KEPT / commit).exists():  # by another process, while this one waited for the lock
            return
        try:
            self.fetch(commit)
        except ScanRefused:
            self.fetch(source.ref or "HEAD")
            if _commit(self.folder, INCOMING, source) != commit:
                self.fetch(source.ref or "HEAD", deep=True)
            if _run(self.folder, "merge-base", "--is-ancestor", commit, INCOMING) is None:
                raise
            self._run("update-ref", INCOMING, commit)
        self.keep(source)

    def _prepare(self) -> None:
        """Make the repository, or make it fit again after a process that was killed; one that grew too large anew."""
        self._clear()
        if self._bytes() > self.mirrors.most_bytes:
            shutil.rmtree(self.folder)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.folder.touch()
        self._run(*INIT)

    def _clear(self) -> None:
        for pattern in LEFT_BEHIND:
            for stale in self.folder.glob(pattern):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()

    def _fetch(self, wanted: str, *, deep: bool) -> None:
        depth = ["--depth=1"]
        if deep:
            depth = ["--unshallow"] if (self.folder / "shallow").exists() else []
        redirects = f"http.followRedirects={'initial' if self.mirrors.redirects else 'false'}"
        most = self._bytes() + self.mirrors.most_bytes
        self._run("-c", redirects, *FETCH, *depth, "--", self.url, f"+{wanted}:{INCOMING}", most_bytes=most)

    def _run(self, *arguments: str, most_bytes: float = inf) -> None:
        """Run git in the mirror and heed the job meanwhile. Raises what `resolve` does."""
        line = git.command(*arguments)
        if line is None:
            raise ScanRefused(NO_GIT)
        with tempfile.TemporaryFile() as said:
            child = subprocess.Popen(  # noqa: S603 - no shell; the URL and the ref were checked
                line,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,  # no terminal to ask, and a group of its own to be ended with
                pass_fds=(self.lock,),
            )
            try:
                self._attend(child, most_bytes)
            finally:
                _end(child)
            said.seek(0)
            if child.returncode:
                raise _fault(self.url, said.read().decode(errors="replace"))

    def _attend(self, child: subprocess.Popen[bytes], most_bytes: float) -> None:
        deadline = time.monotonic() + FETCH_SECONDS
        ended = False
        while not ended:
            ended = child.poll() is not None
            self.heed()
            if time.monotonic() > deadline:
                raise SourceUnavailable(f"fetching {self.url} took longer than {FETCH_SECONDS:g} s")
            if self._bytes() > most_bytes:
                allowed = self.mirrors.most_bytes / 1024**3
                raise ScanRefused(f"{self.url} has more to fetch than MAX_REPO_SIZE_GB allows ({allowed:.2f} GB)")
            with suppress(subprocess.TimeoutExpired):
                child.wait(POLL_SECONDS)  # at once when it has ended

    def _bytes(self) -> int:
        return sum(map(_size, (self.folder / "objects" / "pack").glob("*")))

    def _environment(self) -> dict[str, str]:
        scheme = self.url.partition("://")[0] if "://" in self.url else "ssh"
        ssh = SSH.format(ssh=os.environ.get("GIT_SSH_COMMAND") or "ssh")
        own = {name: value for name, value in os.environ.items() if name.startswith(OWN_VARIABLES)}
        return (
            git.environment(protocols=PROTOCOLS[scheme])
            | own
            | {"GIT_ASKPASS": "", "GIT_SSH_COMMAND": ssh, "GIT_DIR": "."}
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _end(child: subprocess.Popen[bytes]) -> None:
    """End git with all that it started, unless it has ended."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _commit(folder: Path, ref: str, source: Source) -> str:
    """Return the id of the commit that a ref of a repository on disk names."""
    if not folder.is_dir():
        raise ScanRefused(f"{folder} is not there: it was moved, or its disk is not mounted")
    told = _run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if told is None and git.command() is None:
        raise ScanRefused(NO_GIT)
    if told is None:
        raise ScanRefused(f"{source.place} has no commit of the name {source.ref or 'HEAD'}: is the ref spelt right?")
    return told.stdout.decode().strip()


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    """Run git in this very folder: one that is no repository must not lead to the one around it."""
    return git.run(bytes(folder), *arguments, ceiling=bytes(folder.parent))


def _fault(url: str, said: str) -> FetchFailed | ScanRefused:
    """Return what to raise for what git said, without what could be a secret in it."""
    words = " ".join(_USER.sub("", line).strip() for line in said.splitlines() if line.strip())[:500]
    if _REFUSED.search(words):
        advice = "check the URL and --ref, and that the account of the workers may read it without being asked"
        return ScanRefused(f"{url} cannot be fetched: {words}; {advice}")
    kind = SourceUnavailable if _AWAY.search(words) else FetchFailed
    return kind(f"{url} cannot be fetched: {words or 'git was killed'}")
