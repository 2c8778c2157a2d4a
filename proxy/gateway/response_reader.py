"""HTTP/1 from the app: heads and content are cut out of what it sends, and passed to the exchange that listens."""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum
from typing import Final

from proxy.gateway import failures
from proxy.gateway.context import Context
from proxy.gateway.request_writer import RequestWriter
from proxy.gateway.sides import ExchangeListener, TunnelListener
from proxy.gateway.write_batch import LARGE_BYTES
from proxy.message.chunked import ChunkedDecoder
from proxy.message.errors import MalformedContentError, MessageError
from proxy.message.framing import Framing
from proxy.message.request import RequestHead
from proxy.message.response import ResponseHead
from proxy.message.status import OK, SWITCHING_PROTOCOLS
from proxy.message.syntax import HEAD_END

_HEAD_END_SIZE: Final = len(HEAD_END)


class Phase(Enum):
    """Where a connection stands; see `proxy.gateway.upstream`."""

    OPENING = "opening"
    SENDING = "sending"
    AWAITING = "awaiting"
    RELAYING = "relaying"
    TUNNEL = "tunnel"
    RESTING = "resting"
    CLOSED = "closed"


_OPENING: Final = Phase.OPENING
_AWAITING: Final = Phase.AWAITING
_RELAYING: Final = Phase.RELAYING


class ResponseReader(RequestWriter):
    """The reading half of a connection to the app.

    Attributes:
        phase: where the connection stands.
        may_rest: as far as is known, nothing comes after the end of the answer.
    """

    __slots__ = (
        "_behind",
        "_decoder",
        "_exchange",
        "_framing",
        "_most_read",
        "_partial",
        "_remaining",
        "_tunnel",
        "may_rest",
        "phase",
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._exchange: ExchangeListener | None = None  # who hears what comes, if no tunnel does
        self._tunnel: TunnelListener | None = None
        self._partial = bytearray()  # of a response's head
        self._framing = Framing.NONE
        self._behind = 0  # bytes that have come behind the head that is being read
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._most_read = 0  # bytes at a time; where they filled the buffer, there is more
        self.phase = _OPENING
        self.may_rest = False

    @abstractmethod
    def end_response(self, exchange: ExchangeListener, *, is_followed: bool) -> None:
        """The response is complete."""

    @abstractmethod
    def answered_nothing(self, exchange: ExchangeListener) -> None:
        """Something came before the request's head has left."""

    def read_heads(self, exchange: ExchangeListener, data: bytes) -> None:
        """Read one head after the other, and then what there is of the content."""
        head = self._head
        if head is None or (self.unwritten and self.is_unsent()):
            self.answered_nothing(exchange)
            return
        if self._partial:
            data = bytes(self._partial + data)
            self._partial.clear()
        context = self._context
        limit = context.settings.max_head_size_bytes + _HEAD_END_SIZE
        try:
            taken = context.responses.take(data, head.method, limit)
            if taken is None:
                self._keep_partial(exchange, data, limit)
                return
            response, size = taken
            if response.status >= OK:
                self._expect_content(head, response)
            elif response.status != SWITCHING_PROTOCOLS:
                self._read_on(exchange, response, data[size:])
                return
            exchange.response_head(response)
        except MessageError as error:
            exchange.fail(failures.UPSTREAM_MALFORMED.with_detail(str(error)))
            return
        if self._exchange is exchange:  # else refused, or failed
            self.read_content(exchange, data[size:])
        elif self._tunnel is not None and size < len(data):
            self._tunnel.from_upstream(data[size:])

    def _read_on(self, exchange: ExchangeListener, response: ResponseHead, data: bytes) -> None:
        """Pass an informational response on, and read what follows it."""
        exchange.informational(response)
        if data and self._exchange is exchange:
            self.read_heads(exchange, data)

    def _expect_content(self, head: RequestHead, response: ResponseHead) -> None:
        """Be ready for the content of a final response, and find out what may come after it."""
        self.may_rest = (
            response.keep_alive
            and head.content_length is not None
            and self.phase is _AWAITING  # else the answer came before the request's end had left
            and not self.transport.get_write_buffer_size()
            and b"expect" not in head.noted
            and head.method != "HEAD"
        )
        self.phase = _RELAYING
        self._framing = framing = response.framing
        self._remaining = response.content_length
        if framing == Framing.CHUNKED:
            self._decoder = ChunkedDecoder("response")

    def _keep_partial(self, exchange: ExchangeListener, data: bytes, limit: int) -> None:
        if len(data) >= limit:
            exchange.fail(failures.UPSTREAM_TOO_LARGE)
        elif not b"HTTP/1."[: len(data)].startswith(data[:7]):
            exchange.fail(failures.UPSTREAM_MALFORMED.with_detail("not HTTP/1.x"))
        else:
            self._partial += data

    def read_content(self, exchange: ExchangeListener, data: bytes) -> None:
        framing = self._framing
        if framing == Framing.FIXED:
            self.read_fixed(exchange, data)
        elif framing == Framing.NONE:
            self.end_response(exchange, is_followed=self._behind > 0 or bool(data))
        elif not data:
            return
        elif framing == Framing.CHUNKED:
            self._read_chunks(exchange, data)
        else:
            exchange.response_content(data)

    def read_fixed(self, exchange: ExchangeListener, data: bytes | memoryview) -> None:
        size = len(data)
        self._remaining = left = self._remaining - size
        if left < 0:
            data = bytes(data[:left])
        if size >= LARGE_BYTES:
            exchange.large_content(data)
        elif size:
            exchange.response_content(data if isinstance(data, bytes) else bytes(data))
        if left <= 0:
            self.end_response(exchange, is_followed=left < 0)

    def _read_chunks(self, exchange: ExchangeListener, data: bytes) -> None:
        decoder = self._decoder
        if decoder is None:
            return
        try:
            content, rest = decoder.feed(data)
        except MalformedContentError as error:
            exchange.fail(failures.UPSTREAM_TRUNCATED.with_detail(str(error)))
            return
        if content:
            exchange.response_content(content)
        if decoder.is_complete:
            self._decoder = None
            self.end_response(exchange, is_followed=bool(rest))
        elif rest and self._exchange is exchange:
            self.end_turn(rest)
