"""HTTP/1 towards a client: the life of a connection, between the event loop, an exchange and the worker.

What its phases mean is said in `proxy.gateway.request_reader`, which reads; `proxy.gateway.response_writer` writes.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from proxy.gateway import failures
from proxy.gateway.clients import Clients
from proxy.gateway.connection import FULL_READ_BYTES, TUNNEL_TURN_BYTES
from proxy.gateway.context import Context
from proxy.gateway.failures import Failure
from proxy.gateway.guard import guarded
from proxy.gateway.own_response import render_failure
from proxy.gateway.peers import endpoints
from proxy.gateway.refusals import refusal
from proxy.gateway.request_reader import LINGER_S, BeginExchange, Phase, RequestReader
from proxy.gateway.response_writer import NEVER
from proxy.gateway.sides import TunnelListener, UpstreamSide
from proxy.message.framing import LAST_CHUNK
from proxy.message.negotiation import prefers_json
from proxy.message.request import RequestHead

_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_CONTENT: Final = Phase.CONTENT
_RESPONSE: Final = Phase.RESPONSE
_TUNNEL: Final = Phase.TUNNEL
_CLOSING: Final = Phase.CLOSING


class ClientConnection(RequestReader, asyncio.Protocol):
    """One client connection.

    Args:
        context: what all connections of the worker share.
        clients: where it is known while it is open.
        begin_exchange: called for each request.
    """

    __slots__ = ("_clients",)

    def __init__(self, context: Context, clients: Clients, begin_exchange: BeginExchange) -> None:
        super().__init__(context, begin_exchange)
        self._clients = clients

    # Called by the event loop

    @guarded
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # Nothing more is read for a client that does not take all.
        self.transport.set_write_buffer_limits(high=0)
        context = self._context
        peername = transport.get_extra_info("peername")
        self._peer, self.address = context.peers.of(peername)
        self._endpoints = endpoints(peername, transport.get_extra_info("sockname"))
        context.stats.client_connections_total += 1
        context.stats.client_connections += 1
        self._clients.add(self)
        if peername is None or context.is_draining:
            self.phase = _CLOSING  # without a name, it left before it was accepted: nobody can say who it was
            self.transport.abort()
        elif len(self._clients) > context.settings.max_connections:
            self.refuse(failures.TOO_MANY_CONNECTIONS, b"")
        else:
            settings = context.settings
            patience_s = settings.keepalive_timeout_s or settings.request_head_timeout_s
            self.deadline_s = context.clock.now_s + patience_s

    def data_received(self, data: bytes) -> None:
        try:
            phase = self.phase
            if phase is _IDLE or phase is _HEAD:
                if self.is_congested:
                    self._read_ahead(self._buffer + data)
                else:
                    self._read_head(data)
            elif phase is _CONTENT:
                self._read_content(data)
            elif phase is _RESPONSE:
                self._read_ahead(self._buffer + data)
            elif self.tunnel is not None:
                self.tunnel.from_client(data)
                if len(data) >= FULL_READ_BYTES:
                    self.count_full_read(len(data), TUNNEL_TURN_BYTES)
        except Exception:  # noqa: BLE001 - a mistake of this program, not of the client; its request is answered
            self.failed_by_itself()

    @guarded
    def eof_received(self) -> bool:
        return self.tunnel is not None and self.tunnel.client_half_closed()

    @guarded
    def connection_lost(self, _exc: Exception | None) -> None:
        self._context.stats.client_connections -= 1
        self._clients.discard(self)
        self.phase = _CLOSING
        listener, self.exchange, self.tunnel = self.listener(), None, None
        if listener is not None:
            listener.client_left()
        if self.pinned is not None:
            self.pinned.abort()

    @guarded
    def pause_writing(self) -> None:
        self.is_congested = True
        self.note_progress()
        listener = self.listener()
        if listener is not None:
            listener.pause_response()

    @guarded
    def resume_writing(self) -> None:
        self.is_congested = False
        listener = self.listener()
        if listener is not None:
            listener.resume_response()
        elif self.phase is _IDLE:
            self.enter(_IDLE)
            if self._buffer:
                self.read_pipelined()

    def answer_own_mistake(self) -> None:
        listener = self.listener()
        if listener is not None:
            listener.fail(failures.INTERNAL)
        elif self.phase is _IDLE or self.phase is _HEAD:
            self.refuse(failures.INTERNAL, self._buffer)
        else:
            self.transport.abort()

    # Called by the exchange and the tunnel

    def end(self) -> None:
        outgoing = self.outgoing
        if outgoing is not None and outgoing.is_chunked:
            self.send(LAST_CHUNK)
        if self.pinned is not None and not self.pinned.may_rest:
            self._exchange_done(keep_alive=False)
        else:
            self._exchange_done(keep_alive=outgoing is not None and outgoing.keep_alive)

    def answer(self, failure: Failure, vary: tuple[str, ...]) -> tuple[bytes, bytes]:
        head = self._head
        assert head is not None, "there is a request"
        keep_alive = failure.source == "upstream" and self.may_keep_alive(head)
        answer = render_failure(
            failure,
            method=head.method,
            client_minor=head.minor,
            keep_alive=keep_alive,
            vary=vary,
            date=self._context.clock.date,
            as_json=prefers_json(head.lines),
        )
        self.send(b"".join(answer))
        self._exchange_done(keep_alive=keep_alive)
        return answer

    def reset(self) -> None:
        self.exchange = None
        self.tunnel = None
        self.phase = _CLOSING
        self.push()
        self.reset_transport()

    def switch_protocols(self, tunnel: TunnelListener) -> None:
        self.exchange = None
        self.tunnel = tunnel
        self.phase = _TUNNEL
        early, self._buffer = self._buffer, b""
        self.resume_reading("pipelined")
        if early:
            tunnel.from_client(early)

    def close(self) -> None:
        self.exchange = None
        self.tunnel = None
        self._close(sends_on=False)

    def pin(self, upstream: UpstreamSide) -> None:
        self.pinned = upstream
        upstream.belong_to(self)

    def pinned_lost(self) -> None:
        """The connection of the upstream that belongs to this one is gone while it rested."""
        if self.exchange is None and self.tunnel is None:
            self._close(sends_on=bool(self._buffer))

    # Called by the worker

    @guarded
    def timed_out(self) -> None:
        """The deadline has passed."""
        self.deadline_s = NEVER
        self.note_progress()
        listener = self.listener()
        if self.is_slow_only():
            self.deadline_s = self._context.clock.now_s + LINGER_S
        elif listener is not None:
            listener.timed_out()
        elif self.phase is _HEAD:
            self.refuse(failures.REQUEST_TIMEOUT, self._buffer)
        else:
            self._cut_off()

    @guarded
    def drain(self) -> None:
        """Close now unless a request is being read or answered."""
        self.drain_tunnel()
        if self.listener() is None and not self._buffer:
            self.push()
            self.transport.close()

    @guarded
    def drain_tunnel(self) -> None:
        """Close now if this is a tunnel at rest."""
        if self.tunnel is not None:
            self.tunnel.drain()

    @guarded
    def give_up(self, failure: Failure) -> bool:
        """End it at once, whatever it does; return whether an exchange or tunnel was under way."""
        listener = self.listener()
        if listener is None:
            self._cut_off()
            return False
        listener.reset(failure)
        return True

    # The end of an exchange, and of the connection

    def may_keep_alive(self, head: RequestHead) -> bool:
        return (
            head.keep_alive
            and self.phase is _RESPONSE  # else the rest of the request would be taken for the next one
            and self._context.client_rest_s > 0
            and (self.pinned is None or self.pinned.may_rest)
        )

    def _exchange_done(self, *, keep_alive: bool) -> None:
        """Read the next request, or close."""
        self.exchange = None
        self._head = self.outgoing = None
        if not keep_alive or self._context.is_draining:
            self._close(sends_on=bool(self._buffer) or self.phase is _CONTENT)
            return
        self.enter(_IDLE)
        # An exchange that ended before its content was sent on pauses nobody any more.
        if self._pause_reasons:
            self.resume_reading("connecting")
            self.resume_reading("upstream")
        if self._buffer:
            # Not from here: the upstream's callback that ends one exchange must not begin the next.
            self._context.loop.call_soon(self.read_pipelined)

    def refuse(self, failure: Failure, data: bytes) -> None:
        """Answer what never became an exchange, and close.

        Args:
            data: what there is of the request.
        """
        context = self._context
        answer, record = refusal(failure, data, client=self.address, date=context.clock.date)
        context.recorder.add(record)
        self.send(answer)
        # One too many is closed at once: to linger would hold the descriptors that the limit is to save.
        self._close(sends_on=failure is not failures.TOO_MANY_CONNECTIONS)

    def _close(self, *, sends_on: bool) -> None:
        """Close after what is written has left.

        Args:
            sends_on: the client may still be sending. A plain close would reset the connection under the response
                before it is read (RFC 9112 section 9.6): half-close, and drop what comes for a while.
        """
        self.push()
        self._buffer = b""
        self.enter(_CLOSING)
        self.note_progress()
        self.resume_reading("connecting")
        self.resume_reading("upstream")
        self.resume_reading("pipelined")
        if sends_on and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _cut_off(self) -> None:
        """End it now; a response whose end the client never took is reset."""
        self.push()
        if self.transport.get_write_buffer_size():
            self.reset()
        else:
            self.transport.abort()
