"""One request and its response: decided, forwarded, protected, relayed. No socket, no syntax of HTTP/1.

Theory of operation. An exchange stands between two sides (`proxy.gateway.sides`). The client's side makes it when a
request's head has come; it takes a connection of the upstream, or waits for one, and then passes on what either side
tells it. `request_half.py` has the way to the app, this module the way back. An exchange is in one phase at a time, and
this table says all that silence and failure mean there:

| phase | it waits for | silence is | for at most | a failure is |
|---|---|---|---|---|
| CONNECTING | a connection to the app; content waits | `connect_timeout` | twice the connect time-out | answered |
| SENDING | content from the client | `request_timeout`, or `upstream_timeout` if the app takes none | idle time-out | answered |
| AWAITING | the head of the final response | `upstream_timeout` | response-head time-out | answered |
| RELAYING | content from the app, and the rest of the request after an early answer | `upstream_stalled`, or as in SENDING | idle time-out | a reset |
| DONE | nothing | | | nothing |

    CONNECTING --> SENDING --> AWAITING --> RELAYING --> DONE      (a request without content skips SENDING)
    SENDING --> RELAYING                    the app answers early; the rest of the request goes on meanwhile
    AWAITING --> CONNECTING                 a used connection ended as the request met it: once more, on a new one
    AWAITING --> CONNECTING                 a 304, or a part of a range, where only the response can tell which rule
                                            applies: once more, without conditions
    AWAITING --> DONE                       a 101: a `Tunnel` listens to both sides from here on
    any --> DONE                            a failure, or the client left

Where the client takes nothing, silence is the client's failure (`client_stalled`) in any phase. A failure that is
answered is answered by the client's side, with the fields of the `strict` policy. An exchange that has ended is one
`Record`, which the recorder counts and logs.
"""

from __future__ import annotations

import time
from typing import Final

from proxy.gateway import failures
from proxy.gateway.audit_feed import Passing
from proxy.gateway.deciding import resolve
from proxy.gateway.failures import Failure
from proxy.gateway.request_half import Phase, RequestHalf
from proxy.gateway.tunnel import Tunnel
from proxy.message.errors import MalformedHeadError
from proxy.message.request import has_conditionals
from proxy.message.response import ResponseHead
from proxy.message.rewrite import UNTOUCHED
from proxy.message.status import NOT_MODIFIED, PARTIAL_CONTENT, SWITCHING_PROTOCOLS
from proxy.rules.engine.verdict import Resolution
from proxy.rules.policies import PASS, STRICT

_MAX_INFORMATIONAL: Final = 64  # 1xx without end would hold the client for ever
_CONDITIONAL: Final = (NOT_MODIFIED, PARTIAL_CONTENT)

_CONNECTING: Final = Phase.CONNECTING
_AWAITING: Final = Phase.AWAITING
_RELAYING: Final = Phase.RELAYING
_DONE: Final = Phase.DONE


