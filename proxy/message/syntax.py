"""Heads from bytes to fields: one place that uses aiohttp's parsers, and the checks that make both of them agree.

`aiohttp.http` has two parsers of each kind, in C (llhttp) and in Python, that differ at the edges (aiohttp
#12826, #13171, #13246). Each head is cut out first, checked for the bytes and line ends on which parsers
differ, and then fed to the parser whole; it must come back as exactly one message. Content never passes
through: the head alone decides how it is framed, and only the chunked coding goes to a parser again.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from aiohttp import StreamReader
from aiohttp.http import HttpRequestParser, HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError

RawFields = tuple[tuple[bytes, bytes], ...]
"""Fields in wire order, spelling kept, values without surrounding white space."""

HEAD_END: Final = b"\r\n\r\n"
MAX_FIELDS: Final = 256
_HEAD_END_SIZE: Final = len(HEAD_END)
_NO_LIMIT: Final = 2**30  # the gateway bounds heads before they come here
_TEXT = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)) + b"\t"
_WHITE_SPACE: Final = (b" ", b"\t")
_HTTP_1_0_LINE: Final = b"GET / HTTP/1.0\r\n"
_HTTP_1_1_LINE: Final = b"GET / HTTP/1.1\r\n"
_OPTIONS: Final[dict[str, Any]] = {
    "limit": _NO_LIMIT,
    "max_line_size": _NO_LIMIT,
    "max_field_size": _NO_LIMIT,
    "max_headers": MAX_FIELDS + 8,
    "auto_decompress": False,
}
# A byte of content may be coded in 17 (a chunk of one byte alone needs 6), and there may be 16 KiB beyond that:
# Go's bound, for chunk extensions without end are cheap to send and dear to read (CVE-2023-39326). Trailers count, too.
_MAX_CODED: Final = 17
_MAX_OVERHEAD: Final = 16 * 1024
_CODING_OPTIONS: Final[dict[str, Any]] = {
    **_OPTIONS,
    "max_line_size": _MAX_OVERHEAD,  # of the parser in C no line is ever too long
    "max_field_size": 4096,
    "max_headers": 64,
}


class MalformedHeadError(ValueError):
    """A head that is not HTTP/1.1, or that two parsers could read differently."""


class TooManyFieldsError(ValueError):
    """A head with more than `MAX_FIELDS` field lines."""


class MalformedContentError(ValueError):
    """Content that is not in the chunked coding although its head says so."""


class RequestHeadParser:
    """Parses complete request heads, one after the other, for all connections of a worker."""

    __slots__ = ("_parser",)

    def __init__(self) -> None:
        self._parser: Any = _request_parser()

    def parse(self, head: bytes) -> tuple[bytes, RawFields]:
        """Parse one head, from the method to the empty line.

        Returns:
            The request line, which is not looked at here, and the fields.

        Raises:
            MalformedHeadError, TooManyFieldsError: nothing of the head may be used.
        """
        field_count = _check(head)
        line, _, section = head.partition(b"\r\n")
        # The request line is the gateway's own to read: llhttp refuses targets that Internet Explorer sends,
        # and aiohttp would make a URL of each.
        try:
            stand_in = _HTTP_1_0_LINE if line.endswith(b"HTTP/1.0") else _HTTP_1_1_LINE
            messages, _, _ = self._parser.feed_data(stand_in + section)
        except (HttpProcessingError, ValueError) as error:
            self._parser = _request_parser()
            raise MalformedHeadError(_first_line(error)) from error
        if len(messages) != 1:
            self._parser = _request_parser()
            raise MalformedHeadError("not one request head")
        message = messages[0][0]
        if message.should_close or message.upgrade:
            self._parser = _request_parser()  # llhttp takes no further message after one of these
        return line, _fields(message, field_count)


class ResponseHeadParser:
    """Parses complete response heads, one after the other, for all connections of a worker."""

    __slots__ = ("_parser",)

    def __init__(self) -> None:
        self._parser: Any = _response_parser()

    def parse(self, head: bytes) -> tuple[bytes, RawFields]:
        """Parse one head, from the protocol version to the empty line.

        Returns:
            The status line, and the fields.

        Raises:
            MalformedHeadError, TooManyFieldsError: nothing of the head may be used.
        """
        field_count = _check(head)
        line, _, section = head.partition(b"\r\n")
        if section[:1] in _WHITE_SPACE:
            # llhttp is lenient towards servers: it would take it for a field, others for the status line's end.
            raise MalformedHeadError("white space before the first field")
        try:
            messages, _, _ = self._parser.feed_data(head)
        except (HttpProcessingError, ValueError) as error:
            self._parser = _response_parser()
            raise MalformedHeadError(_first_line(error)) from error
        if len(messages) != 1:
            self._parser = _response_parser()
            raise MalformedHeadError("not one response head")
        message = messages[0][0]
        if message.should_close or message.upgrade:
            self._parser = _response_parser()
        return line, _fields(message, field_count)


class ChunkedDecoder:
    """Takes the chunked coding off, RFC 9112 section 7.1. Trailers and chunk extensions are dropped.

    The request parser is primed with a head of our own that asks for an upgrade after its content: so it
    stops at the content's very end and hands back what follows (aiohttp defers the switch, RFC 9110
    section 7.8): the next pipelined request.
    """

    __slots__ = ("_content", "_last_bytes", "_overhead", "_parser", "_stops_at_end", "is_complete")

    def __init__(self, side: Literal["request", "response"]) -> None:
        # The response parser is lenient towards white space after a chunk size, which old servers send.
        parser: Any  # aiohttp's types are of its parsers in Python; those in C give other messages
        if side == "request":
            parser = HttpRequestParser(_PROTOCOL, _LOOP, **_CODING_OPTIONS)
            content = parser.feed_data(
                b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )[0][0][1]
        else:
            parser = HttpResponseParser(_PROTOCOL, _LOOP, **_CODING_OPTIONS)
            content = parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")[0][0][1]
        self._parser = parser
        self._content: StreamReader = content
        self._stops_at_end = side == "request"
        self._last_bytes = b""
        self._overhead = 0  # bytes beyond those that are free
        self.is_complete = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode what has arrived.

        Returns:
            The content in it (perhaps none yet), and once `is_complete` what follows the content: for
            a request exactly, for a response (which nothing may follow) perhaps only a part of it.

        Raises:
            MalformedContentError: the coding is broken, or next to nothing but chunk extensions and
                trailers; the connection cannot be used any further.
        """
        rest = b""
        is_followed = False
        try:
            messages, _, rest = self._parser.feed_data(data)
            is_followed = bool(messages)
        except (HttpProcessingError, ValueError) as error:
            if not self._content.is_eof():
                raise MalformedContentError(_first_line(error)) from error
            is_followed = True
        failure = self._content.exception()
        if failure is not None:
            raise MalformedContentError(_first_line(failure)) from failure
        self.is_complete = self._content.is_eof()
        self._last_bytes = (self._last_bytes + data)[-_HEAD_END_SIZE:]
        content = self._content.read_nowait()
        if self.is_complete and not self._stops_at_end and (is_followed or self._last_bytes != HEAD_END):
            return content, data[-1:]
        if self._overhead or len(data) > _MAX_CODED * len(content):
            self._count_overhead(len(data) - len(rest), len(content))
        return content, rest

    def _count_overhead(self, coded: int, content: int) -> None:
        self._overhead = max(self._overhead + coded - _MAX_CODED * content, 0)
        if self._overhead > _MAX_OVERHEAD:
            raise MalformedContentError("more chunk extensions and trailers than content")


