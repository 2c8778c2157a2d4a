"""A transport that remembers what is written to it, how it ended, and what it was told of reading."""

from __future__ import annotations

import socket
from typing import Any


class FakeTransport:
    """Nothing is ever unsent unless a test says so.

    Args:
        peername, sockname: the addresses of both ends.
        has_socket: one that tells a reset from an end at once.

    Attributes:
        end: "" while it is open; `closed` after what was written, `aborted` at once, `reset` so that the peer notices.
    """

    def __init__(
        self, peername: object = ("192.0.2.1", 1), sockname: object = None, *, has_socket: bool = False
    ) -> None:
        self.written = b""
        self.end = ""
        self.unsent = 0
        self.is_paused = False
        self.has_half_closed = False
        self.may_half_close = True
        self.high_water: int | None = None
        self._info = {"peername": peername, "sockname": sockname}
        self._socket = FakeSocket() if has_socket else None

    def write(self, data: bytes) -> None:
        assert not self.end, "written after the end"
        self.written += bytes(data)

    def writelines(self, data: list[bytes]) -> None:
        self.write(b"".join(map(bytes, data)))

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written

    def is_closing(self) -> bool:
        return bool(self.end)

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        how = "reset" if self._socket is not None and self._socket.resets else "aborted"
        self.end = self.end or how

    def can_write_eof(self) -> bool:
        return self.may_half_close

    def write_eof(self) -> None:
        assert not self.end, "half-closed after the end"
        self.has_half_closed = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def set_write_buffer_limits(self, high: int) -> None:
        self.high_water = high

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket" and self._socket is not None:
            return self._socket
        return self._info.get(name, default)


class FakeSocket:
    """What a transport's socket is asked for."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.resets = False

    def setsockopt(self, _level: int, option: int, _value: bytes) -> None:
        self.resets = self.resets or option == socket.SO_LINGER

    def getsockopt(self, *_: object) -> bytes:
        raise OSError("the kernel does not tell")
