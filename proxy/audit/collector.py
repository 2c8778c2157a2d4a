"""Gathers a worker's answers: hardly any work is done while requests wait, the rest once a second.

Between two ticks equal answers (same request line, status and content, or all that a rule protects of one target) are
one entry with a count. A limited number of different answers is kept; the others are only counted. So the audit takes a
bounded share of the processor, and still sees what changes, if that is requested again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from proxy.audit.evidence import Evidence
from proxy.audit.observation import Content, Observation
from proxy.message.fields import Field

TICK_S: Final = 1.0
MAX_PER_TICK: Final = 128
"""How many different answers without protection by a rule are examined between two ticks.

Each takes some 150 us, so all of them 2 % of a second.
"""

MAX_PROTECTED_PER_TICK: Final = 32
"""The same for answers that a rule protects: only their routes are of interest."""

MAX_CONTENT_BYTES: Final = 1 << 18
"""Content up to this size is compared."""

COMPARED_BYTES_PER_TICK: Final = 16 << 20
"""Content that is compared between two ticks; the checksum of so much takes some 7 ms."""

_MAX_HEAD_BYTES: Final = 8192  # of request and response together: what waits for the tick takes some 1 MiB
_MAX_RULES: Final = 8  # that were in force within a tick
_SLICE: Final = 8  # entries that are worked off at a time

NOT_SEEN: Final = -1
"""The checksum of content that was not seen, or not to its end."""


class _Entry:
    """Equal answers."""

    # Written out, as a dataclass's constructor would stay interpreted where all else is compiled.
    __slots__ = (
        "at_s",
        "authority",
        "checksum",
        "fields",
        "lines",
        "method",
        "size",
        "status",
        "target",
        "times",
    )

    def __init__(
        self,
        at_s: float,
        method: str,
        authority: bytes,
        target: bytes,
        status: int,
        lines: Sequence[bytes],
        fields: Sequence[Field],
        checksum: int,
        size: int,
    ) -> None:
        self.at_s = at_s
        self.method = method
        self.authority = authority
        self.target = target
        self.status = status
        self.lines = lines
        self.fields = fields
        self.checksum = checksum
        self.size = size
        self.times = 1


_Key = tuple[str, bytes, int, int, int]


class Collector:
    """The audit of one worker.

    Args:
        secret: see `Keys`; the workers of a service share it.

    Attributes:
        bytes_to_compare: of content that may still be compared before the next tick.
    """

    __slots__ = (
        "_entries",
        "_next_tick_s",
        "_only_counted",
        "_protected",
        "_queue",
        "_rules",
        "_secret",
        "bytes_to_compare",
        "evidence",
    )

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.evidence = Evidence(secret)
        self._only_counted = 0  # since the last tick
        self._entries: dict[_Key, _Entry] = {}
        self._protected: dict[bytes, _Entry] = {}
        self._queue: list[tuple[_Entry, bool]] = []
        self._next_tick_s = -math.inf
        self.bytes_to_compare = COMPARED_BYTES_PER_TICK
        self._rules: list[tuple[float, str]] = []

    def use_rules(self, at_s: float, digest: str) -> None:
        """Learn which rules are in force from now on."""
        self._rules = [*self._rules[-_MAX_RULES:], (at_s, digest)]

    def take(
        self,
        at_s: float,
        method: str,
        authority: bytes,
        target: bytes,
        status: int,
        lines: Sequence[bytes],
        fields: Sequence[Field],
        checksum: int,
        size: int,
    ) -> None:
        """Note one answer of the app that no rule protects.

        Args:
            lines: of the request, one a field.
            fields: of the response, as the app sent it.
            checksum: of the content, or `NOT_SEEN`; `size` is its length.
        """
        key = (method, target, status, checksum, size)
        entry = self._entries.get(key)
        if entry is not None:
            entry.times += 1
        elif len(self._entries) < MAX_PER_TICK and _length(target, lines, fields) <= _MAX_HEAD_BYTES:
            self._entries[key] = _Entry(
                at_s, method, authority, target, status, lines, fields, checksum, size
            )
        else:
            self._only_count(1)

    def has_counted_protected(self, method: str, target: bytes) -> bool:
        """Count one answer that a rule protects, if such a one was noted since the last tick."""
        entry = self._protected.get(_protected_key(method, target))
        if entry is not None:
            entry.times += 1
            return True
        if len(self._protected) < MAX_PROTECTED_PER_TICK:
            return False
        self._only_count(1)
        return True

    def take_protected(
        self,
        at_s: float,
        method: str,
        authority: bytes,
        target: bytes,
        status: int,
        lines: Sequence[bytes],
        fields: Sequence[Field],
    ) -> None:
        """Note one answer that a rule protects, after `has_counted_protected` has said no."""
        if _length(target, lines, fields) <= _MAX_HEAD_BYTES:
            entry = _Entry(at_s, method, authority, target, status, lines, fields, NOT_SEEN, 0)
            self._protected[_protected_key(method, target)] = entry
        else:
            self._only_count(1)

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
        self.bytes_to_compare = COMPARED_BYTES_PER_TICK
        for entry, _ in self._queue:
            self._only_count(entry.times)
        self.evidence.unexamined += self._only_counted
        self.evidence.responses += self._only_counted
        self._only_counted = 0
        self._queue = [(entry, True) for entry in self._protected.values()]
        self._queue += [(entry, False) for entry in reversed(self._entries.values())]
        self._entries = {}
        self._protected = {}
        return bool(self._queue)

    def work(self) -> bool:
        """Work off some of the queue; return whether there is more."""
        for _ in range(min(_SLICE, len(self._queue))):
            entry, is_protected = self._queue.pop()
            rules = self._digest_at(entry.at_s) if is_protected else ""
            self.evidence.add(_observation(entry, rules, is_protected=is_protected), entry.times)
        return bool(self._queue)

    def reset(self) -> None:
        """Forget all evidence."""
        self.evidence = Evidence(self._secret)
        self._only_counted = 0
        self._entries = {}
        self._protected = {}
        self._queue = []

    def _digest_at(self, at_s: float) -> str:
        """The digest of the rules that were in force."""
        return next((digest for since_s, digest in reversed(self._rules) if since_s <= at_s), "")

    def _only_count(self, answers: int) -> None:
        self._only_counted += answers


def _protected_key(method: str, target: bytes) -> bytes:
    return target if method == "GET" else method.encode() + b" " + target


def _length(target: bytes, lines: Sequence[bytes], fields: Sequence[Field]) -> int:
    return len(target) + sum(map(len, lines)) + sum(len(name) + len(value) for name, value in fields)


def _observation(entry: _Entry, rules: str, *, is_protected: bool) -> Observation:
    content = None
    if entry.checksum != NOT_SEEN:
        content = Content(entry.checksum << 32 | entry.size & 0xFFFFFFFF or 1, entry.size)
    return Observation(
        at_s=entry.at_s,
        method=entry.method,
        authority=entry.authority,
        target=entry.target,
        status=entry.status,
        request_fields=[_field(line) for line in entry.lines if line],
        response_fields=entry.fields,
        content=content,
        is_protected=is_protected,
        rules=rules,
    )


def _field(line: bytes) -> Field:
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")
