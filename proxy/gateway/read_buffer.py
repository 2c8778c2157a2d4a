"""Large content passes through one buffer that every read fills anew: no byte of it is copied in this process.

An ordinary read makes an object of what has come. For small messages that is the cheapest way; of a download of
1 MiB the copies were 7 % of the CPU.
"""

from __future__ import annotations

import asyncio
import mmap
from typing import Final, Protocol

# Each read and each write wakes somebody; a buffer that leaves the second-level cache costs as much. No power
# of two: content often is one, and what its head pushes out of the last read would be another read and write.
_BYTES: Final = 400_000
# With fewer bytes, a client that does not take them would hold a buffer that is mostly empty.
_LEAST_SHARED: Final = _BYTES // 2
# What comes in one or two reads is not worth the change of the reader.
LARGE_CONTENT_BYTES: Final = 128 * 1024


class Inbox:
    """The buffer of a worker that all of its large content is read into, one read after the other.

    Attributes:
        buffer: what the next read fills.
    """

    __slots__ = ("buffer",)

    def __init__(self) -> None:
        self.replace()

    def replace(self) -> None:
        """Read into another one from now on: what is in this one is still being sent."""
        # Begins with a page: 16 bytes into one, where an allocator puts it, copying takes some processors
        # (AMD's Zen 3) fifteen times as long whenever the bytes to copy begin with a page.
        self.buffer = memoryview(mmap.mmap(-1, _BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class LargeContentReceiver(Protocol):
    """What a `LargeContentReader` reads for."""

    def data_received(self, data: bytes) -> None:
        """Take bytes that nobody else has."""

    def large_content_received(self, data: memoryview) -> bool:
        """Take much content; return whether its buffer is still in use."""

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class LargeContentReader(asyncio.BufferedProtocol):
    """Takes the place of an upstream connection as its transport's protocol while large content comes."""

    __slots__ = ("_inbox", "_receiver")

    def __init__(self, receiver: LargeContentReceiver, inbox: Inbox) -> None:
        self._receiver = receiver
        self._inbox = inbox

    def get_buffer(self, _size_hint: int) -> memoryview:
        return self._inbox.buffer

    def buffer_updated(self, size: int) -> None:
        inbox = self._inbox
        if size < _LEAST_SHARED:
            self._receiver.data_received(bytes(inbox.buffer[:size]))
        elif self._receiver.large_content_received(inbox.buffer[:size]):
            inbox.replace()

    # What is not content is for the connection, whose callbacks answer for mistakes of this program.

    def eof_received(self) -> bool | None:
        return self._receiver.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._receiver.resume_writing()
