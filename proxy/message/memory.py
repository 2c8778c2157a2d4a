"""Remembers what was made of bytes that come again and again, within bounds that no peer can move."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

_MOST: Final = 256
_MOST_BYTES: Final = 2048  # of a key
_MOST_LINES: Final = 64  # of a key; a browser sends some 14, and each takes 200 bytes as it is remembered
_SEEN_PLACES: Final = 256

ValueT = TypeVar("ValueT")


class Memory(Generic[ValueT]):
    """Values by the bytes that they were made of: of those that came twice, as most never come again.

    Attributes:
        known: at most 256 values, whose keys have at most 2 KiB and 64 lines, so 4 MiB; emptied when full.
    """

    __slots__ = ("_seen", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, ValueT] = {}
        self._seen = [0] * _SEEN_PLACES  # hashes of what came once

    def add(self, key: bytes, value: ValueT) -> None:
        """Remember what was made of some bytes, if they have come before."""
        if len(key) > _MOST_BYTES:
            return
        seen = hash(key)
        place = seen % _SEEN_PLACES
        if self._seen[place] != seen:
            self._seen[place] = seen
            return
        if key.count(b"\n") > _MOST_LINES:
            return
        if len(self.known) >= _MOST:
            self.known.clear()
        self.known[key] = value
