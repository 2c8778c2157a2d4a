"""Heads from bytes to fields: the same from both of aiohttp's parsers.

RFC 9112 sections 2.2 and 5, and stricter: what two parsers could read differently is refused. One parser serves all connections of a worker, so nothing that one of them sends may spoil it for the next.
"""

from __future__ import annotations

import tracemalloc

import pytest
from aiohttp import http_parser

from proxy.message import syntax
from proxy.message.errors import MalformedHeadError, TooManyFieldsError
from proxy.message.syntax import MAX_FIELDS, HeadParser

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nServer: a\r\n\r\n"
START = {"request": b"GET / HTTP/1.1\r\nHost: a\r\n", "response": b"HTTP/1.1 200 OK\r\nServer: a\r\n"}


@pytest.fixture(params=["C", "Python"], autouse=True)
def implementation(request, monkeypatch):
    """Run everything here on each of aiohttp's parsers."""
    if request.param == "Python":
        monkeypatch.setattr(syntax, "HttpRequestParser", http_parser.HttpRequestParserPy)
        monkeypatch.setattr(syntax, "HttpResponseParser", http_parser.HttpResponseParserPy)
    elif not hasattr(http_parser, "HttpRequestParserC"):
        pytest.skip("aiohttp was installed, or started, without its extensions")


