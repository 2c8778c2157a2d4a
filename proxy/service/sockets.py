"""Listening sockets: bound before anything else starts, so that a taken port is told at once."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.service.background import Background
from proxy.settings import Address, Upstream

_BACKLOG: Final = 2048
_PORT_TRIES: Final = 10  # to find one port that is free at all addresses of a name
_RESOLVE_S: Final = 2.0
# This host lacks an address of a name; that is no failure while it has another one.
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_Place = tuple[socket.AddressFamily, tuple[Any, ...]]
_FileIdentity = tuple[int, int, int]
_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class ListenError(OSError):
    """An address that cannot be listened on; its text says which and why."""


@dataclass(frozen=True, slots=True)
class Listening:
    """An address that is listened on.

    Attributes:
        address: as given, with the chosen port for port 0; for a name with one address, that address.
        sockets: one for each address of a name.
        identity: of the file of a Unix socket.
    """

    address: Address
    sockets: Sequence[socket.socket]
    identity: _FileIdentity | None = None

    def close(self) -> None:
        """Close the sockets."""
        for one in self.sockets:
            one.close()

    def remove_file(self) -> None:
        """Remove a Unix socket's file unless another process has replaced it: restarts overlap."""
        path = self.address.path
        if path is not None and self.identity is not None and _identity(path) == self.identity:
            with contextlib.suppress(OSError):
                path.unlink()


def bind(address: Address, *, is_shared: bool = False) -> Listening:
    """Bind to an address and listen: a name at all of its addresses, no host at every IPv4 and IPv6 address.

    Args:
        is_shared: other workers bind the same port (SO_REUSEPORT). It is not yet listened on: the kernel
            would give it connections before its worker has started.

    Raises:
        ListenError: the address is taken or not ours.
    """
    try:
        if address.path is not None:
            return _bind_unix(address.path)
        sockets = _bind_all(address, is_shared=is_shared)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror or error}") from error
    host, port = sockets[0].getsockname()[:2]
    return Listening(Address(host if len(sockets) == 1 else address.host, port), sockets)


def reaches(upstream: Upstream, listen: Address) -> bool:
    """Tell whether a connection to the upstream would come in at a listening address, under whatever name.

    Only this host's own addresses count; another host that forwards to it is not noticed.
    """
    if upstream.path is not None or listen.path is not None:
        return (
            upstream.path is not None
            and listen.path is not None
            and (upstream.path.resolve() == listen.path.resolve())
        )
    if upstream.port != listen.port:
        return False
    listened = _addresses(listen.host, listen.port) if listen.host else []
    takes_any = not listen.host or any(address.is_unspecified for address in listened)
    return any(
        address in listened or (takes_any and _is_of_this_host(address))
        for address in _addresses(upstream.host, upstream.port)
    )


def _bind_all(address: Address, *, is_shared: bool) -> list[socket.socket]:
    for _ in range(_PORT_TRIES):
        sockets: list[socket.socket] = []
        try:
            _bind_each(address, sockets, is_shared=is_shared)
        except OSError as error:
            for one in sockets:
                one.close()
            if address.port or error.errno != errno.EADDRINUSE:
                raise
        else:
            return sockets
    raise OSError(errno.EADDRINUSE, "no port is free at all of its addresses")


def _bind_each(address: Address, sockets: list[socket.socket], *, is_shared: bool) -> None:
    """Bind at each address of a name that this host has, and append the sockets."""
    missing: OSError | None = None
    for family, place in _places(address):
        port = sockets[0].getsockname()[1] if sockets else place[1]
        try:
            sockets.append(
                _bind_one(family, (place[0], port, *place[2:]), is_shared=is_shared, is_dual=not address.host)
            )
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            missing = error
        else:
            if not address.host:
                return  # it takes IPv4 too
    if not sockets and missing is not None:
        raise missing


def _places(address: Address) -> list[_Place]:
    if not address.host:  # where there is no IPv6, the second
        return [(socket.AF_INET6, ("::", address.port, 0, 0)), (socket.AF_INET, ("0.0.0.0", address.port))]  # noqa: S104 - as asked
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, place) for family, _, _, _, place in dict.fromkeys(found)]


def _bind_one(
    family: socket.AddressFamily, place: tuple[Any, ...], *, is_shared: bool, is_dual: bool
) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    with _closed_on_error(listening):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            takes_ipv4_too = is_dual or place[0] == "::"
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if takes_ipv4_too else 1)
        listening.bind(place)
        if not is_shared:
            listening.listen(_BACKLOG)
    return listening


def _bind_unix(path: Path) -> Listening:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()  # left over by a process that was killed
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _closed_on_error(listening):
        listening.bind(str(path))
        listening.listen(_BACKLOG)
    return Listening(Address(path=path), [listening], _identity(path))


def _identity(path: Path) -> _FileIdentity | None:
    """Return what tells files of one name apart. File systems reuse the inode number of a deleted file, hence the time."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


@contextlib.contextmanager
def _closed_on_error(listening: socket.socket) -> Iterator[None]:
    try:
        yield
    except OSError:
        listening.close()
        raise


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _addresses(host: str, port: int) -> list[_IPAddress]:
    """Resolve a name; return no addresses if that fails or takes too long."""
    resolving = Background("resolve").call(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    try:
        return [_plain(str(place[0])) for *_, place in resolving.result(_RESOLVE_S)]
    except (OSError, TimeoutError):
        return []


def _plain(name: str) -> _IPAddress:
    """Read an address; an IPv4-mapped IPv6 address becomes the IPv4 address."""
    address = ipaddress.ip_address(name.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _is_of_this_host(address: _IPAddress) -> bool:
    """Tell whether an address is one of this host's: only those can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP's versions
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
