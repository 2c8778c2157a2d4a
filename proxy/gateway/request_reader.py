"""HTTP/1 from a client: heads and content are cut out of what it sends, one request after the other.

Theory of operation. A connection is in one phase at a time, and this table says what bytes and silence mean there:

| phase | bytes are | silence | for at most |
|---|---|---|---|
| IDLE | a request's head | it is closed | keep-alive time-out |
| HEAD | the rest of a head | `request_timeout` is answered | request-head time-out |
| CONTENT | content, then what is pipelined | the exchange decides | what the exchange says |
| RESPONSE | pipelined: kept, up to a bound | the exchange decides | what the exchange says |
| TUNNEL | the tunnel's | the tunnel decides | what the tunnel says |
| CLOSING | dropped | it is cut off | 2 s |

    IDLE --> HEAD --> CONTENT --> RESPONSE --> IDLE ...       (a head that comes whole skips HEAD, one without content
    any --> CLOSING   RESPONSE --> TUNNEL                      CONTENT)

A client that takes what it was sent, however slowly, is not silent. One that takes nothing gets nothing: nothing is read
for it and the upstream is paused. A client that half-closes is taken to have left, as in nginx, but for a tunnel's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Final

from proxy.gateway import failures
from proxy.gateway.connection import FULL_READ_BYTES, TURN_BYTES
from proxy.gateway.context import Context
from proxy.gateway.failures import Failure
from proxy.gateway.guard import guarded
from proxy.gateway.peers import Endpoints
from proxy.gateway.refusals import (
    EMPTY_LINE,
    MAX_EMPTY_LINES,
    REFUSALS,
    begins_head,
    count_empty_lines,
    refusal_of,
)
from proxy.gateway.response_writer import ResponseWriter
from proxy.gateway.sides import ClientSide, ExchangeListener, TunnelListener, UpstreamSide
from proxy.message.chunked import ChunkedDecoder
from proxy.message.errors import MalformedContentError, MessageError
from proxy.message.forwarding import Peer
from proxy.message.request import RequestHead
from proxy.message.syntax import HEAD_END

LINGER_S: Final = 2.0
"""How long a refused request may go on, so that its sender reads the refusal."""

_MAX_PIPELINED_BYTES: Final = 64 * 1024  # read ahead while a response is under way


class Phase(Enum):
    """Where a connection stands; see the module's docstring."""

    IDLE = "idle"
    HEAD = "head"
    CONTENT = "content"
    RESPONSE = "response"
    TUNNEL = "tunnel"
    CLOSING = "closing"


_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_CONTENT: Final = Phase.CONTENT
_RESPONSE: Final = Phase.RESPONSE

BeginExchange = Callable[[ClientSide, RequestHead], ExchangeListener]
"""Makes the exchange of a request."""


