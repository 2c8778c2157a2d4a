"""What the data path uses of `aiohttp.http`, for both of its parsers: an upgrade that changes it fails here.

`proxy.message.syntax` is the only module that would have to follow.
"""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import http_parser
from aiohttp.http_exceptions import HttpProcessingError

OPTIONS = {
    "limit": 2**30,
    "max_line_size": 2**30,
    "max_field_size": 2**30,
    "max_headers": 264,
    "auto_decompress": False,
}
REQUEST_PARSERS = {"Python": http_parser.HttpRequestParserPy}
RESPONSE_PARSERS = {"Python": http_parser.HttpResponseParserPy}
if hasattr(http_parser, "HttpRequestParserC"):
    REQUEST_PARSERS["C"] = http_parser.HttpRequestParserC
    RESPONSE_PARSERS["C"] = http_parser.HttpResponseParserC

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


class Unused:
    """A parser needs a protocol to pause and a loop to hand on; neither is real."""

    _reading_paused = False

    def pause_reading(self, *_: object, **__: object) -> None: ...

    def resume_reading(self, *_: object, **__: object) -> None: ...


def make(parser: Any, **options: Any) -> Any:
    return parser(Unused(), Unused(), **OPTIONS, **options)


@pytest.fixture(params=REQUEST_PARSERS)
def request_parser(request: pytest.FixtureRequest) -> Any:
    return REQUEST_PARSERS[request.param]


@pytest.fixture(params=RESPONSE_PARSERS)
def response_parser(request: pytest.FixtureRequest) -> Any:
    return RESPONSE_PARSERS[request.param]


def test_c_parsers_are_the_ones_in_use_unless_told_otherwise() -> None:
    """The measured CPU time per request stands on them."""
    import os

    expected = "Python" if os.environ.get("AIOHTTP_NO_EXTENSIONS") else "C"
    assert http_parser.HttpRequestParser is REQUEST_PARSERS[expected]
    assert http_parser.HttpResponseParser is RESPONSE_PARSERS[expected]


class Test_Heads_alone:
    """With `response_with_body=False` a head is a whole message: content never goes through the parser."""

    @pytest.mark.parametrize(
        "head",
        [
            GET,
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ],
    )
    def test_request_parser_returns_one_message_per_head_and_is_ready_for_the_next(
        self, request_parser, head
    ):
        parser = make(request_parser, response_with_body=False)
        for _ in range(3):
            messages, upgraded, tail = parser.feed_data(head)
            assert (len(messages), bool(upgraded), bytes(tail)) == (1, False, b"")
            assert (messages[0][0].should_close, messages[0][0].upgrade) == (False, False)

    @pytest.mark.parametrize(
        "head",
        [
            OK,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        ],
    )
    def test_response_parser_returns_one_message_per_head_and_is_ready_for_the_next(
        self, response_parser, head
    ):
        parser = make(response_parser, response_with_body=False)
        for _ in range(3):
            messages, upgraded, tail = parser.feed_data(head)
            assert (len(messages), bool(upgraded), bytes(tail)) == (1, False, b"")

    @pytest.mark.parametrize(
        "head",
        [
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ],
    )
    def test_request_after_which_the_parser_must_be_replaced_says_so(self, request_parser, head):
        """`should_close` or `upgrade`: what comes after is not parsed any more, or not as a message."""
        parser = make(request_parser, response_with_body=False)
        messages, _, _ = parser.feed_data(head)
        assert len(messages) == 1
        assert messages[0][0].should_close or messages[0][0].upgrade

    def test_response_after_which_the_parser_must_be_replaced_says_so(self, response_parser):
        for head in (OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"HTTP/1.0 200 OK\r\n\r\n"):
            parser = make(response_parser, response_with_body=False)
            messages, _, _ = parser.feed_data(head)
            assert len(messages) == 1
            assert messages[0][0].should_close

    def test_switch_of_protocols_is_one_message_that_says_so(self, response_parser):
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        messages, _, _ = make(response_parser, response_with_body=False).feed_data(head)
        assert len(messages) == 1
        assert messages[0][0].upgrade


class Test_Fields:
    LINES = b'Host: a\r\nX-Odd:   two  words \t\r\nset-cookie: a=1\r\nSET-COOKIE: b=\xe9\xff\r\nEmpty:\r\nQuoted: "a, b"\r\n\r\n'
    FIELDS = (
        (b"Host", b"a"),
        (b"X-Odd", b"two  words"),
        (b"set-cookie", b"a=1"),
        (b"SET-COOKIE", b"b=\xe9\xff"),
        (b"Empty", b""),
        (b"Quoted", b'"a, b"'),
    )

    def test_raw_fields_of_a_request_keep_bytes_order_and_spelling(self, request_parser):
        """Values without surrounding white space; what is not UTF-8 comes as it is."""
        ((message, _),), _, _ = make(request_parser, response_with_body=False).feed_data(
            b"GET / HTTP/1.1\r\n" + self.LINES
        )
        assert message.raw_headers == self.FIELDS

    def test_raw_fields_of_a_response_keep_bytes_order_and_spelling(self, response_parser):
        ((message, _),), _, _ = make(response_parser, response_with_body=False).feed_data(
            b"HTTP/1.1 200 OK\r\n" + self.LINES
        )
        assert message.raw_headers == self.FIELDS

    @pytest.mark.parametrize(
        "line",
        [
            b"Content-Length: 1\r\nContent-Length: 1",
            b"Transfer-Encoding: chunked\r\nContent-Length: 1",
            b"Space : x",
            b"x",
        ],
    )
    def test_what_both_parsers_refuse_is_refused_by_an_exception_that_is_caught(self, request_parser, line):
        with pytest.raises((HttpProcessingError, ValueError)):
            make(request_parser, response_with_body=False).feed_data(
                b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"
            )

    @pytest.mark.parametrize("side", ["request", "response"])
    @pytest.mark.parametrize("count", [100, 256])
    def test_number_of_fields_is_bounded_by_the_option_not_by_a_default(self, side, count):
        """`MAX_FIELDS` is ours to say."""
        parsers = REQUEST_PARSERS if side == "request" else RESPONSE_PARSERS
        start = b"GET / HTTP/1.1\r\nHost: a\r\n" if side == "request" else b"HTTP/1.1 200 OK\r\nServer: a\r\n"
        for parser in parsers.values():
            head = start + b"".join(b"F%d: x\r\n" % number for number in range(count - 1)) + b"\r\n"
            ((message, _),), _, _ = make(parser, response_with_body=False).feed_data(head)
            assert len(message.raw_headers) == count

    def test_long_lines_are_bounded_by_the_option_not_by_a_default(self, request_parser):
        head = b"GET /" + b"x" * 60_000 + b" HTTP/1.1\r\nHost: a\r\nCookie: " + b"y" * 60_000 + b"\r\n\r\n"
        ((message, _),), _, _ = make(request_parser, response_with_body=False).feed_data(head)
        assert len(dict(message.raw_headers)[b"Cookie"]) == 60_000
