"""The first half of an exchange: its request goes to the app. The whole is explained in `proxy.gateway.exchange`."""

from __future__ import annotations

import time
from enum import Enum
from typing import Final

from proxy.gateway import failures
from proxy.gateway.context import Context
from proxy.gateway.deciding import decide
from proxy.gateway.failures import Failure
from proxy.gateway.pool import Pool
from proxy.gateway.record import Record
from proxy.gateway.sides import Attempt, ClientSide, ExchangeListener, UpstreamSide
from proxy.message.authentication import authenticates_connection
from proxy.message.methods import IDEMPOTENT
from proxy.message.request import RequestHead
from proxy.message.response import ResponseHead
from proxy.rules.engine.verdict import FAIL_SAFE, Resolution, Verdict


class Phase(Enum):
    """Where an exchange stands; see `proxy.gateway.exchange`."""

    CONNECTING = "connecting"
    SENDING = "sending"
    AWAITING = "awaiting"
    RELAYING = "relaying"
    DONE = "done"


# Names of their own, because to ask the class for each costs a look-up more on every byte.
_CONNECTING: Final = Phase.CONNECTING
_SENDING: Final = Phase.SENDING
_AWAITING: Final = Phase.AWAITING

# mypyc leaves an attribute without its default if that is spelt `None` and its type is a protocol: such a type is any
# object to it, and not optional.
_NOBODY: Final = None


class RequestHalf(ExchangeListener):
    """Decides on a request, and moves it to the upstream.

    Args:
        context: what all exchanges of the worker share.
        pool: gives connections of the upstream.
        client: whose request it is.
        head: of that request.
    """

    _phase: Phase = _CONNECTING
    _is_replay: bool = False
    _attempt: Attempt | None = _NOBODY
    _upstream: UpstreamSide | None = _NOBODY
    _verdict: Verdict = FAIL_SAFE
    _resolution: Resolution | None = None
    _first_answer: ResponseHead | None = None  # put aside: the request is asked once more, without conditions

    def __init__(self, context: Context, pool: Pool, client: ClientSide, head: RequestHead) -> None:
        self._context = context
        self._pool = pool
        self._client = client
        self._head = head
        self._request_complete = head.content_length == 0
        self._pending: list[bytes] = []  # content that came before there was a connection
        self._record = Record(
            method=head.method,
            target=head.target,
            host=head.host,
            client=client.address,
            started_s=time.perf_counter(),
            request=head,
        )

    def begin(self) -> None:
        self._context.stats.in_flight += 1
        self._verdict = decide(self._context, self._head)
        content_length = self._head.content_length
        if content_length and self._is_too_large(content_length):
            self.fail(failures.CONTENT_TOO_LARGE)
            return
        self.ask()

    def upstream_ready(self, upstream: UpstreamSide) -> None:
        """Send what there is of the request."""
        self._attempt = None
        self._upstream = upstream
        client, head, verdict = self._client, self._head, self._verdict
        # Where only the response can tell whether a rule applies, conditions travel with the request first.
        strips = verdict.strips_conditionals and (
            verdict.settled is not None or self._first_answer is not None
        )
        stripped = upstream.send_head(self, head, strips=strips)
        if stripped and not self._is_replay:
            rule = verdict.stripping_rule
            self._context.stats.conditionals_stripped[rule.name if rule is not None else ""] += stripped
        if client.pinned is not None or (
            b"authorization" in head.noted and authenticates_connection(head.noted[b"authorization"])
        ):
            client.pin(upstream)
        if self._pending:
            for data in self._pending:
                upstream.send_content(data)
            self._pending.clear()
            client.resume_reading("connecting")
        if client.is_congested:
            upstream.pause_reading()
        if not self._request_complete:
            self.enter(_SENDING)
            return
        if head.content_length != 0:
            upstream.end()
        self.enter(_AWAITING)

    def upstream_unavailable(self, failure: Failure) -> None:
        """There is no connection to be had."""
        self._attempt = None
        self.fail(failure)

    def request_content(self, data: bytes) -> None:
        self._record.bytes_in += len(data)
        if self._head.content_length is None and self._is_too_large(self._record.bytes_in):
            self.fail(failures.CONTENT_TOO_LARGE)
        elif self._upstream is not None:
            self._upstream.send_content(data)
            self.touch()
        else:
            self._pending.append(data)
            self._client.pause_reading("connecting")

    def request_end(self) -> None:
        self._request_complete = True
        if self._upstream is None:
            return
        self._upstream.end()
        if self._phase is _SENDING:
            self.enter(_AWAITING)

    def pause_request(self) -> None:
        self._client.pause_reading("upstream")

    def resume_request(self) -> None:
        self._client.resume_reading("upstream")

    def ask(self) -> None:
        """Send the request on a connection that rests, or wait for a new one."""
        upstream = self._client.pinned
        if upstream is None or not upstream.may_rest:  # it may have ended with an answer that was put aside
            upstream = self._pool.take(must_be_fresh=not self.can_replay())
        if upstream is None:
            self.connect()
        else:
            self.upstream_ready(upstream)

    def connect(self) -> None:
        """Wait for a new connection."""
        self.enter(_CONNECTING)
        self._attempt = self._pool.connect(self)

    def _is_too_large(self, size: int) -> bool:
        return 0 < self._context.settings.max_request_body_bytes < size

    def can_replay(self) -> bool:
        """Whether the request may be sent twice, RFC 9110 section 9.2.2, and is still at hand."""
        head = self._head
        return head.method in IDEMPOTENT and head.content_length == 0 and not head.upgrade

    def touch(self) -> None:
        """Put the deadline off, as a byte has moved."""
        context = self._context
        self._client.deadline_s = context.clock.now_s + context.settings.idle_timeout_s

    def enter(self, phase: Phase) -> None:
        """Go into a phase that has not ended, and begin to measure its silence; see `proxy.gateway.exchange`."""
        self._phase = phase
        settings = self._context.settings
        if phase is _AWAITING:
            patience_s = settings.response_head_timeout_s
        elif phase is _CONNECTING:
            patience_s = 2 * settings.connect_timeout_s + 1
        else:
            patience_s = settings.idle_timeout_s
        self._client.deadline_s = self._context.clock.now_s + patience_s

    def drop_upstream(self) -> None:
        """Give up the connection, or the attempt to have one."""
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None
