"""The second host: a network namespace with a cable that can be pulled; where that is not allowed, a silent proxy."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

from tests.chaos.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PORT: Final = 5432
RENAMED: Final = 'echo elsewhere > /proc/sys/kernel/hostname; exec "$@"'


@dataclass(frozen=True, slots=True)
class Host:
    """Where the second group of workers runs, and what it reaches from there."""

    kind: str
    prefix: tuple[str, ...]
    """What is put before a command to run it there."""
    database: tuple[str, int]
    """Host and port."""
    embedder: str
    lose: Callable[[], None]
    """Have the host fall silent."""
    find: Callable[[], None]
    """Have it back."""


@dataclass(frozen=True, slots=True)
class Cable:
    """The cable to a namespace: both are named after the folder of the run."""

    name: str

    @property
    def end(self) -> str:
        """The name of the device at our end."""
        return f"{self.name}h"

    @property
    def address(self) -> str:
        """Our address."""
        return self._address(1)

    @property
    def far_address(self) -> str:
        """Theirs."""
        return self._address(2)

    def _address(self, last: int) -> str:
        number = crc32(self.name.encode())
        return f"198.18.{number >> 8 & 255}.{(number & 252) + last}"  # of the range that is set aside for tests

    def lay(self) -> None:
        """Make the namespace and connect it. Raises OSError or CalledProcessError where that is not allowed."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self.end, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{self.address}/30", "dev", self.end)
        _ip("link", "set", self.end, "up")
        for words in (("addr", "add", f"{self.far_address}/30", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _ip("-n", self.name, *words)
        _ip("-n", self.name, "link", "set", "lo", "up")

    def pull(self) -> None:
        """Pull the plug: packets vanish, and nobody is told."""
        _ip("link", "set", self.end, "down")

    def plug(self) -> None:
        """Put it in again."""
        _ip("link", "set", self.end, "up")

    def remove(self) -> None:
        """Remove the namespace, and the cable with it."""
        _ip("netns", "del", self.name)


def cable_of(folder: Path) -> Cable:
    """Return the cable of a run."""
    return Cable(f"pc-{folder.name[-8:]}")


@contextmanager
def laid(folder: Path) -> Iterator[Cable | None]:
    """Yield a cable to a namespace, None where none may be made."""
    cable = cable_of(folder)
    try:
        cable.lay()
    except (OSError, subprocess.CalledProcessError):
        remove(folder)
        yield None
        return
    try:
        yield cable
    finally:
        cable.plug()


def remove(folder: Path) -> None:
    """Remove a run's namespace, if there is one."""
    if os.geteuid() == 0:
        subprocess.run(["ip", "netns", "del", cable_of(folder).name], capture_output=True, check=False)


@contextmanager
def by_cable(cable: Cable, embedder: str) -> Iterator[Host]:
    """Yield a host at the far end of a cable; the embedding server is reached through a forwarder at our end."""
    with Network(int(embedder.rpartition(":")[2]), cable.address) as forwarder:
        yield Host(
            kind="a network namespace",
            prefix=("ip", "netns", "exec", cable.name, "unshare", "--uts", "sh", "-c", RENAMED, "sh"),
            database=(cable.address, PORT),
            embedder=f"http://{cable.address}:{forwarder.port}",
            lose=cable.pull,
            find=cable.plug,
        )


@contextmanager
def by_proxy(socket: Path, embedder: str) -> Iterator[Host]:
    """Yield this very host, but for a proxy on the way to the database."""
    with Network(socket) as network:
        yield Host("a proxy", (), ("127.0.0.1", network.port), embedder, network.silence, network.cut)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)
