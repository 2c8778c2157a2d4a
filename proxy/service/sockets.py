"""Listening sockets: bound before anything else starts, so that a taken port is told at once."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy.settings import Address

_BACKLOG: Final = 2048


class ListenError(OSError):
    """An address that cannot be listened on; its text says which and why."""


def bind(address: Address, *, is_shared: bool = False) -> socket.socket:
    """Bind a socket and listen.

    Args:
        is_shared: other workers bind the same port (SO_REUSEPORT). It is not yet listened on: the kernel
            would give it connections before its worker has started.

    Raises:
        ListenError: the address is taken or not ours.
    """
    try:
        if address.path is not None:
            return _bind_unix(address.path)
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        with _closed_on_error(listening):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                takes_ipv4_too = address.host in ("", "::")
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if takes_ipv4_too else 1)
            listening.bind(place)
            if not is_shared:
                listening.listen(_BACKLOG)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror or error}") from error
    return listening


def bound_address(listening: socket.socket) -> Address:
    """Where a socket is bound, with the port that was chosen for port 0."""
    name = listening.getsockname()
    return Address(path=Path(name)) if isinstance(name, str) else Address(name[0], name[1])


def remove(address: Address) -> None:
    """Remove a Unix socket's file."""
    if address.path is not None:
        with contextlib.suppress(OSError):
            address.path.unlink()


def _bind_unix(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()  # left over by a process that was killed
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _closed_on_error(listening):
        listening.bind(str(path))
        listening.listen(_BACKLOG)
    return listening


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
