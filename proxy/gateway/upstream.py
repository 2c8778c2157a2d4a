"""A connection to the upstream: reads responses, one exchange after the other, and rests in the pool between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import ssl
from typing import TYPE_CHECKING, Final, cast

from proxy.gateway import failures
from proxy.gateway.context import Context
from proxy.gateway.read_buffer import LARGE_CONTENT_BYTES, LargeContentReader
from proxy.gateway.write_batch import LARGE_BYTES, Sender
from proxy.message.chunked import ChunkedDecoder
from proxy.message.errors import MalformedContentError, MessageError
from proxy.message.framing import Framing
from proxy.message.mending import find_head_end
from proxy.message.response import ResponseHead, read_response
from proxy.message.syntax import HEAD_END

if TYPE_CHECKING:
    from proxy.gateway.exchange import Exchange
    from proxy.gateway.pool import Pool

_log = logging.getLogger(__name__)

# What `_framing` can be besides a `Framing`: a head is awaited, or the protocol was switched.
_HEAD: Final = -1
_TUNNEL: Final = -2
_READ_BYTES: Final = 64 * 1024


class UpstreamConnection(Sender):
    """One connection; it serves at most one exchange at a time.

    Attributes:
        exchange: the one it serves, `None` while it rests.
        idle_since_s: the clock's time when it was last put to rest.
        served: exchanges it has finished; 0 on a new connection.
    """

    __slots__ = (
        "_context",
        "_decoder",
        "_framing",
        "_has_ended",
        "_is_counted",
        "_is_large",
        "_partial",
        "_pool",
        "_remaining",
        "exchange",
        "idle_since_s",
        "served",
    )

    def __init__(self, context: Context, pool: Pool) -> None:
        super().__init__(context.outbox)
        self._context = context
        self._pool = pool
        self._partial = bytearray()
        self._framing = _HEAD
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._is_counted = False  # among those that are open
        self._is_large = False  # what comes is content, read by a `LargeContentReader`
        self._has_ended = False  # by its own word: a half-close, or TLS's close_notify
        self.exchange: Exchange | None = None
        self.idle_since_s = 0.0
        self.served = 0

    # Called by the exchange

    def serve(self, exchange: Exchange) -> None:
        """Belong to an exchange from here on."""
        self.exchange = exchange
        self._framing = _HEAD

    def expect_content(self, framing: int, content_length: int) -> None:
        """Be told, from within `Exchange.response_head`, how the response's content is framed."""
        self._framing = framing
        self._remaining = content_length
        if framing == Framing.CHUNKED:
            self._decoder = ChunkedDecoder("response")

    def switch_protocols(self) -> None:
        """Relay bytes as they are from here on."""
        self._framing = _TUNNEL

    def release(self) -> None:
        """Serve nobody any more; the caller puts it to rest or closes it."""
        self.exchange = None
        self.served += 1

    def is_stale(self) -> bool:
        """Ask the operating system whether the upstream has closed it, or sent what nobody asked for."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def count_out(self) -> None:
        """Count it among those that are open no more."""
        self._context.stats.upstream_connections -= self._is_counted
        self._is_counted = False

    def abort(self) -> None:
        """End it at once."""
        self.exchange = None
        self.transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._is_counted = True
        self._context.stats.upstream_connections += 1
        self._context.stats.upstream_connections_total += 1

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self._pool.forget(self)
            self.transport.abort()  # nobody asked: it could be taken for the next response
            return
        try:
            if self._framing == _HEAD:
                if self._unwritten and self._unwritten[0] is exchange.rendered:
                    self._was_not_asked(exchange)
                    return
                if self._partial:
                    data = bytes(self._partial + data)
                    self._partial.clear()
                start = self._read_heads(exchange, data)
                if start < 0:
                    return
                if self._framing == Framing.FIXED and len(data) >= LARGE_CONTENT_BYTES:
                    self.fixed_content_received(exchange, memoryview(data)[start:])
                    return
                data = data[start:]
            exchange.touch()  # not before: a part of a head ends no wait, and with the head another one begins
            self._read_content(exchange, data)
        except Exception:  # noqa: BLE001 - a mistake of this program, not of the upstream; the client is answered
            self._fail(exchange)

    def fixed_content_received(self, exchange: Exchange, data: bytes | memoryview) -> None:
        """Take content of a known length.

        Args:
            data: may be a view of a buffer; it is in use until the client's transport has nothing left to write.
        """
        try:
            exchange.touch()
            self._read_fixed(exchange, data)
        except Exception:  # noqa: BLE001 - as in `data_received`
            self._fail(exchange)

    def eof_received(self) -> bool:
        self._has_ended = True
        if self._framing == _TUNNEL and self.exchange is not None:
            return self.exchange.upstream_half_closed()
        self.transport.abort()  # not close: that would wait until the rest of the request has left
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.count_out()
        if exc is None and not self._has_ended:
            self._read_what_tls_holds()
        elif exc is not None:
            self._read_what_the_socket_holds()
        exchange = self.exchange
        if exchange is None:
            self._pool.forget(self)
            return
        self.exchange = None
        # RFC 9112 section 9.8: without TLS's close_notify, anybody on the way may have ended it.
        if self._framing == Framing.UNTIL_CLOSE and self._has_ended and exc is None:
            exchange.response_end(reuse=False)
        elif self._framing == _HEAD:
            exchange.upstream_lost(saw_bytes=bool(self._partial), detail=str(exc or ""))
        elif self._framing == _TUNNEL:
            exchange.tunnel_lost(was_reset=exc is not None)
        else:
            exchange.fail(failures.UPSTREAM_TRUNCATED.with_detail(str(exc or "")))

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.hold_reading("upstream")

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.release_reading("upstream")

    def _fail(self, exchange: Exchange) -> None:
        _log.exception("serving an upstream's response failed")
        if self.exchange is exchange:
            exchange.fail(failures.INTERNAL)
        else:
            self.transport.abort()

    def _was_not_asked(self, exchange: Exchange) -> None:
        """Drop what came before the request's head has left: it answers nothing."""
        self.exchange = None
        self.transport.abort()
        exchange.upstream_lost(saw_bytes=False, detail="it spoke unasked")

    # Reading

    def _read_what_the_socket_holds(self) -> None:
        """Read what the upstream said before it ended a connection that could not be written to any more.

        An app that answers an upload early and leaves the rest of it unread closes with a reset; uvloop meets it in a
        write, and reads no further. Its answer is there all the same. An end here says nothing: a reset is told once.
        """
        if self.transport.get_extra_info("ssl_object") is not None:
            return
        descriptor = self.transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while self.exchange is not None and (data := os.read(descriptor, _READ_BYTES)):
                self.data_received(data)

    def _read_what_tls_holds(self) -> None:
        """Read what was left when the upstream ended a TLS connection whose reading is paused.

        uvloop does not wait with that end, as it does without TLS, and passes nothing on any more.
        """
        tls: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        if tls is None:
            return
        try:
            while self.exchange is not None and (data := tls.read(_READ_BYTES)):
                self.data_received(data)
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError:
            return  # no close_notify among it
        self._has_ended = True

    def _read_heads(self, exchange: Exchange, data: bytes) -> int:
        """Read heads until a final one; return where its content begins, or -1 when there is nothing more to do."""
        limit = self._context.settings.max_head_size_bytes
        start = 0
        while start < len(data):
            end = find_head_end(data, start)
            if end < 0 or end - start > limit + len(HEAD_END):
                self._keep_partial(exchange, data[start:])
                break
            try:
                response = read_response(data[start:end], self._context.response_parser)
                self._hand_over(exchange, response)
            except MessageError as error:
                exchange.fail(failures.UPSTREAM_MALFORMED.with_detail(str(error)))
                break
            if self.exchange is not exchange:
                break  # refused, or failed
            if response.is_final:
                return end
            start = end
        return -1

    def _hand_over(self, exchange: Exchange, response: ResponseHead) -> None:
        if response.is_final:
            exchange.response_head(response)
        else:
            exchange.informational(response)

    def _keep_partial(self, exchange: Exchange, data: bytes) -> None:
        if len(data) >= self._context.settings.max_head_size_bytes + len(HEAD_END):
            exchange.fail(failures.UPSTREAM_TOO_LARGE)
        elif not b"HTTP/1."[: len(data)].startswith(data[:7]):
            exchange.fail(failures.UPSTREAM_MALFORMED.with_detail("not HTTP/1.x"))
        else:
            self._partial += data

    def _read_content(self, exchange: Exchange, data: bytes) -> None:
        framing = self._framing
        if framing == Framing.FIXED:
            self._read_fixed(exchange, data)
        elif framing == Framing.NONE:
            exchange.response_end(reuse=not data)
        elif framing == Framing.CHUNKED:
            self._read_chunks(exchange, data)
        elif framing == Framing.UNTIL_CLOSE:
            if data:
                exchange.response_content(data)
        elif data:
            exchange.from_upstream(data)

    def _read_fixed(self, exchange: Exchange, data: bytes | memoryview) -> None:
        remaining = self._remaining
        size = len(data)
        if size > remaining:
            data = data[:remaining]
        self._remaining = left = max(remaining - size, 0)
        if left >= LARGE_CONTENT_BYTES and not self._is_large:
            self._begin_large_content()
        elif not left and self._is_large:
            self._end_large_content()
        if len(data) >= LARGE_BYTES:
            exchange.large_content(data)
        else:
            exchange.response_content(data if isinstance(data, bytes) else bytes(data))
        if not left:
            exchange.response_end(reuse=size == remaining)

    def _begin_large_content(self) -> None:
        # uvloop has a buffer of its own for TLS, from which it would be copied all the same.
        if self.transport.get_extra_info("ssl_object") is None:
            self._is_large = True
            self.transport.set_protocol(LargeContentReader(self, self._context.inbox))

    def _end_large_content(self) -> None:
        self._is_large = False
        self.transport.set_protocol(self)

    def _read_chunks(self, exchange: Exchange, data: bytes) -> None:
        decoder = self._decoder
        if not data or decoder is None:
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
            exchange.response_end(reuse=not rest)
