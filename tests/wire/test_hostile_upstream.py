"""Responses that two parsers could read differently never get through: RFC 9112 section 11.2.

A table of responses with what becomes of each: refused (the client gets the gateway's protected 502 instead), cut
(its head was good and is on its way when the content turns out bad: the client sees a broken connection, never an
end), followed by bytes that nobody asked for, or legal and passed on as it is, framing aside. Each is sent whole and
one byte at a time, and on a connection that was used before. Whatever the upstream says after a bad response is never
taken for the next one: its connection serves no other request. The oracle is `strict_reader.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.gateway import Bench, bench
from tests.support.peer import XHR_LINE, Peer
from tests.support.strict_reader import Message, read_responses
from tests.support.waiting import LIMIT_S
from tests.wire.hostile_responses import (
    CHUNKS,
    CLOSING,
    CODINGS,
    CUT,
    END,
    ENDED_EARLY,
    EVIL,
    FIELDS,
    FIXED,
    FOLLOWED,
    LENGTHS,
    LINES,
    OTHERS,
    PASSED,
    REFUSED,
    TRAILERS,
)

# Only the gateway's distrust is to end a connection that rests.
SETTINGS: dict[str, Any] = {"max_head_size_bytes": 4096, "upstream_keepalive_timeout_s": 60}
PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])
GET = b"GET @ HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n"
GOOD, HOSTILE = GET.replace(b"@", b"/good"), GET.replace(b"@", b"/hostile")
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + XHR_LINE + b"\r\n"


class App:
    """An upstream that answers `/hostile` with what it is given, and anything else well.

    Attributes:
        targets: of the requests on each of its connections, in order.
        ended: by the gateway, the connection on which it was hostile.
    """

    def __init__(self, response: bytes, *, piece: int = 0, closes: bool = False) -> None:
        self.targets: list[list[bytes]] = []
        self.ended = asyncio.Event()
        self._response, self._piece, self._closes = response, piece, closes

    async def __call__(self, peer: Peer) -> None:
        targets: list[bytes] = []
        self.targets.append(targets)
        try:
            while True:
                head = await peer.reader.readuntil(END)
                targets.append(head.split(b" ")[1])
                if targets[-1] != b"/hostile":
                    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    continue
                await peer.send(self._response, piece=self._piece)
                if self._closes:
                    return
        finally:
            if b"/hostile" in targets:
                self.ended.set()

    async def has_been_left(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self.ended.wait()


async def check_that_the_gateway_goes_on(b: Bench, app: App, *before: bytes) -> None:
    """Another client is served well, and on no connection on which the upstream was hostile."""
    answer = await b.exchange(LAST)
    (message,) = read_responses(answer.data, iter(["GET"]))
    assert (message.status, message.content, message.is_protected) == (200, b"ok", True)
    assert app.targets[0] == [*before, b"/hostile"]
    assert b"/hostile" not in [target for targets in app.targets[1:] for target in targets]
    await app.has_been_left()
    await b.settled()


@pytest.mark.parametrize(
    ("piece", "good"), [(0, 0), (1, 0), (0, 1)], ids=["whole", "byte-by-byte", "on a used connection"]
)
@pytest.mark.parametrize("name", REFUSED)
async def test_response_that_is_refused_gives_a_protected_502_and_nothing_of_itself(name, piece, good):
    """And what follows it on its connection answers nobody, least of all the next request of the same client."""
    app = App(REFUSED[name] + EVIL, piece=piece)
    async with bench(app, **SETTINGS) as b:
        answer = await b.exchange(GOOD * good + HOSTILE + LAST)
        messages = read_responses(answer.data, iter(["GET"] * (good + 2)))
        final = [message for message in messages if message.status >= 200]
        assert [message.status for message in final] == [200] * good + [502, 200]
        assert all(message.is_complete and message.is_protected for message in final)
        assert (final[-1].content, answer.end) == (b"ok", "closed")
        assert b"evil" not in answer.data
        assert final[-2].content.startswith(b"502 Bad Gateway: ")
        assert sum(b.gateway.stats.upstream_errors.values()) == 1
        await check_that_the_gateway_goes_on(b, app, *[b"/good"] * good)


async def check_that_it_is_cut(app: App, request: bytes, good: int) -> None:
    """The connection breaks, and what came over it until then has no end."""
    async with bench(app, **SETTINGS) as b:
        peer = await b.connect()
        for _ in range(good):
            await peer.send(GOOD)
            assert (await peer.read_response()).content == b"ok"
        await peer.send(request)
        answer = await peer.read_to_end()
        assert answer.end == "reset"
        # A reset may overtake what came before it, as far as a client can tell.
        messages = read_responses(answer.data, iter(["GET"]))
        assert [(m.status, m.is_protected) for m in messages] in ([], [(200, True)])
        assert not any(message.is_complete for message in messages)
        assert b.gateway.stats.upstream_errors == {"upstream_truncated": 1}
        await check_that_the_gateway_goes_on(b, app, *[b"/good"] * good)


@PIECES
@pytest.mark.parametrize("name", CUT)
async def test_response_with_bad_content_breaks_the_connection_and_never_ends(name, piece):
    await check_that_it_is_cut(App(CUT[name], piece=piece), HOSTILE, 0)


@pytest.mark.parametrize("name", CUT)
async def test_response_with_bad_content_on_a_used_connection_is_cut_as_well(name):
    """Having been good before is no excuse; an HTTP/1.0 client, to whom a close would be an end, sees a reset, too."""
    await check_that_it_is_cut(App(CUT[name]), HOSTILE.replace(b"HTTP/1.1", b"HTTP/1.0"), 1)


@pytest.mark.parametrize(
    ("piece", "good"), [(0, 0), (1, 0), (0, 1)], ids=["whole", "byte-by-byte", "on a used connection"]
)
@pytest.mark.parametrize("name", ENDED_EARLY)
async def test_response_that_ends_before_its_end_is_cut(name, piece, good):
    """However its framing tells that there is more to come."""
    await check_that_it_is_cut(App(ENDED_EARLY[name], piece=piece, closes=True), HOSTILE, good)


@PIECES
@pytest.mark.parametrize("name", FOLLOWED)
async def test_what_follows_a_response_is_no_response(name, piece):
    """RFC 9112 section 6.3: the client gets what its framing holds, and the connection is not used again."""
    method, response, content = FOLLOWED[name]
    app = App(response + EVIL, piece=piece)
    async with bench(app, rules=(), **SETTINGS) as b:
        peer = await b.connect()
        await peer.send(HOSTILE.replace(b"GET", method, 1).replace(XHR_LINE, b'If-None-Match: "a"\r\n'))
        await app.has_been_left()
        await peer.send(LAST)
        answer = await peer.read_to_end()
        first, last = read_responses(answer.data, iter([method.decode(), "GET"]))
        assert (first.start, first.content) == (response.partition(b"\r\n")[0], content)
        assert (last.content, answer.end) == (b"ok", "closed")
        assert app.targets == [[b"/hostile"], [b"/last"]]
        assert b.gateway.stats.upstream_errors == {}


async def test_response_that_comes_without_a_request_ends_a_connection_that_rests():
    """The next request would be answered with it."""
    spoken = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(FIXED)
        if not spoken.is_set():
            while not b.gateway.pool._idle:
                await asyncio.sleep(0.002)
            await peer.send(EVIL)
            spoken.set()
            await peer.read_to_end()

    async with bench(script, **SETTINGS) as b:
        for _ in range(2):
            answer = await b.exchange(LAST)
            (message,) = read_responses(answer.data, iter(["GET"]))
            assert message.content == b"hello"
            async with asyncio.timeout(LIMIT_S):
                await spoken.wait()
        assert b.recorder.connections == 2


@PIECES
@pytest.mark.parametrize("name", PASSED)
async def test_response_that_is_legal_passes_and_ends_where_the_next_begins(name, piece):
    """Status line, fields and content as they came; only what belongs to one connection is made anew."""
    response, expected = PASSED[name]
    app = App(response, piece=piece, closes=name in CLOSING)
    is_last = name in CLOSING or name == "CL of a 204"
    async with bench(app, rules=(), **SETTINGS) as b:
        answer = await b.exchange(HOSTILE + LAST)
        messages = read_responses(answer.data, iter(["GET", "GET"]))
        assert [as_it_is(message) for message in messages[:-1]] == [
            as_it_is(message) for message in read_responses(expected, iter(["GET"]))
        ]
        assert (messages[-1].content, answer.end) == (b"ok", "closed")
        assert app.targets == ([[b"/hostile"], [b"/last"]] if is_last else [[b"/hostile", b"/last"]])


def as_it_is(message: Message) -> tuple[bytes, tuple[tuple[bytes, bytes], ...], bytes, bool | None]:
    return message.start, message.fields, message.content, message.is_complete


def test_tables_are_as_large_as_they_are_meant_to_be():
    """And no name is lost to another of its kind."""
    assert len(REFUSED) == sum(map(len, (OTHERS, CODINGS, LENGTHS, FIELDS, LINES)))
    assert len(CUT) >= len(CHUNKS) + len(TRAILERS)
    assert len(REFUSED) + len(CUT) + len(ENDED_EARLY) + len(FOLLOWED) >= 120
