"""What comes from the app is read into one buffer of the worker: how much at a time depends on who is to take it.

An ordinary read of uvloop makes an object of up to 256 KB, and a client that does not take it holds that for as long
as it likes. So no read is larger than 48 KiB, unless the operating system is sure to take all of it for the client at
once. Then it is as large as pays, and the bytes are written from where they were read to, without a copy.
"""

from __future__ import annotations

import mmap
from typing import Final

# Each read and each write wakes somebody; a buffer that leaves the second-level cache costs as much. No power
# of two: content often is one, and what its head pushes out of the last read would be another read and write.
_BYTES: Final = 400_000
# What a client may hold of this process' memory; with what each connection takes anyhow, less than 64 KiB.
SMALL_BYTES: Final = 48 * 1024


class Inbox:
    """The buffer of a worker that all of its connections to the app read into, one after the other.

    Attributes:
        buffer: what the next read fills, or the beginning of it.
        small: the first `SMALL_BYTES` of it.
    """

    __slots__ = ("buffer", "small")

    buffer: memoryview
    small: memoryview

    def __init__(self) -> None:
        self.replace()

    def replace(self) -> None:
        """Read into another one from now on: what is in this one is still being sent."""
        # Begins with a page: 16 bytes into one, where an allocator puts it, copying takes some processors
        # (AMD's Zen 3) fifteen times as long whenever the bytes to copy begin with a page.
        self.buffer = memoryview(mmap.mmap(-1, _BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.small = self.buffer[:SMALL_BYTES]

    def for_room(self, room: int) -> memoryview:
        """Return what to read into for a client for which so many bytes are taken at once."""
        # An eighth is left for what else is on its way to the client.
        return self.buffer[: room - room // 8] if room > 2 * SMALL_BYTES else self.small