def _check(head: bytes) -> int:
    """Refuse the bytes and line ends on which parsers differ, before any parser sees them.

    Returns:
        How many field lines there are. A folded line makes it differ from the number of fields.
    """
    rest = head.translate(None, _TEXT)  # of a good head, the line ends
    lines = len(rest) // 2
    # Of `a\rb\nc` a line end is left, too: so line ends are counted where they stand.
    if rest != b"\r\n" * lines or head.count(b"\r\n") != lines:
        raise MalformedHeadError("a control character, or a line that does not end with CRLF")
    if lines > MAX_FIELDS + 2:
        raise TooManyFieldsError(f"more than {MAX_FIELDS} fields")
    return lines - 2


def _first_line(error: BaseException) -> str:
    """One line of a parser's error for the log, without the bytes it quotes."""
    text = str(getattr(error, "message", error))
    return text.partition("\n")[0].partition(": b'")[0].rstrip(":")[:120]


def _fields(message: Any, expected: int) -> RawFields:  # noqa: ANN401 - a message of aiohttp's
    fields: RawFields = message.raw_headers
    if len(fields) != expected:
        raise MalformedHeadError("a field line that is not one field")
    return fields


class _Unused:
    """Stands where aiohttp expects a protocol and a loop; back-pressure is the gateway's own business."""

    _reading_paused = False

    def pause_reading(self, *_: object, **__: object) -> None: ...

    def resume_reading(self, *_: object, **__: object) -> None: ...


_PROTOCOL: Any = _Unused()
_LOOP: Any = _PROTOCOL


def _request_parser() -> HttpRequestParser:
    return HttpRequestParser(_PROTOCOL, _LOOP, response_with_body=False, **_OPTIONS)


def _response_parser() -> HttpResponseParser:
    return HttpResponseParser(_PROTOCOL, _LOOP, response_with_body=False, **_OPTIONS)