@pytest.mark.parametrize("side", START)
class Test_Head:
    def test_fields_come_in_order_as_sent_without_surrounding_white_space(self, side):
        lines = b"B:  two  words \t\r\na: 1\r\nA: \xe9\xff\r\nEmpty:\r\n\r\n"
        line, section = HeadParser(side).parse(START[side] + lines)
        assert line + b"\r\n" == START[side].partition(b"\r\n")[0] + b"\r\n"
        assert section.fields[1:] == [
            (b"B", b"two  words"),
            (b"a", b"1"),
            (b"A", b"\xe9\xff"),
            (b"Empty", b""),
        ]

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(b"A: b\x00c", id="NUL"),
            pytest.param(b"A: b\x0bc", id="vertical tab"),
            pytest.param(b"A: b\x7f", id="DEL"),
            pytest.param(b"A: b\rc", id="bare CR"),
            pytest.param(b"A: b\nB: c", id="bare LF"),
            pytest.param(b"A: b\rc\nB: d", id="bare CR and bare LF, together a line end"),
            pytest.param(b"A: b\r\rB: c", id="two CR"),
            pytest.param(b"A: b\r\n c", id="folded line"),
            pytest.param(b"A: b\r\n\tc", id="folded by a tab"),
            pytest.param(b" A: b", id="fold before any field"),
            pytest.param(b"A : b", id="space before the colon"),
            pytest.param(b"A\t: b", id="tab before the colon"),
            pytest.param(b"A", id="no colon"),
            pytest.param(b": b", id="no name"),
            pytest.param(b"Content-Length: +1", id="signed length"),
            pytest.param(b"Content-Length: 1\r\nTransfer-Encoding: chunked", id="length and coding"),
            pytest.param(b"A: b\r\n\r\nGET / HTTP/1.1\r\nHost: a", id="two heads in one"),
        ],
    )
    def test_malformed_field_section_is_refused_and_the_parser_reads_on(self, side, line):
        """Framing that is well-formed field by field is judged by `request` and `response`."""
        parser = HeadParser(side)
        with pytest.raises(MalformedHeadError):
            parser.parse(START[side] + line + b"\r\n\r\n")
        assert parser.parse(START[side] + b"\r\n")[1]

    @pytest.mark.parametrize("name", [b"", b"a b", b"caf\xe9", b"(a)", b"A ", b"Content-Length "])
    def test_name_that_is_no_token_is_refused_each_time(self, side, name):
        """RFC 9110 section 5.1; what was refused once is not remembered as known."""
        parser = HeadParser(side)
        for _ in range(2):
            with pytest.raises(MalformedHeadError, match="token"):
                parser.parse(START[side] + name + b": 5\r\n\r\n")

    @pytest.mark.parametrize("line", [b" A: b", b"\tA: b", b" Content-Length: 5", b" "])
    def test_white_space_before_the_first_field_is_refused(self, side, line):
        """RFC 9112 section 2.2; llhttp takes it from servers, and the next parser may not see such a field."""
        parser = HeadParser(side)
        with pytest.raises(MalformedHeadError):
            parser.parse(START[side].partition(b"\r\n")[0] + b"\r\n" + line + b"\r\nHost: a\r\n\r\n")
        assert parser.parse(START[side] + b"\r\n")[1]

    def test_fields_may_be_256_and_no_more(self, side):
        parser = HeadParser(side)
        lines = [b"A: b\r\n"] * (MAX_FIELDS - 1)
        assert len(parser.parse(START[side] + b"".join(lines) + b"\r\n")[1].fields) == MAX_FIELDS
        with pytest.raises(TooManyFieldsError, match="256"):
            parser.parse(START[side] + b"".join([*lines, b"A: b\r\n"]) + b"\r\n")
        assert parser.parse(START[side] + b"\r\n")[1]

    @pytest.mark.parametrize(
        "line", [b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade\r\nUpgrade: x"]
    )
    def test_what_ends_one_connection_does_not_end_the_parser(self, side, line):
        """After `close` and after an upgrade a parser of aiohttp takes no further message."""
        parser = HeadParser(side)
        for head in (START[side] + line + b"\r\n\r\n", START[side] + b"\r\n"):
            for _ in range(2):
                parser.parse(head)

    @pytest.mark.parametrize(
        "name",
        [
            *(
                b"User-Agent",
                b"Content-Type",
                b"Authorization",
                b"Content-Location",
                b"Server",
                b"ETag",
                b"Age",
            ),
            *(b"Date", b"Expires", b"Origin", b"Referer", b"Max-Forwards", b"Content-Range", b"Retry-After"),
            *(b"If-Modified-Since", b"If-Range", b"Last-Modified", b"Location", b"From", b"Cookie", b"X-A"),
        ],
    )
    def test_field_that_frames_nothing_may_come_twice(self, side, name):
        """Issue 16.6: one of aiohttp's parsers refuses some of these, and the other takes them."""
        lines = [name + b": a", b"B: c", name.upper() + b": d", name + b": a"]
        _, section = HeadParser(side).parse(START[side] + b"\r\n".join([*lines, b"", b""]))
        assert section.lines[1:] == lines

    def test_what_is_remembered_has_a_bound(self, side):
        """Lines and names are the peer's choice."""
        parser = HeadParser(side)

        def feed(first: int, last: int) -> int:
            for number in range(first, last):
                lines = b"X-%d: %0400d\r\n" % (number, number) * 4 + b"Cookie: %0400d\r\n" % number
                for _ in range(3):
                    parser.parse(START[side] + lines + b"\r\n")
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            filled = feed(0, 1000)
            assert feed(1000, 3000) < filled + 512 * 1024
        finally:
            tracemalloc.stop()

    def test_error_is_one_line_that_does_not_quote_the_peer(self, side):
        with pytest.raises(MalformedHeadError) as refused:
            HeadParser(side).parse(START[side] + b"secret : cookie\r\n\r\n")
        assert "\n" not in str(refused.value)
        assert b"secret" not in str(refused.value).encode()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"G\xe9T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_request_line_is_refused_here_or_left_to_the_reader_as_it_came(head):
    """`RequestTable` reads the line itself, so this parser may be the more lenient one, never the inventive one."""
    parser = HeadParser("request")
    try:
        line, _ = parser.parse(head)
    except MalformedHeadError:
        pass
    else:
        assert line == head.partition(b"\r\n")[0]
    line, section = parser.parse(GET)
    assert line == b"GET / HTTP/1.1"
    assert (section.fields, section.lines, section.names) == ([(b"Host", b"a")], [b"Host: a"], (b"Host",))


@pytest.mark.parametrize("target", [b"/caf\xe9", b"/?q=\xff\xfe", "/日本".encode()])
def test_target_with_bytes_that_are_not_ascii_comes_as_sent(target):
    """Internet Explorer sends a query in the code page of the page."""
    line, section = HeadParser("request").parse(b"GET " + target + b" HTTP/1.1\r\nHost: a\xe9\r\n\r\n")
    assert line == b"GET " + target + b" HTTP/1.1"
    assert section.fields == [(b"Host", b"a\xe9")]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\nServer: a\r\n\r\n",
        b"HTTP/1.1 200\r\nServer: a\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_response_of_every_kind_leaves_the_parser_ready_for_the_next(head):
    parser = HeadParser("response")
    for _ in range(2):
        line, section = parser.parse(head)
        assert line == head.partition(b"\r\n")[0]
        assert len(section.fields) == head.count(b": ")
    line, section = parser.parse(OK)
    assert line == b"HTTP/1.1 200 OK"
    assert (section.fields, section.lines, section.names) == (
        [(b"Server", b"a")],
        [b"Server: a"],
        (b"Server",),
    )
