"""A client's connection: reads requests, one exchange at a time and in order."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, Literal, cast

from proxy.gateway import failures
from proxy.gateway.context import Context
from proxy.gateway.exchange import Exchange
from proxy.gateway.failures import Failure, render_failure
from proxy.gateway.pool import Pool
from proxy.gateway.record import Record
from proxy.gateway.write_batch import Sender
from proxy.message.chunked import ChunkedDecoder
from proxy.message.errors import MalformedContentError, MessageError
from proxy.message.methods import PATTERN
from proxy.message.request import RequestHead
from proxy.message.syntax import HEAD_END
from proxy.rules.policies import STRICT

_log = logging.getLogger(__name__)

_HEAD, _CONTENT, _RESPONSE, _TUNNEL, _LINGER = range(5)

_MAX_PIPELINED_BYTES: Final = 64 * 1024  # read ahead while a response is under way
_LINGER_S: Final = 2.0  # how long a refused request may go on, so that its sender reads the refusal
_REQUEST_LINE: Final = re.compile(PATTERN.encode() + rb" [^ \r\n]+ HTTP/1\.[01]\r")
_METHOD: Final = re.compile(rb"[A-Za-z0-9_-]{1,32}")
_EMPTY_LINES: Final = re.compile(rb"\A(?:\r\n)+")
_NO_HEAD_YET: Final = (b"", b"\r")  # an empty line may come before a head: it begins none
_NO_DEADLINE: Final = float("inf")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

Holder = Literal["upstream", "connecting", "pipelined"]


class ClientConnection(Sender):
    """One client connection.

    Attributes:
        deadline_s: when `timed_out` is due, by the worker's clock.
        peer: what forwarding fields say of it; `address` is the same for the log.
        exchange: the request being answered, `None` between requests.
        is_congested: the client does not take what is sent.
    """

    __slots__ = (
        "_buffer",
        "_clients",
        "_context",
        "_decoder",
        "_holders",
        "_pool",
        "_remaining",
        "_state",
        "_unsent",
        "_unsent_since_s",
        "address",
        "deadline_s",
        "exchange",
        "is_congested",
        "peer",
    )

    def __init__(self, context: Context, pool: Pool, clients: Clients) -> None:
        super().__init__(context.outbox)
        self._context = context
        self._pool = pool
        self._clients = clients
        self._state = _HEAD
        self._buffer = b""  # a part of a head, or what was pipelined
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._holders: set[Holder] = set()
        self._unsent = 0  # bytes, when `takes_some` last saw them change
        self._unsent_since_s = 0.0
        self.exchange: Exchange | None = None
        self.is_congested = False
        self.deadline_s = _NO_DEADLINE

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        context = self._context
        peername = transport.get_extra_info("peername")
        self.peer, self.address = context.peers.of(peername)
        context.stats.client_connections_total += 1
        context.stats.client_connections += 1
        self._clients.add(self)
        if peername is None:  # it left before it was accepted: nobody can say who it was
            self._state = _LINGER
            self.transport.abort()
        elif len(self._clients) > context.settings.max_connections:
            self._refuse(failures.TOO_MANY_CONNECTIONS)
        elif context.is_draining:
            self.transport.abort()
        else:
            self.deadline_s = context.clock.now_s + context.settings.keepalive_timeout_s

    def data_received(self, data: bytes) -> None:
        try:
            state = self._state
            if state == _HEAD and not self.is_congested:
                self._read_head(data)
            elif state == _CONTENT:
                self._read_content(data)
            elif state in (_RESPONSE, _HEAD):  # read ahead; of a client that reads no answers, too
                self._buffer += data
                if len(self._buffer) > _MAX_PIPELINED_BYTES:
                    self.hold_reading("pipelined")
            elif state == _TUNNEL and self.exchange is not None:
                self.exchange.from_client(data)
        except Exception:  # noqa: BLE001 - a mistake of this program, not of the client; its request is answered
            self._fail()

    def eof_received(self) -> bool:
        if self._state == _TUNNEL and self.exchange is not None:
            return self.exchange.client_half_closed()
        return False  # a client that half-closes is taken to have left, as in nginx

    def connection_lost(self, _exc: Exception | None) -> None:
        self._context.stats.client_connections -= 1
        self._clients.discard(self)
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.client_left()

    def pause_writing(self) -> None:
        self.is_congested = True
        self.takes_some()
        if self.exchange is not None:
            self.exchange.pause_upstream()

    def resume_writing(self) -> None:
        self.is_congested = False
        if self.exchange is not None:
            self.exchange.touch()
            self.exchange.resume_upstream()
        elif self._state == _HEAD:
            self.deadline_s = self._context.clock.now_s + self._context.settings.keepalive_timeout_s
            if self._buffer:
                self._read_pipelined()

    # Called by the exchange and the worker

    def exchange_done(self, *, keep_alive: bool) -> None:
        """The response is written: read the next request, or close."""
        self.exchange = None
        if not keep_alive or self._context.is_draining:
            self._close()
            return
        self._state = _HEAD
        self.deadline_s = self._context.clock.now_s + self._context.settings.keepalive_timeout_s
        if self._holders:  # an exchange that ended before its content was sent on holds nobody any more
            self.release_reading("connecting")
            self.release_reading("upstream")
        if self._buffer:
            # Not from here: the upstream's callback that ends one exchange must not begin the next.
            self._context.loop.call_soon(self._read_pipelined)

    def switch_protocols(self) -> None:
        """Relay bytes as they are from here on, beginning with those that came early."""
        self._state = _TUNNEL
        early, self._buffer = self._buffer, b""
        self.release_reading("pipelined")
        if early and self.exchange is not None:
            self.exchange.from_client(early)

    def half_close(self) -> bool:
        """Tell the client that the upstream will send no more; whether it can still be heard."""
        if not self.transport.can_write_eof():
            return False
        self.push()
        self.transport.write_eof()
        return True

    def hold_reading(self, holder: Holder) -> None:
        """Read no further until `release_reading` was called for each holder."""
        if not self._holders:
            self.transport.pause_reading()
        self._holders.add(holder)

    def release_reading(self, holder: Holder) -> None:
        """Take a holder back."""
        if holder in self._holders:
            self._holders.discard(holder)
            if not self._holders and not self.transport.is_closing():
                self.transport.resume_reading()

    def is_held(self, holder: Holder) -> bool:
        """Whether reading waits for this holder."""
        return holder in self._holders

    def break_off(self) -> None:
        """End the connection so that the client can tell: with a reset, as a close may be a clean end."""
        self.exchange = None
        self.push()
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def give_up(self) -> None:
        """End the connection; a response whose end the client never took is broken off."""
        self.push()
        if self.transport.get_write_buffer_size():
            self.break_off()
        else:
            self.transport.abort()

    def takes_some(self) -> bool:
        """Whether a slow client still takes what was written: some of it within the idle time-out."""
        now_s = self._context.clock.now_s
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._unsent_since_s = unsent, now_s
        return unsent > 0 and now_s - self._unsent_since_s < self._context.settings.idle_timeout_s

    def timed_out(self) -> None:
        """The deadline has passed."""
        self.deadline_s = _NO_DEADLINE
        if self.takes_some():
            self.deadline_s = self._context.clock.now_s + _LINGER_S
            return
        if self.exchange is not None:
            self.exchange.timed_out()
        elif self._state == _HEAD and self._buffer:
            self._refuse(failures.REQUEST_TIMEOUT, self._buffer)
        else:
            self.give_up()

    def drain(self) -> None:
        """Close now unless a request is being read or answered."""
        if self.exchange is None and not self._buffer:
            self.push()
            self.transport.close()

    # Reading requests

    def _read_pipelined(self) -> None:
        if self._state != _HEAD or self.is_congested or self.transport.is_closing():
            return
        data, self._buffer = self._buffer, b""
        self.release_reading("pipelined")
        if data:
            self.data_received(data)

    def _read_head(self, data: bytes) -> None:
        partial = self._buffer
        if partial:
            data = partial + data
            self._buffer = b""
        if data.startswith(b"\r\n"):  # RFC 9112 section 2.2: empty lines before a request
            data = _EMPTY_LINES.sub(b"", data)
        end = data.find(HEAD_END)
        limit = self._context.settings.max_head_size_bytes
        if end < 0 or end > limit:
            self._keep_partial_head(data, limit)
            if partial in _NO_HEAD_YET and self._buffer not in _NO_HEAD_YET:
                settings = self._context.settings
                self.deadline_s = self._context.clock.now_s + settings.request_head_timeout_s
            return
        size = end + len(HEAD_END)
        try:
            head = self._context.requests.read(data if size == len(data) else data[:size], self.peer)
        except MessageError as error:
            self._refuse(_REFUSALS[error.status].with_detail(str(error)), data)
            return
        if head.distrusted:
            self._context.peers.say_distrusted(self.peer)
        self._begin(head, data[size:])

    def _keep_partial_head(self, data: bytes, limit: int) -> None:
        """Wait for the rest of a head, unless what there is of it can never become one."""
        if len(data) >= limit + len(HEAD_END):
            self._refuse(failures.HEAD_TOO_LARGE if b"\n" in data[:limit] else failures.TARGET_TOO_LONG, data)
            return
        line, newline, _ = data.partition(b"\n")
        if data and (
            (newline and not _REQUEST_LINE.fullmatch(line))
            or not _may_begin_request(data)
            or data.count(b"\n") != data.count(b"\r\n")
        ):
            self._refuse(failures.BAD_REQUEST.with_detail("not an HTTP/1.x request"), data)
            return
        self._buffer = data

    def _begin(self, head: RequestHead, rest: bytes) -> None:
        self.exchange = exchange = Exchange(self._context, self._pool, self, head)
        self._context.stats.in_flight += 1
        content_length = head.content_length
        if content_length == 0:
            self._state = _RESPONSE
            self._buffer = rest
            exchange.begin()
            return
        self._state = _CONTENT
        exchange.begin()
        if content_length is None:
            self._decoder = ChunkedDecoder("request")
        else:
            self._remaining = content_length
        if rest:
            self._read_content(rest)

    def _read_content(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        decoder = self._decoder
        if decoder is None:
            remaining = self._remaining
            size = len(data)
            if size < remaining:
                self._remaining = remaining - size
                exchange.request_content(data)
                return
            content, rest = (data, b"") if size == remaining else (data[:remaining], data[remaining:])
            is_complete = True
        else:
            try:
                content, rest = decoder.feed(data)
            except MalformedContentError as error:
                exchange.fail(failures.BAD_REQUEST.with_detail(str(error)))
                return
            is_complete = decoder.is_complete
        if content:
            exchange.request_content(content)
        if is_complete and self.exchange is exchange:
            self._decoder = None
            self._state = _RESPONSE
            self._buffer = rest
            exchange.request_end()

    # Closing

    def _fail(self) -> None:
        _log.exception("serving a client failed")
        if self.exchange is not None:
            self.exchange.fail(failures.INTERNAL)
        elif self._state == _HEAD:
            self._refuse(failures.INTERNAL, self._buffer)
        else:
            self.transport.abort()

    def _refuse(self, failure: Failure, data: bytes = b"") -> None:
        """Answer what never became an exchange, and close.

        Args:
            data: what there is of the request, for the log.
        """
        context = self._context
        method, target = readable_request_line(data)
        head, content = render_failure(
            failure, method=method, client_minor=1, keep_alive=False, vary=(), date=context.clock.date
        )
        context.recorder.add(
            Record(
                method=method,
                target=target,
                client=self.address,
                ended_s=time.time(),
                status=failure.status,
                bytes_out=len(content),
                policy=STRICT.name,
                failure=failure,
            )
        )
        self.send(head + content)
        self._buffer = b"refused"
        self._close()

    def _close(self) -> None:
        """Close after what is written has left.

        Where the client is still sending, a plain close would reset the connection under the response
        before it is read (RFC 9112 section 9.6): half-close, and read on for a while.
        """
        self.push()
        sends_on = bool(self._buffer) or self._state == _CONTENT
        self._buffer = b""
        self._decoder = None
        self._state = _LINGER
        self.takes_some()
        self.deadline_s = self._context.clock.now_s + _LINGER_S
        for holder in tuple(self._holders):
            self.release_reading(holder)
        if sends_on and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        else:
            self.transport.close()


_REFUSALS: Final = {
    400: failures.BAD_REQUEST,
    414: failures.TARGET_TOO_LONG,
    431: failures.HEAD_TOO_LARGE,
    501: failures.NOT_IMPLEMENTED,
}


def readable_request_line(data: bytes) -> tuple[str, bytes]:
    """Find method and target in what may be no request at all, for the log; empty where they cannot be told."""
    method, _, rest = data.partition(b"\n")[0].removesuffix(b"\r").partition(b" ")
    if not _METHOD.fullmatch(method):
        return "", b""
    return method.decode("ascii"), rest.rpartition(b" HTTP/")[0] or rest


class Clients:
    """The open client connections of a worker.

    Attributes:
        all_left: set while there is none.
    """

    __slots__ = ("_open", "all_left")

    def __init__(self) -> None:
        self._open: set[ClientConnection] = set()
        self.all_left = asyncio.Event()
        self.all_left.set()

    def add(self, client: ClientConnection) -> None:
        """Count one in."""
        self._open.add(client)
        self.all_left.clear()

    def discard(self, client: ClientConnection) -> None:
        """Count one out."""
        self._open.discard(client)
        if not self._open:
            self.all_left.set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(tuple(self._open))


def _may_begin_request(data: bytes) -> bool:
    """Whether a method may begin here: a TLS handshake or a binary protocol is told at once."""
    return data[:1].isupper() or data == b"\r"
