"""Requests that two parsers could read differently never get through: RFC 9112 section 11.

A table of requests with what becomes of each: refused (nothing of it reaches the app), cut (its head was good and
may be on its way when the content turns out bad: the app never sees it whole), or forwarded, rendered anew. Each is
sent whole and one byte at a time, and with a second request behind it in the same bytes: a refusal is protected, the
last thing on its connection, and what follows it is never forwarded. The oracle is `strict_reader.py`.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.gateway import Bench, bench
from tests.support.peer import Peer
from tests.support.strict_reader import Message, NotStrictError, read_requests, read_responses
from tests.wire.hostile_requests import (
    CHUNKED,
    CLOSING,
    CODINGS,
    CUT,
    END,
    FIELDS,
    FORWARDED,
    FRAMING,
    HOSTS,
    LAST_CHUNK,
    LENGTHS,
    LINES,
    OTHERS,
    REFUSED,
    SECOND,
    STARTS,
    UNCOUNTABLE,
    get,
)

SETTINGS: dict[str, Any] = {
    "max_head_size_bytes": 4096,
    "max_request_body_bytes": 64,
    "upstream_keepalive_timeout_s": 60,
    "forwarded": "off",
}
PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])


class App:
    """An upstream that answers every request that is whole, and keeps every byte of each of its connections."""

    def __init__(self) -> None:
        self.received: list[bytearray] = []

    async def __call__(self, peer: Peer) -> None:
        received = bytearray()
        self.received.append(received)
        answered = 0
        while data := await peer.reader.read(65536):
            received += data
            whole = len(whole_requests(bytes(received)))
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * (whole - answered))
            answered = whole

    def requests(self) -> list[Message]:
        """All requests that came, in order; the strict reader has read every byte."""
        return [message for received in self.received for message in read_requests(bytes(received))]


_CHUNK_SIZE_LINE = re.compile(rb"([0-9a-f]{1,4})(?:;[\x21-\x7e]*)?\r\n")


def content_of(chunks: bytes) -> bytes:
    """What chunks say by a strict reading, up to where they are broken."""
    content = b""
    while match := _CHUNK_SIZE_LINE.match(chunks):
        end = match.end() + int(match[1], 16)
        content += chunks[match.end() : end]
        if chunks[end : end + 2] != b"\r\n":
            break
        chunks = chunks[end + 2 :]
    return content


def whole_requests(data: bytes) -> list[Message]:
    try:
        return [message for message in read_requests(data) if message.is_complete]
    except NotStrictError:
        return []  # a part of a head perhaps; `App.requests` will tell


async def check_refusal(b: Bench, app: App, data: bytes, piece: int, status: int, good: int = 0) -> None:
    """Send what is refused after some good requests: one protected answer, the last of its connection."""
    first = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n" * good
    answer = await b.exchange(first + data + SECOND, piece=piece)
    answers = read_responses(answer.data, iter(["GET"] * (good + 1)))
    assert [(message.status, message.is_complete) for message in answers] == [(200, True)] * good + [
        (status, True)
    ]
    assert answer.end == "closed"
    assert answers[-1].is_protected
    assert answers[-1].values(b"connection") == [b"close"]
    # The app and the gateway go on, and nothing of the refused connection is left to either.
    before = len(app.received)
    again = await b.exchange(b"GET /third HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (again.status, again.content) == (200, b"ok")
    assert len(app.received) == before + (0 if good else 1)
    b.close_clients()  # instead of waiting until the gateway gives up on what a refused client may send
    await b.settled()


@PIECES
@pytest.mark.parametrize(
    "data", [b"GET /x HTTP/1.1\nHost: a\n\n", b"GET /x HTTP/1.1\r\nHost: a\n\n", b"GET /x HTTP/1.1\n"]
)
async def test_line_feeds_alone_are_refused_at_once(data, piece):
    """Its sender waits for the answer: no head end will come that CR and LF make."""
    async with bench(App(), rules=(), **SETTINGS) as b:
        answer = await b.exchange(data, piece=piece)
        assert (answer.status, answer.is_protected) == (400, True)


async def test_what_follows_a_204_answers_nobody():
    """RFC 9112 section 6.3: a 204 has no content, whatever it announces."""
    connections = 0

    async def app(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.read_head()
        if connections > 1:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            return
        await peer.send(b"HTTP/1.1 204 No Content\r\nContent-Length: 40\r\n\r\n")
        await peer.read_head()  # never comes
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    async with bench(app, rules=()) as b:
        answer = await b.exchange(
            b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        first, second = read_responses(answer.data, iter(["GET", "GET"]))
        assert (first.status, second.status, second.content) == (204, 200, b"ok")
        assert connections == 2


@PIECES
@pytest.mark.parametrize("name", REFUSED)
async def test_request_that_is_refused_by_its_head_never_reaches_the_app(name, piece):
    status, data = REFUSED[name]
    app = App()
    async with bench(app, rules=(), **SETTINGS) as b:
        await check_refusal(b, app, data, piece, status)
        assert [message.start for message in app.requests()] == [b"GET /third HTTP/1.1"]


@pytest.mark.parametrize("name", REFUSED)
async def test_request_that_is_refused_behind_a_good_one_never_reaches_the_app(name):
    """The good one is answered first, in order; its upstream connection may serve others, and only they are on it."""
    status, data = REFUSED[name]
    app = App()
    async with bench(app, rules=(), **SETTINGS) as b:
        await check_refusal(b, app, data, 0, status, good=1)
        starts = [b"GET /good HTTP/1.1", b"GET /third HTTP/1.1"]
        assert [message.start for message in app.requests()] == starts


@PIECES
@pytest.mark.parametrize("name", CUT)
async def test_request_that_is_refused_by_its_content_is_never_whole_for_the_app(name, piece):
    """What the app has of it is strict, without an end, and on a connection that is broken off."""
    status, data = CUT[name]
    app = App()
    async with bench(app, rules=(), **SETTINGS) as b:
        await check_refusal(b, app, data, piece, status)
        *cut, third = app.requests()
        assert third.start == b"GET /third HTTP/1.1"
        assert len(cut) <= 1
        for message in cut:
            assert (message.start, message.is_complete) == (b"POST /first HTTP/1.1", False)
            assert content_of(data.partition(END)[2]).startswith(message.content)


@PIECES
@pytest.mark.parametrize("name", UNCOUNTABLE)
async def test_chunk_that_is_too_large_to_count_never_ends(name, piece):
    """Refused or waited for, it hides no other request, and the app is left with half a one."""
    app = App()
    async with bench(app, rules=(), **SETTINGS) as b:
        peer = await b.connect()
        await peer.send(CHUNKED + UNCOUNTABLE[name] + LAST_CHUNK + SECOND, piece=piece)
        peer.half_close()
        assert (await peer.read_to_end()).status in (0, 400, 413)
        await b.settled()
        for message in app.requests():
            assert (message.start, message.is_complete) == (b"POST /first HTTP/1.1", False)


@PIECES
@pytest.mark.parametrize("name", FORWARDED)
async def test_request_that_is_legal_is_rendered_anew_and_ends_where_the_next_begins(name, piece):
    data, expected = FORWARDED[name]
    is_last = name in CLOSING
    wanted = read_requests(expected + (b"" if is_last else get(target=b"/second")))
    app = App()
    async with bench(app, rules=(), **SETTINGS) as b:
        answer = await b.exchange(data + SECOND, piece=piece)
        answers = read_responses(answer.data, iter(["GET"] * len(wanted)))
        assert [message.content for message in answers] == [b"ok"] * len(wanted)
        assert answer.end == "closed"
        assert app.requests() == wanted
        b.close_clients()  # instead of waiting until the gateway gives up on what follows a last request
        await b.settled()


def test_content_of_chunks_is_read_strictly():
    """The oracle of what may be on its way before chunks turn out bad."""
    assert content_of(b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n") == b"hello!"
    assert content_of(b"5\r\nhelloXX1\r\n!\r\n0\r\n\r\n") == b"hello"
    assert content_of(b"5 \r\nhello\r\n") == content_of(b"0\r\n\r\nhello") == b""


@PIECES
async def test_nothing_that_follows_a_refusal_later_is_read(piece):
    """A client may go on sending while it reads the refusal; its connection is dead all the same."""
    app = App()
    async with bench(app, rules=(), **SETTINGS) as b:
        peer = await b.connect()
        await peer.send(b"GET /first HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", piece=piece)
        refusal = await peer.read_to_end()
        assert (refusal.status, refusal.is_protected) == (400, True)
        await peer.send(SECOND, piece=piece)
        peer.half_close()
        await b.settled()
        assert app.received == []


def test_table_is_as_large_as_it_is_meant_to_be():
    """And no name is lost to another of its kind."""
    tables = (FRAMING, CODINGS, LENGTHS, FIELDS, HOSTS, LINES, STARTS, OTHERS)
    assert len(REFUSED) == sum(map(len, tables))
    assert len(REFUSED) + len(CUT) + len(FORWARDED) >= 120
