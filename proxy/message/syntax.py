"""Parses heads into fields. Only this module uses aiohttp's parsers, and it accepts only what both of them read alike.

`aiohttp.http` has two parsers for each side, in C (llhttp) and in Python, which differ at the edges (aiohttp #12826,
#13171, #13246). This module checks a head for the bytes and line ends on which parsers differ and splits it into fields.
Then aiohttp's parser reads the same head, and must find the same fields. Content never comes here.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast

from proxy.message.errors import MalformedHeadError, TooManyFieldsError
from proxy.message.fields import Field, FieldSection, Names, is_token, names_of
from proxy.message.memory import Memory
from proxy.message.octets import CONTROLS, all_but, has_only
from proxy.message.unread_certificates import unread_certificates

with unread_certificates():
    from aiohttp.http import HttpRequestParser, HttpResponseParser
    from aiohttp.http_exceptions import HttpProcessingError

Side = Literal["request", "response"]

HEAD_END: Final = b"\r\n\r\n"
MAX_FIELDS: Final = 256
_HEAD_END_SIZE: Final = len(HEAD_END)
_NO_LIMIT: Final = 2**30  # the gateway bounds heads before they come here
_TEXT: Final = all_but(CONTROLS.replace(b"\t", b""))
_LINE_END: Final = b"\r\n"
_BAD_BYTE: Final = "a control character, or a line that does not end with CRLF"
_LINE: Final = b": ".join
# Peers choose lines and names, so the caches of them are bounded: 2 MiB for a side, beside its `Memory`.
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


class HeadParser:
    """Parses complete heads of one side, for all connections of a worker.

    aiohttp's parser judges each sequence of field names once, with the values that it first came with. When the same
    names come again only values can be new, and the bytes of a value are checked here. So a line that came before costs
    one look-up, which makes a request a third cheaper. All lines of a request together cost one look-up if they came twice
    before, as those of a page that polls. The caches change no result: framing is read from the fields, in another module.
    """

    __slots__ = ("_fields", "_is_request", "_orders", "_parser", "_sections")

    def __init__(self, side: Side) -> None:
        self._is_request = side == "request"
        self._parser: Any = self._new_parser()
        self._fields: dict[bytes, Field] = {}  # by their line
        self._orders: set[Names] = set()
        self._sections: Memory[FieldSection] = Memory()

    def parse(self, head: bytes) -> tuple[bytes, FieldSection]:
        """Parse one head, from its start line to the empty line.

        Returns:
            The start line, of which only the bytes are checked, and the fields.

        Raises:
            MalformedHeadError, TooManyFieldsError: nothing of the head may be used.
        """
        size = head.find(_LINE_END)
        start, rest = head[:size], head[size:]
        if not has_only(start, _TEXT):
            raise MalformedHeadError(_BAD_BYTE)
        section = self._sections.known.get(rest)
        if section is None:
            section = self._parse_section(start, rest)
            if self._is_request:  # of a response all is remembered by `ResponseTable`
                self._sections.add(rest, section)
        return start, section

    def _parse_section(self, start: bytes, rest: bytes) -> FieldSection:
        """Parse what follows the start line, from its line end on."""
        lines = rest[len(_LINE_END) : -_HEAD_END_SIZE].split(_LINE_END) if len(rest) > _HEAD_END_SIZE else []
        if len(lines) > MAX_FIELDS:
            raise TooManyFieldsError(f"more than {MAX_FIELDS} fields")
        found = list(map(self._fields.get, lines))
        if not all(found):
            self._parse_new_lines(lines, found)
        fields = cast("list[Field]", found)
        names = names_of(fields)
        if names not in self._orders:
            self._judge(start, lines, fields)
            self._remember_order(names)
        return FieldSection(fields, lines, names)

    def _parse_new_lines(self, lines: list[bytes], fields: list[Field | None]) -> None:
        """Parse the lines that are not in the cache, and rewrite those with unusual white space."""
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
        """Let aiohttp's parser read the fields: it must accept them, and find the same names and values.

        It gets only the first line of each name, because one of its two forms refuses a second `User-Agent`. Fields that
        must not come twice, those that frame or route, are refused where they are read.
        """
        first: dict[bytes, int] = {}
        for place, (name, _) in enumerate(fields):
            # The parsers of aiohttp accept more: white space before the colon of a response.
            if not is_token(name):
                raise MalformedHeadError("a field name that is not a token")
            first.setdefault(name.lower(), place)
        if len(first) < len(fields):
            lines = [lines[place] for place in first.values()]
            fields = [fields[place] for place in first.values()]
        # `request` and `response` read the start line: llhttp refuses targets that Internet Explorer sends, and aiohttp
        # would build a URL from each target.
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
            self._parser = self._new_parser()  # llhttp accepts no further message after one of these

    def _new_parser(self) -> HttpRequestParser | HttpResponseParser:
        parser = HttpRequestParser if self._is_request else HttpResponseParser
        return parser(_PROTOCOL, _LOOP, response_with_body=False, **_OPTIONS)


def _parse_field(line: bytes) -> Field:
    """Parse one field line, RFC 9112 section 5; `_judge` checks the name."""
    if not has_only(line, _TEXT):
        raise MalformedHeadError(_BAD_BYTE)
    name, colon, value = line.partition(b":")
    if not colon:
        raise MalformedHeadError("a field line without a colon")
    return name, value.strip(b" \t")


def _first_line(error: BaseException) -> str:
    """One line of a parser's error for the log, without the bytes it quotes."""
    text = str(getattr(error, "message", error))
    return text.partition("\n")[0].partition(": b'")[0].rstrip(":")[:120]


class _Unused:
    """Stands in for the protocol and the loop that aiohttp expects; the gateway handles back-pressure itself."""

    _reading_paused = False

    def pause_reading(self, *_: object, **__: object) -> None: ...

    def resume_reading(self, *_: object, **__: object) -> None: ...


_PROTOCOL: Any = _Unused()
_LOOP: Any = _PROTOCOL