class Exchange(RequestHalf):
    """Moves one request to the upstream and its response to the client."""

    _informational: int = 0
    _first_upstream_s: float = 0.0
    _passing: Passing | None = None

    # The response

    def informational(self, response: ResponseHead) -> None:
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            self.fail(failures.UPSTREAM_MALFORMED.with_detail("informational responses without end"))
        else:
            self._client.send_informational(response)

    def response_head(self, response: ResponseHead) -> None:
        record = self._record
        record.upstream_s = time.perf_counter() - record.started_s
        record.upstream_status = response.status
        record.response = response
        if response.status == SWITCHING_PROTOCOLS:
            self._switch_protocols(response)
            return
        if response.status in _CONDITIONAL and self._is_put_aside(response):
            return
        if response.authenticates_connection and self._upstream is not None:
            self._client.pin(self._upstream)
        self._resolution = resolution = resolve(self._context, self._verdict, response)
        if self._first_answer is not None:
            response = self._given(self._first_answer, response, resolution)
        audit = self._context.audit
        if audit is not None:
            self._passing = audit.begin(self._head, response, resolution)
        outgoing = self._client.send_head(response, resolution.treatment)
        record.status = response.status
        record.changed = outgoing.changed
        self.enter(_RELAYING)
        stats = self._context.stats
        if outgoing.was_cached:
            stats.upstream_cache_hits_total += 1
        if outgoing.changed and resolution.rule is not None:
            stats.fields_changed[resolution.rule.name] += outgoing.changed
        if resolution.observed is not None:
            stats.observed[resolution.observed.name] += 1
        if self._upstream is None:  # it was the first answer, and that has ended
            self.response_end()

    def _is_put_aside(self, response: ResponseHead) -> bool:
        """Whether an answer to a condition must not be passed on, or not yet.

        A 304 does not say what it stands for, so a rule that asks for its type cannot be decided. A part of a range is
        one of a copy that may be from before the rule. Both are asked for once more without conditions.
        """
        verdict, head = self._verdict, self._head
        is_open = verdict.settled is None and self._first_answer is None and has_conditionals(head)
        if response.status == PARTIAL_CONTENT:
            must_ask = is_open and resolve(self._context, verdict, response).policy.conditionals == "strip"
        else:
            must_ask = is_open and verdict.strips(head.method)
            if not must_ask and verdict.forbids(head.method, response.status):
                self.fail(failures.UPSTREAM_NOT_MODIFIED)
                return True
        if not must_ask:
            return False
        self._first_answer, self._first_upstream_s = response, self._record.upstream_s
        if response.status == PARTIAL_CONTENT:  # else it has no content, and ends at once
            self.drop_upstream()
            self.ask()
        return True

    def _given(self, first: ResponseHead, second: ResponseHead, resolution: Resolution) -> ResponseHead:
        """Return what the client gets after two answers: the 304 that was put aside, unless its conditions are taken away."""
        if first.status != NOT_MODIFIED or resolution.policy.conditionals == "strip":
            return second
        self.drop_upstream()
        record = self._record
        record.response = first
        record.upstream_status = first.status
        record.upstream_s = self._first_upstream_s
        return first

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
        if self._phase is _AWAITING:  # it was put aside
            self.ask()
            return
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
        is_websocket = self._head.upgrade.lower() == b"websocket"
        tunnel = Tunnel(self._context, self._client, upstream, record, is_websocket=is_websocket)
        upstream.switch_protocols(tunnel)
        self._client.switch_protocols(tunnel)

    # Silence, failures, and the end

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
        if may_retry and not self._informational and not self._is_replay and self.can_replay():
            self._is_replay = True
            self._context.stats.retries_total += 1
            self.connect()
        else:
            self.fail(failures.UPSTREAM_CLOSED.with_detail(detail))

    def fail(self, failure: Failure) -> None:
        """Answer in place of the app, or reset a response that is under way: it must not look complete."""
        if self._phase is _RELAYING:
            self.reset(failure)
        elif self._phase is not _DONE:
            self.drop_upstream()
            self._resolution = Resolution(self._verdict.rule, STRICT, UNTOUCHED)
            self._record.status = failure.status
            record = self._record
            record.sent, content = self._client.answer(failure, self._verdict.vary)
            record.bytes_out = len(content)
            self._finish(failure)

    def reset(self, failure: Failure) -> None:
        """End both connections, so that neither peer takes what it has for all."""
        if self._phase is not _DONE:
            self.drop_upstream()
            self._finish(failure)
            self._client.reset()

    def client_left(self) -> None:
        if self._phase is not _DONE:
            self.drop_upstream()
            self._record.status = failures.CLIENT_LEFT.status
            self._finish(failures.CLIENT_LEFT)

    def _finish(self, failure: Failure | None) -> None:
        """Hand over the record."""
        self._phase = _DONE
        record, resolution = self._record, self._resolution
        if resolution is None:
            rule = self._verdict.rule
        else:
            rule = resolution.rule
            if rule is not None or resolution.policy is not PASS:
                record.policy = resolution.policy.name
            if resolution.observed is not None:
                record.observed = resolution.observed.name
        if rule is not None:
            record.rule = rule.name
        context = self._context
        if context.watch is not None and self._client.outgoing is not None:
            record.sent = self._client.outgoing.data
        context.recorder.finish(record, failure)
