"""HTTP/1 towards the app: one exchange after the other on a connection, and rest between them.

Theory of operation. A connection is in one phase at a time, and this table says what bytes and its end mean there:

| phase | bytes are | its end is | silence is up to |
|---|---|---|---|
| OPENING | nothing | a failed attempt | the pool |
| SENDING | a head: the answer comes before the request has left | `upstream_lost` | the exchange |
| AWAITING | a head | `upstream_lost` | the exchange |
| RELAYING | content, until its framing ends it | the end, if the framing says so; else the content is truncated | the exchange |
| TUNNEL | the tunnel's | half-closes, or `upstream_gone` | the tunnel |
| RESTING | never asked for: it is aborted | forgotten, or told to its owner | the pool, or the owner |
| CLOSED | dropped | counted | nobody |

    OPENING --> SENDING --> AWAITING --> RELAYING --> RESTING --> SENDING ...
                            AWAITING --> TUNNEL       RELAYING --> CLOSED

**Rest.** No byte of an answer may come after the connection was lent to somebody else, who would take it for his own. So
it is closed after every answer behind whose end bytes are known to come: an answer without content (many servers send
an app's content after the head of an answer to HEAD, in a segment of its own, and to 204 and 304 if the app gives any);
an early answer; one to a request with `Expect` (`100 Continue` may follow); one to a request that is chunked (an app that
leaves some of it unread takes that for the next request).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from proxy.gateway import failures
from proxy.gateway.connection import TUNNEL_TURN_BYTES, TURN_BYTES
from proxy.gateway.context import Context
from proxy.gateway.guard import guarded
from proxy.gateway.habit import Habit
from proxy.gateway.last_words import read_what_the_socket_holds, read_what_tls_holds
from proxy.gateway.peers import Endpoints, endpoints
from proxy.gateway.read_buffer import SMALL_BYTES
from proxy.gateway.response_reader import Phase, ResponseReader
from proxy.gateway.sides import ExchangeListener, TunnelListener, UpstreamOwner
from proxy.message.framing import Framing
from proxy.message.request import RequestHead
from proxy.message.syntax import HEAD_END

_SENDING: Final = Phase.SENDING
_AWAITING: Final = Phase.AWAITING
_RELAYING: Final = Phase.RELAYING
_TUNNEL: Final = Phase.TUNNEL
_RESTING: Final = Phase.RESTING
_CLOSED: Final = Phase.CLOSED

# A response is likely to be as large as the last one: its first read asks for room as the last one's did.
_LIKE_BEFORE_BYTES: Final = SMALL_BYTES // 2
# Where much content came together with its head, the head ends within so many bytes, or content is copied.
_HEAD_BYTES: Final = 4096


class RestingPlace(Protocol):
    """Where a connection rests that belongs to nobody: the pool."""

    def put(self, connection: UpstreamConnection, *, after_content: bool) -> None:
        """Let it rest after a request, which had content or not."""

    def was_closed(self, connection: UpstreamConnection) -> None:
        """The app has closed it, while it rested or as the next request met it."""


class UpstreamConnection(ResponseReader, asyncio.BufferedProtocol):
    """One connection; it serves at most one exchange at a time.

    Attributes:
        habit: what the app does with connections after such a request as the last one; `None` before the first rest.
        idle_since_s: the clock's time when it was last put to rest.
        served: exchanges it has finished; 0 on a new connection.
    """

    __slots__ = ("_counted", "_endpoints", "_has_ended", "_owner", "_pool", "habit", "idle_since_s", "served")

    def __init__(self, context: Context, pool: RestingPlace) -> None:
        super().__init__(context)
        self._pool = pool
        self._owner: UpstreamOwner | None = None  # who keeps it from the pool
        self._counted = 0  # 1 among those that are open
        self._endpoints: Endpoints | None = None
        self._has_ended = False  # by its own word: a half-close, or TLS's close_notify
        self.habit: Habit | None = None
        self.idle_since_s = 0.0
        self.served = 0

    # Called by the exchange and the tunnel

    def send_head(self, exchange: ExchangeListener, head: RequestHead, *, strips: bool) -> int:
        stripped = self.write_head(head, strips=strips)
        self._exchange = exchange
        if self._most_read:
            self._most_read >>= 1  # as much may come again; after some small answers that is forgotten
        self.phase = _AWAITING if head.content_length == 0 else _SENDING
        self.may_rest = True
        return stripped

    def end(self) -> None:
        self.write_end()
        if self.phase is _SENDING:
            self.phase = _AWAITING

    def abort(self) -> None:
        self._exchange = None
        self._tunnel = None
        self.phase = _CLOSED
        self.may_rest = False
        self.transport.abort()

    def belong_to(self, owner: UpstreamOwner) -> None:
        self._owner = owner

    def switch_protocols(self, tunnel: TunnelListener) -> None:
        self._exchange = None
        self._tunnel = tunnel
        self.phase = _TUNNEL

    def close(self) -> None:
        self._tunnel = None
        self.phase = _CLOSED
        self.push()
        self.transport.close()

    # Called by the pool

    def count_out(self) -> None:
        """Count it among those that are open no more."""
        self._context.stats.upstream_connections -= self._counted
        self._counted = 0
        if self._endpoints is not None:
            self._context.own_endpoints.discard(self._endpoints)

    # Called by the event loop

    @guarded
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._counted = 1
        ends = endpoints(transport.get_extra_info("sockname"), transport.get_extra_info("peername"))
        if ends is not None:
            self._endpoints = ends
            self._context.own_endpoints.add(ends)
        self._context.stats.upstream_connections += 1
        self._context.stats.upstream_connections_total += 1

    def get_buffer(self, _size_hint: int) -> memoryview:
        inbox = self._context.inbox
        if self._most_read < _LIKE_BEFORE_BYTES:
            return inbox.small
        try:
            listener = self._exchange or self._tunnel
            return inbox.small if listener is None else inbox.for_room(listener.room())
        except Exception:  # noqa: BLE001 - as in `data_received`
            self.failed_by_itself()
            return inbox.small

    def buffer_updated(self, size: int) -> None:
        inbox = self._context.inbox
        if size < SMALL_BYTES:
            self.data_received(bytes(inbox.small[:size]))
            return
        self._most_read = size
        try:
            if size == SMALL_BYTES:
                self.data_received(bytes(inbox.small))
            elif self._large_read(inbox.buffer[:size]):
                inbox.replace()
            self.count_full_read(size, TURN_BYTES if self._tunnel is None else TUNNEL_TURN_BYTES)
        except Exception:  # noqa: BLE001 - as in `data_received`
            inbox.replace()  # part of it may still have to be sent
            self.failed_by_itself()

    def data_received(self, data: bytes) -> None:
        try:
            exchange = self._exchange
            if exchange is not None:
                if self.phase is _RELAYING:
                    exchange.touch()
                    self.read_content(exchange, data)
                else:
                    self.read_heads(exchange, data)
            elif self._tunnel is not None:
                self._tunnel.from_upstream(data)
            elif self.phase is _RESTING:
                self._spoke_unasked()
        except Exception:  # noqa: BLE001 - a mistake of this program, not of the upstream; the client is answered
            self.failed_by_itself()

    def _large_read(self, data: memoryview) -> bool:
        """Take more than a small read; what needs no decoding is passed on without a copy.

        Returns:
            Whether its buffer is still in use.
        """
        listener = self._exchange or self._tunnel
        if self.phase is _AWAITING:
            data = self._read_head_before_content(data)
        if self._exchange is not None and self.phase is _RELAYING and self._framing == Framing.FIXED:
            self._exchange.touch()
            self.read_fixed(self._exchange, data)
        elif self._tunnel is not None:
            self._tunnel.from_upstream(data)
        else:
            self.data_received(bytes(data))
            return False
        return listener is not None and listener.has_unsent_content()

    def _read_head_before_content(self, data: memoryview) -> memoryview:
        """Read the head that much content comes with; return the content, or all if the head is not whole."""
        beginning = bytes(data[:_HEAD_BYTES])
        size = beginning.find(HEAD_END) + len(HEAD_END)
        if size < len(HEAD_END) or self._partial:
            return data
        self._behind = len(data) - size
        self.data_received(beginning[:size])
        self._behind = 0
        return data[size:]

    @guarded
    def eof_received(self) -> bool:
        self._has_ended = True
        if self._tunnel is not None:
            return self._tunnel.upstream_half_closed()
        self.transport.abort()  # not close: that would wait until the rest of the request has left
        return False

    @guarded
    def connection_lost(self, exc: Exception | None) -> None:
        self.count_out()
        while self._later:
            self.data_received(self.take_later())
        if exc is None and not self._has_ended:
            self._has_ended = read_what_tls_holds(self.transport, self._receive)
        elif exc is not None:
            read_what_the_socket_holds(self.transport, self._receive)
        phase, self.phase = self.phase, _CLOSED
        self.may_rest = False
        exchange, self._exchange = self._exchange, None
        tunnel, self._tunnel = self._tunnel, None
        if exchange is not None:
            self._lost_in(phase, exchange, exc)
        elif tunnel is not None:
            tunnel.upstream_gone(was_reset=exc is not None)
        elif phase is _RESTING:
            self._lost_at_rest()

    @guarded
    def pause_writing(self) -> None:
        listener = self._exchange or self._tunnel
        if listener is not None:
            listener.pause_request()

    @guarded
    def resume_writing(self) -> None:
        listener = self._exchange or self._tunnel
        if listener is not None:
            listener.resume_request()

    def answer_own_mistake(self) -> None:
        listener = self._exchange or self._tunnel
        if listener is not None:
            listener.fail(failures.INTERNAL)
        else:
            self.transport.abort()

    # Its end

    def _lost_in(self, phase: Phase, exchange: ExchangeListener, exc: Exception | None) -> None:
        """Tell an exchange that the connection is gone, or that its response is complete by that."""
        if phase is not _RELAYING:
            is_untouched = self.served > 0 and not self._partial
            if is_untouched:
                self._pool.was_closed(self)
            exchange.upstream_lost(may_retry=is_untouched, detail=str(exc or ""))
        elif self._framing == Framing.UNTIL_CLOSE and self._has_ended and exc is None:
            # RFC 9112 section 9.8: without TLS's close_notify, anybody on the way may have ended it.
            exchange.response_end()
        else:
            exchange.fail(failures.UPSTREAM_TRUNCATED.with_detail(str(exc or "")))

    def _lost_at_rest(self) -> None:
        if self._owner is not None:
            self._owner.pinned_lost()
        else:
            self._pool.was_closed(self)

    def _spoke_unasked(self) -> None:
        """End it at rest: what it says could be taken for the next response."""
        self.abort()
        self._lost_at_rest()

    def _receive(self, data: bytes) -> bool:
        """Take what was left; return whether somebody listens to more."""
        if data:
            self.data_received(data)
        return self._exchange is not None or self._tunnel is not None

    def end_response(self, exchange: ExchangeListener, *, is_followed: bool) -> None:
        """Rest, or close where bytes may come after the end; then let the exchange end."""
        if self._exchange is not exchange:
            return  # it ended as its content was passed on
        self._exchange = None
        head, self._head = self._head, None
        self.served += 1
        if is_followed or not self.may_rest:
            self.abort()
        elif self._owner is not None:
            # What comes late is no other client's, and costs this one its connection.
            self.phase = _RESTING
        elif self._framing == Framing.NONE:
            self.abort()
        else:
            self.phase = _RESTING
            self._pool.put(self, after_content=head is not None and head.content_length != 0)
        exchange.response_end()

    def answered_nothing(self, exchange: ExchangeListener) -> None:
        """Drop what came before the request's head has left: it answers nothing."""
        served = self.served
        self.abort()
        exchange.upstream_lost(may_retry=served > 0, detail="it spoke unasked")
