"""One request and its response in flight, between a client's connection and an upstream's."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from proxy.gateway import failures
from proxy.gateway.audit_feed import Passing
from proxy.gateway.context import Context
from proxy.gateway.failures import Failure, render_failure
from proxy.gateway.record import Record
from proxy.message.errors import MalformedHeadError
from proxy.message.framing import LAST_CHUNK, chunk
from proxy.message.methods import IDEMPOTENT
from proxy.message.request import RequestHead, render_request
from proxy.message.response import ResponseHead, render_informational, render_response, render_switch
from proxy.message.rewrite import UNTOUCHED
from proxy.message.status import SWITCHING_PROTOCOLS
from proxy.rules.engine.verdict import FAIL_SAFE, Resolution, Verdict
from proxy.rules.policies import PASS, STRICT, treatment

if TYPE_CHECKING:
    import asyncio

    from proxy.gateway.client import ClientConnection
    from proxy.gateway.pool import Pool
    from proxy.gateway.upstream import UpstreamConnection

_log = logging.getLogger(__name__)

_MAX_INFORMATIONAL: Final = 64  # 1xx without end would hold the client for ever


class Exchange:
    """Moves one request to the upstream and its response to the client.

    It is driven by its two connections: the client's calls `begin`, `request_content`, `request_end`,
    `client_left`; the upstream's calls `response_head`, `response_content`, `response_end`, `upstream_lost`.

    Attributes:
        head: of the request; `rendered` is it for the upstream.
        responded: the head of a final response is on its way to the client.
        request_complete: all of the request's content has been read from the client.
    """

    __slots__ = (
        "_attempt",
        "_context",
        "_informational",
        "_is_chunked",
        "_is_half_closed",
        "_keep_alive",
        "_passing",
        "_pending",
        "_pool",
        "_record",
        "_replayed",
        "_resolution",
        "_reuse_upstream",
        "_upstream",
        "_verdict",
        "client",
        "head",
        "is_tunnel",
        "rendered",
        "request_complete",
        "responded",
    )

    def __init__(self, context: Context, pool: Pool, client: ClientConnection, head: RequestHead) -> None:
        self._context = context
        self._pool = pool
        self.client = client
        self.head = head
        self.responded = False
        self.request_complete = head.content_length == 0
        self.is_tunnel = False
        self._attempt: asyncio.Task[None] | None = None
        self._upstream: UpstreamConnection | None = None
        self._pending: list[bytes] = []  # request content read before there was a connection
        self._record = Record(
            method=head.method,
            target=head.target,
            host=head.host,
            client=client.address,
            started_s=time.perf_counter(),
            request=head,
        )
        self._informational = 0
        self._is_chunked = False
        self._is_half_closed = False
        self._keep_alive = False
        self._reuse_upstream = False
        self._replayed = False
        self._resolution: Resolution | None = None
        self._passing: Passing | None = None

    # The request

    def begin(self) -> None:
        """Decide, and send the head as soon as there is a connection."""
        context = self._context
        head = self.head
        self._verdict = verdict = self._decide()
        self.rendered, stripped = render_request(head, strips_conditionals=verdict.strips_conditionals)
        if stripped:
            context.stats.conditionals_stripped[verdict.rule.name if verdict.rule else ""] += stripped
        if self._is_too_large(head.content_length or 0):
            self.fail(failures.CONTENT_TOO_LARGE)
            return
        upstream = self._pool.take(must_be_fresh=not self._can_replay())
        if upstream is not None:
            self.upstream_ready(upstream)
        else:
            self._connect()

    def upstream_ready(self, upstream: UpstreamConnection) -> None:
        """Send what there is of the request."""
        self._attempt = None
        if upstream.transport.is_closing():  # it left, or spoke unasked, before anyone listened
            self.fail(failures.UPSTREAM_CLOSED)
            return
        self._upstream = upstream
        upstream.serve(self)
        upstream.send(self.rendered)
        if self._pending:
            for data in self._pending:
                upstream.send(data)
            self._pending.clear()
            self.client.release_reading("connecting")
        if self.client.is_congested:
            upstream.transport.pause_reading()
        self.touch()

    def request_content(self, data: bytes) -> None:
        """Forward content, framed anew when it is chunked."""
        self._record.bytes_in += len(data)
        if self.head.content_length is None:
            if self._is_too_large(self._record.bytes_in):
                self.fail(failures.CONTENT_TOO_LARGE)
                return
            data = chunk(data)
        self._send(data)

    def request_end(self) -> None:
        """All content was read."""
        self.request_complete = True
        if self.head.content_length is None:
            self._send(LAST_CHUNK)
        self.touch()

    def _send(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.send(data)
            self.touch()
        elif not self.responded:
            self._pending.append(data)
            self.client.hold_reading("connecting")

    def _is_too_large(self, size: int) -> bool:
        limit = self._context.settings.max_request_body_bytes
        return 0 < limit < size

    def _connect(self) -> None:
        self.client.deadline_s = self._context.clock.now_s + 2 * self._context.settings.connect_timeout_s + 1
        self._attempt = self._pool.connect(self)

    def _can_replay(self) -> bool:
        """Whether the request may be sent twice, RFC 9110 section 9.2.2, and is still at hand."""
        return self.head.method in IDEMPOTENT and self.head.content_length == 0 and not self.head.upgrade

    def _decide(self) -> Verdict:
        try:
            return self._context.ruleset.decide(self.head.method, self.head.target, self.head.values)
        except Exception:  # noqa: BLE001 - the guarantee holds even when a rule does not: "fails safe", DESIGN 4
            _log.exception("deciding failed; the response is protected by the strict policy")
            self._context.stats.decision_failures_total += 1
            return FAIL_SAFE

    # The response

    def informational(self, response: ResponseHead) -> None:
        """Pass a 1xx on; HTTP/1.0 clients do not know them."""
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            self.fail(failures.UPSTREAM_MALFORMED.with_detail("informational responses without end"))
        elif self.head.minor == 1:
            self.client.send(render_informational(response))

    def response_head(self, response: ResponseHead) -> None:
        """Answer the client with the upstream's final response.

        Raises:
            MalformedHeadError: its framing is ambiguous, or it switches to what was not asked for.
        """
        record = self._record
        record.upstream_s = time.perf_counter() - record.started_s
        record.upstream_status = response.status
        record.response = response
        if response.status == SWITCHING_PROTOCOLS:
            self._switch_protocols(response)
            return
        head = self.head
        verdict = self._verdict
        if verdict.forbids(head.method, response.status):
            self.fail(failures.UPSTREAM_NOT_MODIFIED)
            return
        self._resolution = resolution = self._resolve(response)
        audit = self._context.audit
        if audit is not None:
            self._passing = audit.begin(head, response, resolution)
        outgoing = render_response(
            response,
            resolution.treatment,
            method=head.method,
            client_minor=head.minor,
            keep_alive=head.keep_alive and self.request_complete and not self._context.is_draining,
            now=self._context.clock.date,
            hides_validators=head.matches_any,
        )
        self.responded = True
        record.status = response.status
        self._is_chunked = outgoing.is_chunked
        self._keep_alive = outgoing.keep_alive
        self._reuse_upstream = outgoing.reuse_upstream
        record.changed = outgoing.changed
        self.client.send(outgoing.data)
        if self._upstream is not None:
            self._upstream.expect_content(outgoing.framing, outgoing.content_length)
        stats = self._context.stats
        stats.upstream_cache_hits_total += outgoing.was_cached
        if outgoing.changed and resolution.rule is not None:
            stats.fields_changed[resolution.rule.name] += outgoing.changed
        if resolution.observed is not None:
            stats.observed[resolution.observed.name] += 1

    def response_content(self, data: bytes) -> None:
        """Relay content."""
        self._record.bytes_out += len(data)
        if self._passing is not None:
            self._passing.add(data)
        self.client.send(chunk(data) if self._is_chunked else data)

    def large_content(self, data: bytes | memoryview) -> None:
        """Relay content of a known length; a view's buffer is in use until the client has nothing left to write."""
        self._record.bytes_out += len(data)
        if self._passing is not None:
            self._passing.add(data)
        self.client.send_now(data)

    def response_end(self, *, reuse: bool) -> None:
        """The response is complete: let the upstream's connection rest, and the client go on.

        Args:
            reuse: nothing followed the content on the upstream's connection.
        """
        if self._is_chunked:
            self.client.send(LAST_CHUNK)
        upstream = self._upstream
        if upstream is not None:
            self._upstream = None
            upstream.release()
            is_sent = self.request_complete and not self.client.is_held("upstream")
            if reuse and self._reuse_upstream and is_sent:
                if self.client.is_congested:
                    upstream.transport.resume_reading()
                self._pool.put(upstream)
            else:
                upstream.transport.abort()
        self._finish(None)
        self.client.exchange_done(keep_alive=self._keep_alive)

    def _resolve(self, response: ResponseHead) -> Resolution:
        try:
            return self._verdict.resolve(response.status, response.section.fields)
        except Exception:  # noqa: BLE001 - as in `_decide`
            _log.exception("deciding failed; the response is protected by the strict policy")
            self._context.stats.decision_failures_total += 1
            return Resolution(None, STRICT, treatment(STRICT, self._verdict.vary))

    # The tunnel

    def _switch_protocols(self, response: ResponseHead) -> None:
        if not self.request_complete:
            raise MalformedHeadError("101 before the request was complete")  # RFC 9110 section 7.8
        data = render_switch(response, self.head.upgrade)
        self.is_tunnel = self.responded = True
        self._record.status = SWITCHING_PROTOCOLS
        self._record.is_tunnel = True
        self._keep_alive = False
        self._context.stats.tunnels += 1
        self._context.stats.tunnels_total += 1
        self.client.send(data)
        if self._upstream is not None:
            self._upstream.switch_protocols()
        self.client.switch_protocols()

    def from_client(self, data: bytes) -> None:
        """Relay tunnelled bytes to the upstream."""
        self._record.bytes_in += len(data)
        if self._upstream is not None:
            self._upstream.send(data)
            self.touch()

    def from_upstream(self, data: bytes) -> None:
        """Relay tunnelled bytes to the client."""
        self._record.bytes_out += len(data)
        self.client.send(data)

    def upstream_half_closed(self) -> bool:
        """Pass the upstream's half-close on; whether its connection stays open for the other direction."""
        return self._half_close() and self.client.half_close()

    def client_half_closed(self) -> bool:
        """Pass the client's half-close on; whether its connection stays open for the other direction."""
        upstream = self._upstream
        if upstream is None or not self._half_close() or not upstream.transport.can_write_eof():
            return False
        upstream.push()
        upstream.transport.write_eof()
        return True

    def _half_close(self) -> bool:
        """Whether this is the first direction of the tunnel to end; with the second, both connections do."""
        if not self._is_half_closed:
            self._is_half_closed = True
            return True
        upstream = self._upstream
        if upstream is not None:
            self._upstream = None
            upstream.release()
            upstream.push()
            upstream.transport.close()
        self._finish(None)
        self.client.exchange_done(keep_alive=False)
        return False

    def tunnel_lost(self, *, was_reset: bool) -> None:
        """The upstream's end of the tunnel is gone; what ended with a reset ends with one here."""
        self._upstream = None
        if was_reset:
            self.abandon(failures.UPSTREAM_CLOSED)
            return
        self._finish(None)
        self.client.exchange_done(keep_alive=False)

    # Failures

    def touch(self) -> None:
        """Some byte moved: put the deadline off.

        Once the request is complete, only the final response's head ends the wait for it.
        """
        settings = self._context.settings
        if self.responded or not self.request_complete:
            self.client.deadline_s = self._context.clock.now_s + settings.idle_timeout_s
        else:
            self.client.deadline_s = self._context.clock.now_s + settings.response_head_timeout_s

    def upstream_lost(self, *, saw_bytes: bool, detail: str) -> None:
        """The upstream's connection closed before a final response's head."""
        was_used_before = self._upstream is not None and self._upstream.served > 0
        self._upstream = None
        saw_bytes = saw_bytes or self._informational > 0
        if was_used_before and not saw_bytes and not self._replayed and self._can_replay():
            self._replayed = True
            self._context.stats.retries_total += 1
            self._connect()
            return
        self.fail(failures.UPSTREAM_CLOSED.with_detail(detail))

    def timed_out(self) -> None:
        """Nothing moved for too long; say who is to blame."""
        if self.is_tunnel:
            self.abandon(failures.UPSTREAM_STALLED.with_detail("idle tunnel"))
        elif self._attempt is not None:
            self.fail(failures.CONNECT_TIMEOUT)
        elif self.client.is_congested:
            self.abandon(failures.CLIENT_STALLED)
        elif not self.request_complete and not self.client.is_held("upstream"):
            self.fail(failures.REQUEST_TIMEOUT)
        elif self.responded:
            self.fail(failures.UPSTREAM_STALLED)
        else:
            self.fail(failures.UPSTREAM_TIMEOUT)

    def fail(self, failure: Failure) -> None:
        """Answer in place of the upstream, or break the connection when its response is under way.

        A cut response never gets a clean end: no last chunk, and a reset where closing would be one.
        """
        if self.responded:
            self.abandon(failure)
            return
        self._drop_upstream()
        self.responded = True
        self._resolution = Resolution(self._verdict.rule, STRICT, UNTOUCHED)
        keep_alive = self.head.keep_alive and self.request_complete and not self._context.is_draining
        keep_alive = keep_alive and failure.source == "upstream"
        head, content = render_failure(
            failure,
            method=self.head.method,
            client_minor=self.head.minor,
            keep_alive=keep_alive,
            vary=self._verdict.vary,
            date=self._context.clock.date,
        )
        self._record.status = failure.status
        self._record.bytes_out = len(content)
        self.client.send(head + content)
        self._finish(failure)
        self.client.exchange_done(keep_alive=keep_alive)

    def abandon(self, failure: Failure) -> None:
        """Break both connections at once."""
        self._drop_upstream()
        self._finish(failure)
        self.client.break_off()

    def client_left(self) -> None:
        """The client's connection is gone: the upstream need not go on."""
        self._drop_upstream()
        if self.is_tunnel:
            self._finish(None)
            return
        self._finish(failures.CLIENT_LEFT)

    def pause_upstream(self) -> None:
        """The client does not take what is sent: let the upstream wait."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_upstream(self) -> None:
        """The client takes more."""
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def _drop_upstream(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    def _finish(self, failure: Failure | None) -> None:
        """Hand over the record."""
        record = self._record
        stats = self._context.stats
        stats.in_flight -= 1
        if record.is_tunnel:
            stats.tunnels -= 1
        record.duration_s = time.perf_counter() - record.started_s
        record.ended_s = time.time()
        resolution = self._resolution
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
        if failure is None:
            if self._passing is not None:
                self._passing.end()
        else:
            record.failure = failure
            if failure is failures.CLIENT_LEFT:
                record.status = failure.status
        self._context.recorder.add(record)
