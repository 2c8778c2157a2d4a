"""One request and its response: decided, forwarded, protected, relayed. No socket, no syntax of HTTP/1, no clock.

Theory of operation. An exchange stands between two sides (`proxy.gateway.sides`). The client's side makes it when a
request's head has come; it takes a connection of the upstream, or waits for one, and then passes on what either side
tells it. It is in one phase at a time, and this table says all that silence and failure mean there:

| phase | it waits for | silence is | for at most | a failure is |
|---|---|---|---|---|
| CONNECTING | a connection to the app; content waits | `connect_timeout` | twice the connect time-out | answered |
| SENDING | content from the client | `request_timeout`, or `upstream_timeout` if the app takes none | idle time-out | answered |
| AWAITING | the head of the final response | `upstream_timeout` | response-head time-out | answered |
| RELAYING | content from the app | `upstream_stalled`, or as SENDING of an early answer | idle time-out | a reset |
| DONE | nothing | | | nothing |

    CONNECTING --> SENDING --> AWAITING --> RELAYING --> DONE      (a request without content skips SENDING)
    SENDING --> RELAYING                    the app answers early; the rest of the request goes on meanwhile
    AWAITING --> CONNECTING                 a used connection ended as the request met it: once more, on a new one
    AWAITING --> DONE                       a 101: a `Tunnel` listens to both sides from here on
    any --> DONE                            a failure, or the client left

Whatever a client that takes nothing holds up is the client's failure (`client_stalled`), in any phase. "Answered" is by
the client's side, with the fields of the `strict` policy. What ended is one `Record`: the recorder counts and logs it.
"""

from __future__ import annotations

import logging
import time
from enum import Enum
from typing import Final

from proxy.gateway import failures
from proxy.gateway.audit_feed import Passing
from proxy.gateway.context import Context
from proxy.gateway.failures import Failure
from proxy.gateway.pool import Pool
from proxy.gateway.record import Record
from proxy.gateway.sides import Attempt, ClientSide, ExchangeListener, UpstreamSide
from proxy.gateway.tunnel import Tunnel
from proxy.message.authentication import authenticates_connection
from proxy.message.errors import MalformedHeadError
from proxy.message.methods import IDEMPOTENT
from proxy.message.request import RequestHead
from proxy.message.response import ResponseHead
from proxy.message.rewrite import UNTOUCHED
from proxy.message.status import SWITCHING_PROTOCOLS
from proxy.rules.engine.verdict import FAIL_SAFE, Resolution, Verdict
from proxy.rules.policies import PASS, STRICT, treatment

_log = logging.getLogger(__name__)

_MAX_INFORMATIONAL: Final = 64  # 1xx without end would hold the client for ever


class Phase(Enum):
    """Where an exchange stands; see the module's docstring."""

    CONNECTING = "connecting"
    SENDING = "sending"
    AWAITING = "awaiting"
    RELAYING = "relaying"
    DONE = "done"


# Names of their own, because to ask the class for each costs a look-up more on every byte.
_CONNECTING: Final = Phase.CONNECTING
_SENDING: Final = Phase.SENDING
_AWAITING: Final = Phase.AWAITING
_RELAYING: Final = Phase.RELAYING
_DONE: Final = Phase.DONE


