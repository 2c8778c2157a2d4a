"""An exchange that logs each of its phases, for `--log-level debug`. Without it, exchanges do not even ask whether to."""

from __future__ import annotations

import logging
import time
from typing import Final

from proxy.gateway.exchange import Exchange
from proxy.gateway.failures import Failure
from proxy.gateway.request_half import Phase
from proxy.gateway.sides import UpstreamSide
from proxy.message.response import ResponseHead
from proxy.message.target import readable

_log = logging.getLogger(__name__)

_MAX_TARGET: Final = 200


def is_wanted() -> bool:
    """Tell whether anybody reads what these exchanges log."""
    return _log.isEnabledFor(logging.DEBUG)


class TracedExchange(Exchange):
    """Logs a line when it begins, enters a phase, gets a connection, an answer or a failure, and ends."""

    def begin(self) -> None:
        head = self._head
        self._say(
            f"{head.method} {readable(head.target)[:_MAX_TARGET]} from {self._client.address or 'a Unix socket'}"
        )
        super().begin()

    def upstream_ready(self, upstream: UpstreamSide) -> None:
        rule = self._verdict.rule
        self._say(f"connected; rule {'not yet known' if rule is None else rule.name}")
        super().upstream_ready(upstream)

    def response_head(self, response: ResponseHead) -> None:
        self._say(f"the app answers {response.status}")
        super().response_head(response)

    def _switch_protocols(self, response: ResponseHead) -> None:
        self._say("becomes a tunnel")
        super()._switch_protocols(response)

    def enter(self, phase: Phase) -> None:
        super().enter(phase)
        self._say(phase.value)

    def _finish(self, failure: Failure | None) -> None:
        super()._finish(failure)
        record = self._record
        why = "" if failure is None else f", {failure.reason} ({failure.source})"
        self._say(
            f"done: {record.status}, rule {record.rule or 'none'}, policy {record.policy or 'none'}{why}"
        )

    def _say(self, what: str) -> None:
        since_ms = (time.perf_counter() - self._record.started_s) * 1000
        _log.debug("exchange %x, %.1f ms: %s", id(self), since_ms, what)
