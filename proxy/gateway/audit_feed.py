"""Feeds the audit: a checksum of what passes, and what the app answered when it has passed. Nothing is held back or copied."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final
from zlib import crc32

from proxy.audit.collector import MAX_CONTENT_BYTES, NOT_SEEN, Collector
from proxy.gateway.guard import guarded
from proxy.gateway.recorder import Recorder
from proxy.message.request import RequestHead
from proxy.message.response import ResponseHead
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.verdict import Resolution
from proxy.rules.policies import STRICT, protects

_PAUSE_S: Final = 0.01  # between two slices of work: requests come in between
_TOLD_EACH_S: Final = 60.0  # every answer may fail by the same mistake


class Passing:
    """One response of the app that passes, and that no rule protects.

    Attributes:
        checksum: of its content so far; `NOT_SEEN` for content that is not compared, or too long.
        size: bytes of content so far.
    """

    __slots__ = ("_collector", "_feed", "checksum", "request", "response", "size")

    def __init__(self, feed: AuditFeed, request: RequestHead, response: ResponseHead) -> None:
        self._feed = feed
        self._collector = collector = feed.collector
        self.request = request
        self.response = response
        self.checksum = 0 if request.method == "GET" and collector.bytes_to_compare > 0 else NOT_SEEN
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Take note of content that passes."""
        self.size += len(data)
        if self.checksum != NOT_SEEN:
            self._collector.bytes_to_compare -= len(data)
            self.checksum = crc32(data, self.checksum) if self.size <= MAX_CONTENT_BYTES else NOT_SEEN

    def end(self) -> None:
        """Hand over the response, as it has passed whole."""
        request, response = self.request, self.response
        try:
            self._collector.take(
                time.time(),
                request.method,
                request.host or b"",
                request.target,
                response.status,
                request.lines,
                response.section.fields,
                self.checksum,
                self.size,
            )
        except Exception:  # noqa: BLE001 - the client gets its answer, whatever the audit makes of it
            self._feed.failed_by_itself()


class AuditFeed:
    """Hands over to a worker's collector.

    Args:
        collector: told of each response that has passed whole.
        ruleset: in force; see `use_rules`.
        loop: gives the collector time.
        recorder: told of the audit's own mistakes.

    Attributes:
        collector: of the worker.
    """

    def __init__(
        self, collector: Collector, ruleset: Ruleset, loop: asyncio.AbstractEventLoop, recorder: Recorder
    ) -> None:
        self.collector = collector
        self._loop = loop
        self._recorder = recorder
        self._next_telling_s = -math.inf
        self._protecting: frozenset[str]
        self.use_rules(ruleset)

    def use_rules(self, ruleset: Ruleset) -> None:
        """Learn which policies forbid reuse without validation, and have what follows told apart from what was before."""
        names = (rule.policy.name for rule in ruleset.rules if protects(rule.policy))
        protecting = frozenset((STRICT.name, *names))
        self.collector.use_rules(time.time(), ruleset.digest)
        self._protecting = protecting

    def begin(self, request: RequestHead, response: ResponseHead, resolution: Resolution) -> Passing | None:
        """Begin with a response whose head has come; return `None` if a rule protects it: that is counted at once."""
        if resolution.policy.name not in self._protecting:
            return Passing(self, request, response)
        collector = self.collector
        try:
            if not collector.has_counted_protected(request.method, request.target):
                collector.take_protected(
                    time.time(),
                    request.method,
                    request.host or b"",
                    request.target,
                    response.status,
                    request.lines,
                    response.section.fields,
                )
        except Exception:  # noqa: BLE001 - as in `Passing.end`
            self.failed_by_itself()
        return None

    def tick(self, now_s: float) -> None:
        """Have the collector look at what was handed over, some answers at a time."""
        if self.collector.tick(now_s):
            self._work()

    def failed_by_itself(self) -> None:
        now_s = time.monotonic()
        is_told = now_s >= self._next_telling_s
        if is_told:
            self._next_telling_s = now_s + _TOLD_EACH_S
        self._recorder.own_mistake("the audit", is_told=is_told)

    @guarded
    def _work(self) -> None:
        has_more = True  # an entry that fails has left the queue; those behind it have not
        try:
            has_more = self.collector.work()
        finally:
            if has_more:
                self._loop.call_later(_PAUSE_S, self._work)