class RequestReader(ResponseWriter):
    """The reading half of a client's connection.

    Args:
        context: what all connections of the worker share.
        begin_exchange: called for each request.

    Attributes:
        phase: where the connection stands.
        address: of the client, for the log.
        exchange: of the request that is being answered, `None` between requests; `tunnel` likewise.
        is_congested: the client does not take what is sent.
    """

    __slots__ = (
        "_begin_exchange",
        "_buffer",
        "_decoder",
        "_empty_lines",
        "_endpoints",
        "_peer",
        "_remaining",
        "address",
        "exchange",
        "is_congested",
        "phase",
        "tunnel",
    )

    def __init__(self, context: Context, begin_exchange: BeginExchange) -> None:
        super().__init__(context)
        self._begin_exchange = begin_exchange
        self._buffer = b""  # a part of a head, or what was pipelined
        self._empty_lines = 0  # before the request that comes
        self._remaining = 0  # bytes of content that are still to come
        self._decoder: ChunkedDecoder | None = None
        self._endpoints: Endpoints | None = None  # until they are known to be none of the proxy's own
        self._peer = Peer()
        self.phase = _IDLE
        self.address = ""
        self.exchange: ExchangeListener | None = None
        self.tunnel: TunnelListener | None = None
        self.is_congested = False

    @abstractmethod
    def refuse(self, failure: Failure, data: bytes) -> None:
        """Answer what never became an exchange, and close."""

    # The rest of a `ClientSide`

    @abstractmethod
    def end(self) -> None: ...

    @abstractmethod
    def answer(self, failure: Failure, vary: tuple[str, ...]) -> tuple[bytes, bytes]: ...

    @abstractmethod
    def reset(self) -> None: ...

    @abstractmethod
    def switch_protocols(self, tunnel: TunnelListener) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def pin(self, upstream: UpstreamSide) -> None: ...

    def enter(self, phase: Phase) -> None:
        """Go into a phase whose silence is measured here; see the module's docstring."""
        self.phase = phase
        context = self._context
        if phase is _IDLE:
            patience_s = context.client_rest_s
        elif phase is _HEAD:
            patience_s = context.settings.request_head_timeout_s
        else:
            patience_s = LINGER_S
        self.deadline_s = context.clock.now_s + patience_s

    def listener(self) -> ExchangeListener | TunnelListener | None:
        return self.exchange or self.tunnel

    @guarded
    def read_pipelined(self) -> None:
        """Read the request that came while the one before it was answered."""
        if self.phase is not _IDLE or self.is_congested or self.transport.is_closing():
            return
        data, self._buffer = self._buffer, b""
        if data:
            self.data_received(data)
        if not self._is_far_ahead():
            self.resume_reading("pipelined")

    def _read_ahead(self, data: bytes) -> None:
        """Keep what comes before it is its turn, or from a client that reads no answers."""
        self._buffer = data
        if self._is_far_ahead():
            self.pause_reading("pipelined")

    def _is_far_ahead(self) -> bool:
        """Whether more is buffered than is read ahead, and than a part of a head may have."""
        most = max(_MAX_PIPELINED_BYTES, self._context.settings.max_head_size_bytes + len(HEAD_END))
        return len(self._buffer) > most

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if data.startswith(EMPTY_LINE):
            data = self._skip_empty_lines(data)
        end = data.find(HEAD_END)
        limit = self._context.settings.max_head_size_bytes
        if end < 0 or end > limit:
            self._keep_partial_head(data, limit)
            return
        size = end + len(HEAD_END)
        try:
            head = self._context.requests.read(data if size == len(data) else data[:size], self._peer)
        except MessageError as error:
            self.refuse(REFUSALS[error.status].with_detail(str(error)), data)
            return
        if self._endpoints is not None:
            if self._endpoints in self._context.own_endpoints:
                self.refuse(failures.LOOP_DETECTED, data)
                return
            self._endpoints = None  # once is enough
        if head.distrusted:
            self._context.peers.say_distrusted(self._peer)
        self._begin(head, data[size:])

    def _skip_empty_lines(self, data: bytes) -> bytes:
        """Take off the empty lines before a request; with too many of them, what is left is none."""
        lines = count_empty_lines(data)
        self._empty_lines += lines
        return data[lines * len(EMPTY_LINE) :] if self._empty_lines <= MAX_EMPTY_LINES else data

    def _keep_partial_head(self, data: bytes, limit: int) -> None:
        """Wait for the rest of a head, unless what there is of it can never become one."""
        refusal = refusal_of(data, limit)
        if refusal is not None:
            self.refuse(refusal, data)
            return
        self._buffer = data
        if self.phase is _IDLE and begins_head(data):
            self.enter(_HEAD)

    def _begin(self, head: RequestHead, rest: bytes) -> None:
        self._head = head
        self._empty_lines = 0
        self.exchange = exchange = self._begin_exchange(self, head)
        if head.content_length == 0:
            self.phase = _RESPONSE
            if rest:
                self._read_ahead(rest)
            exchange.begin()
            return
        self.phase = _CONTENT
        if head.content_length is None:
            self._decoder = ChunkedDecoder("request")
        else:
            self._decoder = None
            self._remaining = head.content_length
        exchange.begin()
        if rest:
            self._read_content(rest)

    def _read_content(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        decoder = self._decoder
        if decoder is None:
            remaining = self._remaining
            content, rest = data[:remaining], data[remaining:]
            self._remaining = remaining - len(content)
            is_complete = not self._remaining
        else:
            try:
                content, rest = decoder.feed(data)
            except MalformedContentError as error:
                exchange.fail(failures.BAD_REQUEST.with_detail(str(error)))
                return
            is_complete = decoder.is_complete
        if content:
            exchange.request_content(content)
        if self.exchange is not exchange:
            return
        if is_complete:
            self.phase = _RESPONSE
            self._read_ahead(rest)
            exchange.request_end()
        elif rest:
            self.end_turn(rest)
        elif len(data) >= FULL_READ_BYTES:
            self.count_full_read(len(data), TURN_BYTES)