class Exchange(ExchangeListener):
    """Moves one request to the upstream and its response to the client.

    Args:
        context: what all exchanges of the worker share.
        pool: gives connections of the upstream.
        client: whose request it is.
        head: of that request.
    """

    _phase: Phase = _CONNECTING
    _is_replay: bool = False
    _informational: int = 0
    _attempt: Attempt | None = None
    _upstream: UpstreamSide | None = None
    _verdict: Verdict = FAIL_SAFE
    _resolution: Resolution | None = None
    _passing: Passing | None = None

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

    # The request

    def begin(self) -> None:
        self._context.stats.in_flight += 1
        self._verdict = self._decide()
        content_length = self._head.content_length
        if content_length and self._is_too_large(content_length):
            self.fail(failures.CONTENT_TOO_LARGE)
            return
        upstream = self._client.pinned or self._pool.take(must_be_fresh=not self._can_replay())
        if upstream is None:
            self._connect()
        else:
            self.upstream_ready(upstream)

    def upstream_ready(self, upstream: UpstreamSide) -> None:
        """Send what there is of the request."""
        self._attempt = None
        self._upstream = upstream
        client, head, verdict = self._client, self._head, self._verdict
        stripped = upstream.send_head(self, head, strips=verdict.strips_conditionals)
        if stripped and not self._is_replay:
            rule = verdict.rule
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
            self._enter(_SENDING)
            return
        if head.content_length != 0:
            upstream.end()
        self._enter(_AWAITING)

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
            self._enter(_AWAITING)

    def pause_request(self) -> None:
        self._client.pause_reading("upstream")

    def resume_request(self) -> None:
        self._client.resume_reading("upstream")

    def _connect(self) -> None:
        self._enter(_CONNECTING)
        self._attempt = self._pool.connect(self)

    def _is_too_large(self, size: int) -> bool:
        return 0 < self._context.settings.max_request_body_bytes < size

    def _can_replay(self) -> bool:
        """Whether the request may be sent twice, RFC 9110 section 9.2.2, and is still at hand."""
        head = self._head
        return head.method in IDEMPOTENT and head.content_length == 0 and not head.upgrade

    def _decide(self) -> Verdict:
        head = self._head
        try:
            return self._context.ruleset.decide(head.method, head.target, head.values)
        except Exception:  # noqa: BLE001 - the guarantee holds even when a rule does not: "fails safe", DESIGN 4
            _log.exception("deciding failed; the response is protected by the strict policy")
            self._context.stats.decision_failures_total += 1
            return FAIL_SAFE

    # The response

    def informational(self, response: ResponseHead) -> None:
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            self.fail(failures.UPSTREAM_MALFORMED.with_detail("informational responses without end"))
        else:
            self._client.send_informational(response)

    def response_head(self, response: ResponseHead) -> None:
        record, client = self._record, self._client
        record.upstream_s = time.perf_counter() - record.started_s
        record.upstream_status = response.status
        record.response = response
        if response.status == SWITCHING_PROTOCOLS:
            self._switch_protocols(response)
            return
        verdict = self._verdict
        if verdict.forbids(self._head.method, response.status):
            self.fail(failures.UPSTREAM_NOT_MODIFIED)
            return
        if response.authenticates_connection and self._upstream is not None:
            client.pin(self._upstream)
        self._resolution = resolution = self._resolve(response)
        audit = self._context.audit
        if audit is not None:
            self._passing = audit.begin(self._head, response, resolution)
        outgoing = client.send_head(response, resolution.treatment)
        record.status = response.status
        record.changed = outgoing.changed
        self._enter(_RELAYING)
        stats = self._context.stats
        if outgoing.was_cached:
            stats.upstream_cache_hits_total += 1
        if outgoing.changed and resolution.rule is not None:
            stats.fields_changed[resolution.rule.name] += outgoing.changed
        if resolution.observed is not None:
            stats.observed[resolution.observed.name] += 1

    def response_content(self, data: bytes) -> None:
        self._record.bytes_out += len(data)
        if self._passing is not None:
            self._passing.add(data)
        self._client.send_content(data)

    def large_content(self, data: bytes | memoryview) -> None:
        self._record.bytes_out += len(data)
        if self._passing is not None:
            self._passing.add(data)
        self._client.send_large_content(data)

    def room(self) -> int:
        return self._client.room()

    def has_unsent_content(self) -> bool:
        return self._client.has_unsent_content()

    def response_end(self) -> None:
        if self._client.is_congested and self._upstream is not None and self._upstream.may_rest:
            self._upstream.resume_reading()  # it rests by now, and would not hear that the app closes it
        self._upstream = None
        if self._passing is not None:
            self._passing.end()
        self._finish(None)
        self._client.end()

    def pause_response(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_response(self) -> None:
        if self._phase is _RELAYING:  # what was pipelined before it is no answer to this request
            self.touch()
        if self._upstream is not None:
            self._upstream.resume_reading()

    def _resolve(self, response: ResponseHead) -> Resolution:
        try:
            return self._verdict.resolve(response.status, response.section.fields)
        except Exception:  # noqa: BLE001 - as in `_decide`
            _log.exception("deciding failed; the response is protected by the strict policy")
            self._context.stats.decision_failures_total += 1
            return Resolution(None, STRICT, treatment(STRICT, self._verdict.vary))

    def _switch_protocols(self, response: ResponseHead) -> None:
        upstream = self._upstream
        if upstream is None or not self._request_complete:
            raise MalformedHeadError("101 before the request was complete")  # RFC 9110 section 7.8
        self._client.send_switch(response, self._head.upgrade)
        self._phase = _DONE
        record = self._record
        record.status = SWITCHING_PROTOCOLS
        rule = self._verdict.rule
        record.rule = rule.name if rule is not None else ""
        tunnel = Tunnel(self._context, self._client, upstream, record)
        upstream.switch_protocols(tunnel)
        self._client.switch_protocols(tunnel)

    # Silence, failures, and the end

    def touch(self) -> None:
        """Put the deadline off, as a byte has moved."""
        context = self._context
        self._client.deadline_s = context.clock.now_s + context.settings.idle_timeout_s

    def timed_out(self) -> None:
        if self._phase is _CONNECTING:
            self.fail(failures.CONNECT_TIMEOUT)
        elif self._client.is_congested:
            self.reset(failures.CLIENT_STALLED)
        elif not self._request_complete and not self._client.is_paused_by("upstream"):
            self.fail(failures.REQUEST_TIMEOUT)
        elif self._phase is _RELAYING:
            self.fail(failures.UPSTREAM_STALLED)
        else:
            self.fail(failures.UPSTREAM_TIMEOUT)

    def upstream_lost(self, *, may_retry: bool, detail: str) -> None:
        self._upstream = None
        if may_retry and not self._informational and not self._is_replay and self._can_replay():
            self._is_replay = True
            self._context.stats.retries_total += 1
            self._connect()
        else:
            self.fail(failures.UPSTREAM_CLOSED.with_detail(detail))

    def fail(self, failure: Failure) -> None:
        """Answer in place of the app, or reset a response that is under way: it must not look complete."""
        if self._phase is _RELAYING:
            self.reset(failure)
        elif self._phase is not _DONE:
            self._phase = _DONE
            self._drop_upstream()
            self._resolution = Resolution(self._verdict.rule, STRICT, UNTOUCHED)
            self._record.status = failure.status
            self._record.bytes_out = self._client.answer(failure, self._verdict.vary)
            self._finish(failure)

    def reset(self, failure: Failure) -> None:
        """End both connections, so that neither peer takes what it has for all."""
        if self._phase is not _DONE:
            self._drop_upstream()
            self._finish(failure)
            self._client.reset()

    def client_left(self) -> None:
        if self._phase is not _DONE:
            self._drop_upstream()
            self._record.status = failures.CLIENT_LEFT.status
            self._finish(failures.CLIENT_LEFT)

    def _enter(self, phase: Phase) -> None:
        """Go into a phase that has not ended, and begin to measure its silence; see the module's docstring."""
        self._phase = phase
        settings = self._context.settings
        if phase is _AWAITING:
            patience_s = settings.response_head_timeout_s
        elif phase is _CONNECTING:
            patience_s = 2 * settings.connect_timeout_s + 1
        else:
            patience_s = settings.idle_timeout_s
        self._client.deadline_s = self._context.clock.now_s + patience_s

    def _drop_upstream(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    def _finish(self, failure: Failure | None) -> None:
        """Hand over the record."""
        self._phase = _DONE
        record, resolution = self._record, self._resolution
        if resolution is None:
            rule = self._verdict.rule
        else:
            rule = resolution.rule
            if resolution.policy is not PASS:
                record.policy = resolution.policy.name
            if resolution.observed is not None:
                record.observed = resolution.observed.name
        if rule is not None:
            record.rule = rule.name
        self._context.recorder.finish(record, failure)
