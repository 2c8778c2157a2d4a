"""What tests of streams share: narrow sockets, and content in megabytes."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import socket
import sys
import termios

from tests.support.gateway import Bench
from tests.support.peer import Peer

MIB = 1 << 20
SOCKET_BYTES = 64 * 1024  # what the kernel is asked to hold for each socket on the way; it doubles that


def narrow_socket(transport: asyncio.BaseTransport | asyncio.StreamWriter, size: int = SOCKET_BYTES) -> None:
    connection: socket.socket = transport.get_extra_info("socket")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, size)


def narrow_listening(b: Bench, size: int = SOCKET_BYTES) -> None:
    """Accepted connections inherit it."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        b.gateway._servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, option, size)


def readable_bytes(transport: asyncio.BaseTransport) -> int:
    """What the kernel holds for who reads next."""
    number = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(number, sys.byteorder)


async def send_megabytes(peer: Peer, count: int, *, chunked: bool) -> bytes:
    """Send content, as fast as it is taken; the digest of it."""
    digest = hashlib.sha256()
    for number in range(count):
        piece = b"%08d" % number * (MIB // 8)
        digest.update(piece)
        await peer.send(b"%x\r\n%b\r\n" % (MIB, piece) if chunked else piece)
    if chunked:
        await peer.send(b"0\r\n\r\n")
    return digest.digest()


async def read_some(peer: Peer, size: int, *, chunked: bool) -> bytes:
    """Read content of that size, in however many chunks it comes; less at the end of it."""
    if not chunked:
        return await peer.read_exactly(size)
    content = b""
    while len(content) < size:
        chunk_size = int(await peer.read_until(b"\r\n"), 16)
        content += (await peer.read_exactly(chunk_size + 2))[:-2]
        if chunk_size == 0:
            break
    return content
