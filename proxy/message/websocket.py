"""WebSocket frames, RFC 6455 section 5, as far as a tunnel has to know them: where one ends and the next may begin."""

from __future__ import annotations

from typing import Final

_LENGTH_BITS: Final = 0x7F
_MASK_BIT: Final = 0x80
_MASK_BYTES: Final = 4
_LONG_LENGTHS: Final = {126: 2, 127: 8}  # bytes of length that follow the first two bytes

GOING_AWAY: Final = b"\x88\x02\x03\xe9"
"""A close frame with code 1001, from a server."""

GOING_AWAY_FROM_CLIENT: Final = b"\x88\x82\0\0\0\0\x03\xe9"
"""The same from a client, which has to mask: with noughts, which change nothing."""


class FrameBoundary:
    """Follows the frames in one direction without looking into them.

    Attributes:
        is_known: no frame has begun and not ended.
    """

    __slots__ = ("_header", "_left", "is_known")

    def __init__(self) -> None:
        self._header = b""  # of a frame, while it is not whole
        self._left = 0  # bytes of the frame under way
        self.is_known = True

    def feed(self, data: bytes | memoryview) -> None:
        """Take what passes."""
        at = min(self._left, len(data))
        self._left -= at
        while at < len(data):
            header = self._header + bytes(data[at : at + 14])
            size = _header_size(header)
            if len(header) < size:
                self._header = header
                self.is_known = False
                return
            at += size - len(self._header)
            self._header = b""
            length = _content_size(header)
            passed = min(length, len(data) - at)
            at += passed
            self._left = length - passed
        self.is_known = not self._left


def _header_size(header: bytes) -> int:
    """Bytes of a frame's header, as far as its beginning tells: at least one more than there is if it does not."""
    if len(header) < 2:  # noqa: PLR2004 - the second byte says how long it is
        return 2
    is_masked = bool(header[1] & _MASK_BIT)
    return 2 + _LONG_LENGTHS.get(header[1] & _LENGTH_BITS, 0) + _MASK_BYTES * is_masked


def _content_size(header: bytes) -> int:
    short = header[1] & _LENGTH_BITS
    more = _LONG_LENGTHS.get(short, 0)
    return int.from_bytes(header[2 : 2 + more], "big") if more else short
