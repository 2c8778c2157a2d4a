"""Heads from bytes to fields: one place that uses aiohttp's parsers, and the checks that make both of them agree.

`aiohttp.http` has two parsers of each kind, in C (llhttp) and in Python, that differ at the edges (aiohttp
#12826, #13171, #13246). Each head is cut out first, checked for the bytes and line ends on which parsers
differ, and cut into fields; then the parser is fed the whole and has to come to the same fields. Content never
passes through: the head alone decides how it is framed, and only the chunked coding goes to a parser again.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast

from aiohttp import StreamReader
from aiohttp.http import HttpRequestParser, HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError

from proxy.message.errors import MalformedContentError, MalformedHeadError, TooManyFieldsError
from proxy.message.fields import Field, FieldSection, Names, names_of
from proxy.message.octets import CONTROLS, all_but, has_only

Side = Literal["request", "response"]

HEAD_END: Final = b"\r\n\r\n"
MAX_FIELDS: Final = 256
_HEAD_END_SIZE: Final = len(HEAD_END)
_NO_LIMIT: Final = 2**30  # the gateway bounds heads before they come here
_TEXT: Final = all_but(CONTROLS.replace(b"\t", b""))
_LINE_END: Final = b"\r\n"
_BAD_BYTE: Final = "a control character, or a line that does not end with CRLF"
_LINE: Final = b": ".join
# Lines and names are the peer's choice, so what is remembered of them is bounded: a MiB for a side.
_MAX_REMEMBERED_LINES: Final = 512
_MAX_REMEMBERED_LINE: Final = 512
_MAX_REMEMBERED_ORDERS: Final = 256
_MAX_REMEMBERED_NAMES: Final = 2048
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


class HeadParser:
    """Parses complete heads of one side, one after the other, for all connections of a worker.

    aiohttp's parser judges each sequence of field names when it first comes, with the values that come with it.
    Of a sequence that it has taken, only values can be new, and of those there is nothing to find out but
    whether their bytes may stand there: so a head whose names came before costs one look-up for each line that
    came before, too. A request is a third cheaper so. What is remembered changes no answer: how a message is
    framed is decided elsewhere, from the fields.
    """

    __slots__ = ("_fields", "_is_request", "_orders", "_parser")

    def __init__(self, side: Side) -> None:
        self._is_request = side == "request"
        self._parser: Any = self._new_parser()
        self._fields: dict[bytes, Field] = {}  # by their line
        self._orders: set[Names] = set()

    def parse(self, head: bytes) -> tuple[bytes, FieldSection]:
        """Parse one head, from its start line to the empty line.

        Returns:
            The start line, which is not looked at here, and the fields.

        Raises:
            MalformedHeadError, TooManyFieldsError: nothing of the head may be used.
        """
        lines = head[:-_HEAD_END_SIZE].split(_LINE_END)
        start = lines.pop(0)
        if not has_only(start, _TEXT):
            raise MalformedHeadError(_BAD_BYTE)
        if len(lines) > MAX_FIELDS:
            raise TooManyFieldsError(f"more than {MAX_FIELDS} fields")
        found = list(map(self._fields.get, lines))
        if not all(found):
            self._parse_unseen(lines, found)  # what is remembered needs no other line
        fields = cast("list[Field]", found)
        names = names_of(fields)
        if names not in self._orders:
            self._judge(start, lines, fields)
            self._remember_order(names)
        return start, FieldSection(fields, lines, names)

    def _parse_unseen(self, lines: list[bytes], fields: list[Field | None]) -> None:
        """Parse the lines that were never seen, or not for long; write them anew where white space is odd."""
        if len(self._fields) + len(lines) > _MAX_REMEMBERED_LINES:
            self._fields.clear()
        for place, line in enumerate(lines):
            if fields[place] is None:
                fields[place] = field = _parse_field(line)
                written = _LINE(field)
                if written != line:
                    lines[place] = written
                elif len(line) <= _MAX_REMEMBERED_LINE:
                    self._fields[line] = field

    def _remember_order(self, names: Names) -> None:
        if sum(map(len, names)) <= _MAX_REMEMBERED_NAMES:
            if len(self._orders) >= _MAX_REMEMBERED_ORDERS:
                self._orders.clear()
            self._orders.add(names)

    def _judge(self, start: bytes, lines: list[bytes], fields: list[Field]) -> None:
        """Have aiohttp's parser read the fields, too: it has to take them, and to read the same."""
        # Start lines are read elsewhere: llhttp refuses targets that Internet Explorer sends, and aiohttp would
        # make a URL of each.
        if not self._is_request:
            stand_in = b"HTTP/1.1 200 OK"
        else:
            stand_in = b"GET / HTTP/1.0" if start.endswith(b"HTTP/1.0") else b"GET / HTTP/1.1"
        try:
            messages, _, _ = self._parser.feed_data(_LINE_END.join([stand_in, *lines, b"", b""]))
        except (HttpProcessingError, ValueError) as error:
            self._parser = self._new_parser()
            raise MalformedHeadError(_first_line(error)) from error
        if len(messages) != 1 or messages[0][0].raw_headers != tuple(fields):
            self._parser = self._new_parser()
            raise MalformedHeadError("a field line that is not one field")
        message = messages[0][0]
        if message.should_close or message.upgrade:
            self._parser = self._new_parser()  # llhttp takes no further message after one of these

    def _new_parser(self) -> HttpRequestParser | HttpResponseParser:
        parser = HttpRequestParser if self._is_request else HttpResponseParser
        return parser(_PROTOCOL, _LOOP, response_with_body=False, **_OPTIONS)


def _parse_field(line: bytes) -> Field:
    """Parse one field line, RFC 9112 section 5, whose name is looked at only when its sequence is judged."""
    if not has_only(line, _TEXT):
        raise MalformedHeadError(_BAD_BYTE)
    name, colon, value = line.partition(b":")
    if not colon:
        raise MalformedHeadError("a field line without a colon")
    return name, value.strip(b" \t")


class ChunkedDecoder:
    """Takes the chunked coding off, RFC 9112 section 7.1. Trailers and chunk extensions are dropped.

    The request parser is primed with a head of our own that asks for an upgrade after its content: so it
    stops at the content's very end and hands back what follows (aiohttp defers the switch, RFC 9110
    section 7.8): the next pipelined request.
    """

    __slots__ = ("_content", "_last_bytes", "_overhead", "_parser", "_stops_at_end", "is_complete")

    def __init__(self, side: Side) -> None:
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


def _first_line(error: BaseException) -> str:
    """One line of a parser's error for the log, without the bytes it quotes."""
    text = str(getattr(error, "message", error))
    return text.partition("\n")[0].partition(": b'")[0].rstrip(":")[:120]


class _Unused:
    """Stands where aiohttp expects a protocol and a loop; back-pressure is the gateway's own business."""

    _reading_paused = False

    def pause_reading(self, *_: object, **__: object) -> None: ...

    def resume_reading(self, *_: object, **__: object) -> None: ...


_PROTOCOL: Any = _Unused()
_LOOP: Any = _PROTOCOL
