"""Gathers what a worker answers: next to nothing is done while requests wait, the rest once a second.

Between two ticks equal answers (same request line, status, content and protection) are one entry with a count, and no more
than 128 different ones are kept: what is more is only counted. So the audit costs a bounded share of the processor, and
what changes is seen all the same, as long as it is asked for again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.audit.evidence import Evidence
from proxy.audit.observation import Content, Observation
from proxy.message.fields import Field

TICK_S: Final = 1.0
MAX_PER_TICK: Final = 128
"""Different answers that are looked at between two ticks: each takes some 150 us, so 2 % of a second."""

MAX_CONTENT_BYTES: Final = 1 << 18
"""Content up to this size is compared."""

_MAX_HEAD_BYTES: Final = 8192  # of request and response together: what waits for the tick takes at most 1 MiB
_SLICE: Final = 8  # entries that are worked off at a time

NOT_SEEN: Final = -1
"""The checksum of content that was not seen, or not to its end."""


@dataclass(slots=True)
class _Entry:
    at_s: float
    authority: bytes
    request_lines: Sequence[bytes]
    response_fields: Sequence[Field]
    times: int = 1


_Key = tuple[str, bytes, int, int, int, bool]


class Collector:
    """The audit of one worker.

    Args:
        secret: see `Keys`; the workers of a service share it.
    """

    __slots__ = ("_entries", "_next_tick_s", "_queue", "_secret", "evidence")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.evidence = Evidence(secret)
        self._entries: dict[_Key, _Entry] = {}
        self._queue: list[tuple[_Key, _Entry]] = []
        self._next_tick_s = -math.inf

    def take(
        self,
        at_s: float,
        method: str,
        authority: bytes,
        target: bytes,
        status: int,
        request_lines: Sequence[bytes],
        response_fields: Sequence[Field],
        checksum: int,
        size: int,
        *,
        is_protected: bool,
    ) -> None:
        """Note one answer of the app.

        Args:
            request_lines: one a field.
            checksum: of the content, or `NOT_SEEN`; `size` is its length.
        """
        key = (method, target, status, checksum, size, is_protected)
        entry = self._entries.get(key)
        if entry is not None:
            entry.times += 1
            return
        if len(self._entries) >= MAX_PER_TICK or _length(request_lines, response_fields) > _MAX_HEAD_BYTES:
            self.evidence.unexamined += 1
            self.evidence.responses += 1
            return
        self._entries[key] = _Entry(at_s, authority, request_lines, response_fields)

    def tick(self, now_s: float) -> bool:
        """Queue what was noted, once a second; what is still queued then is only counted.

        Args:
            now_s: by any clock that does not go back.

        Returns:
            Whether there is something to work off.
        """
        if now_s < self._next_tick_s:
            return False
        self._next_tick_s = now_s + TICK_S
        for _, entry in self._queue:
            self.evidence.unexamined += entry.times
            self.evidence.responses += entry.times
        self._queue = list(self._entries.items())
        self._queue.reverse()
        self._entries = {}
        return bool(self._queue)

    def work(self) -> bool:
        """Work off some of the queue; return whether there is more."""
        for _ in range(min(_SLICE, len(self._queue))):
            key, entry = self._queue.pop()
            self.evidence.add(_observation(key, entry), entry.times)
        return bool(self._queue)

    def reset(self) -> None:
        """Begin anew."""
        self.evidence = Evidence(self._secret)
        self._entries = {}
        self._queue = []


def _length(lines: Sequence[bytes], fields: Sequence[Field]) -> int:
    return sum(map(len, lines)) + sum(len(name) + len(value) for name, value in fields)


def _observation(key: _Key, entry: _Entry) -> Observation:
    method, target, status, checksum, size, is_protected = key
    content = None if checksum == NOT_SEEN else Content(checksum << 32 | size & 0xFFFFFFFF or 1, size)
    return Observation(
        at_s=entry.at_s,
        method=method,
        authority=entry.authority,
        target=target,
        status=status,
        request_fields=[_field(line) for line in entry.request_lines if line],
        response_fields=entry.response_fields,
        content=content,
        is_protected=is_protected,
    )


def _field(line: bytes) -> Field:
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")
