"""What is sent in one turn of the event loop is written at its end: one system call a connection.

To write is mostly to wake the process at the other end. Written at once, each message of a busy turn finds its
reader asleep again; written together, all but the first find it awake. With 32 busy connections a request
costs a fifth less CPU so; no message waits for more than what arrived together with it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

# One turn may read a connection 32 times, 256 KiB each: only what was written can push back.
LARGE_BYTES: Final = 16 * 1024

_SO_MEMINFO: Final = 55  # Linux; the socket module does not name it
_MEMINFO: Final = struct.Struct("9I")
# As much room as this is not asked for again before it is used up: to ask costs a tenth of a 64 KiB download.
_AMPLE_BYTES: Final = 512 * 1024
# What the operating system counts for a write beside its bytes, at the most.
_WRITE_BYTES: Final = 4096


class Outbox:
    """The connections of a worker that have something to write in this turn."""

    __slots__ = ("_loop", "_senders")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Have a connection write at the end of this turn."""
        if not self._senders:
            self._loop.call_soon(self.flush)
        self._senders.append(sender)

    def flush(self) -> None:
        """Write what all connections have to write."""
        senders, self._senders = self._senders, []
        for sender in senders:
            try:
                sender.push()
            except Exception:  # noqa: BLE001 - one connection's failure is not that of those behind it
                sender.failed_by_itself()


class Sender(asyncio.BaseProtocol):
    """The sending side of a connection.

    Attributes:
        transport: to be written to by the sender alone.
        unwritten: what was sent in this turn and waits for its end.
    """

    __slots__ = ("_outbox", "_room", "transport", "unwritten")

    transport: asyncio.Transport

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._room = 0  # bytes: as last asked for, less what was written since
        self.unwritten: list[bytes | memoryview] = []

    def send(self, data: bytes | memoryview) -> None:
        """Write at the end of this turn, after what was sent before; what is large is written at once.

        Args:
            data: a view must be large; its buffer is in use until the transport has taken it.
        """
        if len(data) >= LARGE_BYTES:
            self.send_now(data)
            return
        if not self.unwritten:
            self._outbox.add(self)
        self.unwritten.append(data)

    def send_now(self, data: bytes | memoryview) -> None:
        """Write what was sent before, and this; a view's buffer is in use until the transport has taken it."""
        unwritten = self.unwritten
        self._room -= len(data) + _WRITE_BYTES
        if self.transport.is_closing():
            unwritten.clear()
        elif unwritten:
            self.unwritten = []
            self._room -= sum(map(len, unwritten))
            self.transport.writelines([*unwritten, data])
        else:
            self.transport.write(data)

    def failed_by_itself(self) -> None:
        """Answer for a callback that has raised; called while the exception is handled, and raises nothing."""
        raise NotImplementedError

    def room(self) -> int:
        """How many bytes the operating system is sure to take at once, so none of them stays in this process."""
        if self.transport.get_write_buffer_size():
            return 0
        if self._room < _AMPLE_BYTES:
            self._room = self._ask_for_room()
        return self._room

    def _ask_for_room(self) -> int:
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        if connection is None:
            return 0
        try:
            memory = _MEMINFO.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
        except (OSError, struct.error):
            return 0
        # Unix sockets count what is allocated, TCP what is queued.
        allocated, limit, queued = memory[2], memory[3], memory[5]
        return max(int(limit - max(allocated, queued)), 0)

    def push(self) -> None:
        """Write now what was sent; for who is about to close."""
        unwritten = self.unwritten
        if not unwritten:
            return
        self.unwritten = []
        if not self.transport.is_closing():
            # Of what is small, one piece is cheaper than two.
            data = unwritten[0] if len(unwritten) == 1 else b"".join(unwritten)
            if self._room:
                self._room -= len(data) + _WRITE_BYTES
            self.transport.write(data)
