"""Requests and responses with and without content, both framings, keep-alive on both sides."""

from __future__ import annotations

import pytest

from tests.support.gateway import bench
from tests.support.peer import XHR_LINE
from tests.support.upstream import answering

pytestmark = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])


async def test_response_that_no_rule_touches_keeps_every_field_line(piece):
    """Order, spelling and multiplicity stay; only hop-by-hop fields go."""
    fields = b"Server: x\r\nset-cookie: a=1\r\nX-Odd:  two words \r\nSET-COOKIE: b=\xe9\r\nContent-Length: 2\r\nDate: d\r\n"
    async with bench(
        answering(b"HTTP/1.1 299 Odd  phrase\r\n" + fields + b"Keep-Alive: 5\r\n\r\nok"), rules=()
    ) as b:
        answer = await b.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", piece=piece)
    expected = fields.replace(b":  two words ", b": two words")
    assert answer.data == b"HTTP/1.1 299 Odd  phrase\r\n" + expected + b"Connection: close\r\n\r\nok"


async def test_matching_response_is_protected(piece):
    async with bench(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok")
    ) as b:
        answer = await b.exchange(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + XHR_LINE + b"\r\n", piece=piece
        )
    assert answer.is_protected
    assert answer.content == b"ok"


@pytest.mark.parametrize(
    ("framing", "content"),
    [
        (b"Content-Length: 5", b"hello"),
        (b"Transfer-Encoding: chunked", b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: v\r\n\r\n"),
    ],
)
async def test_request_content_arrives_whole_and_the_connection_serves_the_next_request(
    piece, framing, content
):
    async with bench() as b:
        peer = await b.connect()
        await peer.send(b"POST /one HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + content, piece=piece)
        first = await peer.read_response()
        await peer.send(b"GET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", piece=piece)
        second = await peer.read_to_end()
        assert (first.status, second.status) == (200, 200)
        assert b.recorder.contents == [b"hello", b""]
        # An app may leave some of what is chunked unread, and take that for the next request.
        assert b.recorder.connections == (2 if b"chunked" in framing else 1)


async def test_pipelined_requests_are_answered_in_order(piece):
    responses = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(5)]
    async with bench(answering(*responses)) as b:
        requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(4))
        answer = await b.exchange(
            requests + b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", piece=piece
        )
    parts = answer.data.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [part[-1:] for part in parts] == [b"0", b"1", b"2", b"3", b"4"]
    assert [head.split(b" ")[1] for head in b.recorder.heads] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


async def test_app_that_is_not_there_gives_a_protected_502(piece):
    async with bench(upstream="http://127.0.0.1:1") as b:
        answer = await b.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", piece=piece)
    assert (answer.status, answer.is_protected) == (502, True)
    assert answer.field("Proxy-Status") == [b"nocache-proxy; error=connection_refused"]


async def test_field_that_a_rule_reads_named_in_connection_is_refused_with_protection(piece):
    """The app would take the request for no script's, and a cache for one."""
    async with bench() as b:
        answer = await b.exchange(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Requested-With\r\n" + XHR_LINE + b"\r\n",
            piece=piece,
        )
        assert answer.status == 400
        assert answer.is_protected
        assert b.recorder.connections == 0
