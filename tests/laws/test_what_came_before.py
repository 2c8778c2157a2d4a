"""The law of no memory: what a parser remembers of earlier heads changes nothing in how it reads the next one."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from aiohttp import http_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.message import syntax
from proxy.message.errors import MalformedHeadError, MessageError, TooManyFieldsError
from proxy.message.request import RequestTable
from proxy.message.response import ResponseTable, render_response
from proxy.message.rewrite import UNTOUCHED

NOW = b"Mon, 07 Nov 1994 00:00:00 GMT"
# Few names and many values: so heads have the same names again and again, and never the same values.
NAMES = st.sampled_from(
    b"Host Content-Length content-length Transfer-Encoding Connection Upgrade Cookie X_Y Accept TE Expect "
    b"Content-Type ETag Server User-Agent Sec-WebSocket-Key1 \xe9 A:B".split()
)
VALUES = st.one_of(
    st.sampled_from(
        b"a|a b|a:80|a,b|5|05|+5|-5|5, 5|5;x|0x5|99999999999999999999|chunked|chunked, identity|xchunked|\x0bchunked|"
        b"close|keep-alive|upgrade|keep-alive, upgrade|Cookie|websocket|h2c|100-continue|gzip|gzip, chunked||\xe9\xff|"
        b'"v"|a\x00b|a\x7fb|a\rb|a\nb|a\r\n b|a\r\nHost: c|=?utf-8?q?x?='.split(b"|")
    ),
    st.binary(max_size=6),
)
COLONS = st.sampled_from([b": ", b": ", b":", b":\t ", b" : ", b""])
# Names in an order that several heads have, each with values of its own.
SECTIONS = st.lists(NAMES, max_size=4).flatmap(
    lambda names: st.lists(
        st.tuples(*(st.tuples(COLONS, VALUES).map(b"".join) for _ in names)).map(
            lambda values: [name + value for name, value in zip(names, values, strict=True)]
        ),
        min_size=2,
        max_size=6,
    )
)
IMPLEMENTATIONS = {
    "as installed": (syntax.HttpRequestParser, syntax.HttpResponseParser),
    "in Python": (http_parser.HttpRequestParserPy, http_parser.HttpResponseParserPy),
}


def _parsers(implementation: str) -> Any:
    request, response = IMPLEMENTATIONS[implementation]
    return mock.patch.multiple(syntax, HttpRequestParser=request, HttpResponseParser=response)


def _attributes(head: object) -> dict[str, object]:
    return {name: getattr(head, name) for name in dir(head) if not name.startswith("_")}


def _request(table: RequestTable, head: bytes) -> object:
    try:
        return _attributes(table.read(head))
    except MessageError as error:
        return error.status


def _response(table: ResponseTable, head: bytes) -> object:
    try:
        taken = table.take(head, "GET", 1 << 16)
        assert taken is not None
        response, size = taken
        assert size == len(head)
        outgoing = render_response(
            response, UNTOUCHED, method="GET", client_minor=1, keep_alive=True, now=NOW
        )
        return _attributes(outgoing)
    except (MalformedHeadError, TooManyFieldsError) as error:
        return type(error)


def _head(start: bytes, section: list[bytes]) -> bytes:
    """Join lines to a head, cut at its first empty line, as the connections do."""
    return b"\r\n".join([start, *section, b"", b""]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(deadline=None)
@given(
    sections=SECTIONS,
    start=st.sampled_from([b"GET / HTTP/1.1", b"POST / HTTP/1.0"]),
    first=st.sampled_from([b"Host: a", b"Host: a", b""]),
)
def test_requests_are_read_alike_whatever_came_before(
    implementation: str, sections: list[list[bytes]], start: bytes, first: bytes
) -> None:
    with _parsers(implementation):
        table = RequestTable([b"cookie"])
        heads = [_head(start, [first, *section] if first else section) for section in sections]
        table.read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for head in heads * 4:  # what came twice is remembered whole, and read again
            assert _request(table, head) == _request(RequestTable([b"cookie"]), head)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(deadline=None)
@given(sections=SECTIONS, start=st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 304 ", b"HTTP/1.1 204 x"]))
def test_responses_are_read_alike_whatever_came_before(
    implementation: str, sections: list[list[bytes]], start: bytes
) -> None:
    with _parsers(implementation):
        table = ResponseTable()
        heads = [_head(start, section) for section in sections]
        table.read(b"HTTP/1.1 200 OK\r\nServer: a\r\n\r\n", "GET")
        for head in heads * 4:  # what came twice is remembered whole, and read again
            assert _response(table, head) == _response(ResponseTable(), head)
