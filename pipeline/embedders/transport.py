"""The way to an embedding server: a proxy for other machines only, and sockets that notice when the peer is gone."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

import httpx

if TYPE_CHECKING:
    import ssl

KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 4,
    "TCP_KEEPALIVE": 4,  # the same, as macOS names it
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 10_000,
}
"""Seconds, seconds, probes, milliseconds: a host that answers nothing is given up after 10 s (R13)."""
VANISHED: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})


def transport_to(address: str, context: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    """Return a transport to the server at an address, through the environment's proxy unless that is our own machine.

    Raises ValueError for an address or a proxy that is none, ImportError for a SOCKS proxy without its library.
    """
    return httpx.AsyncHTTPTransport(verify=context, proxy=proxy_to(httpx.URL(address)), socket_options=socket_options())


def proxy_to(url: httpx.URL) -> str | None:
    """Return the environment's proxy for a URL: none to this machine, whose loopback no proxy can reach."""
    if is_this_machine(url.host) or proxy_bypass(url.netloc.decode()):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def is_this_machine(host: str) -> bool:
    """Return whether a host name or an address without brackets can only mean the machine that we are on."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def socket_options() -> list[tuple[int, int, int]]:
    """Return what makes the kernel ask after a silent peer, whose kernel answers however slow the server itself is."""
    known = [(getattr(socket, name), value) for name, value in KEEPALIVE.items() if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *((socket.IPPROTO_TCP, name, value) for name, value in known)]


def has_vanished(error: BaseException) -> bool:
    """Return whether a connection broke because nothing at all came back, as when a host lost its power."""
    root = root_of(error)
    return isinstance(root, OSError) and root.errno in VANISHED


def root_of(error: BaseException) -> BaseException:
    """Return what an error was first raised from, or while handling: httpcore cuts some of its causes off."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error
