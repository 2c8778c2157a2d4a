"""No client gets another's answer: nothing that may come after the end of one meets the next request. Issue 14.1, 14.3.

Each app here sends bytes late, when the gateway has had every chance to lend the connection to somebody else.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import bench
from tests.support.peer import Peer
from tests.support.waiting import until

GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
CHUNKED_UPLOAD = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
SIZED_UPLOAD = b"Content-Length: 1\r\n\r\nx"

# What is asked first, what answers it, and what comes late.
LATE = {
    "content after HEAD": (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"200 OK\r\nContent-Length: 42", EVIL),
    "content after HEAD without a length": (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"200 OK", EVIL),
    "content after 204": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"204 No Content", EVIL),
    "content after 304": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"304 Not Modified", EVIL),
    "content after a length of 0": (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"200 OK\r\nContent-Length: 0",
        EVIL,
    ),
    "an answer to what a chunked upload left": (
        b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED_UPLOAD,
        b"200 OK\r\nContent-Length: 2\r\n\r\nok",
        EVIL,
    ),
    "100 after the answer": (
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + SIZED_UPLOAD,
        b"200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" + EVIL,
    ),
}


class LateApp:
    """Answers the first request of its first connection as told, and then goes on when somebody else has asked."""

    def __init__(self, answer: bytes, late: bytes) -> None:
        self._answer, self._late = answer, late
        self._connections = 0
        self.asked_again = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        self._connections += 1
        if self._connections == 1:
            head = await peer.read_head()
            for framing, end in ((b"chunked", b"0\r\n\r\n"), (b"Content-Length", b"x")):
                if framing in head:
                    await peer.read_until(end)
                    break
            await peer.send(
                b"HTTP/1.1 " + self._answer + (b"" if self._answer.endswith(b"ok") else b"\r\n\r\n")
            )
            await self.asked_again.wait()
            await peer.send(self._late)
        while await peer.read_head():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")


@pytest.mark.parametrize("case", LATE)
async def test_bytes_after_the_end_of_an_answer_reach_nobody_else(case):
    asked, answer, late = LATE[case]
    app = LateApp(answer, late)
    async with bench(app, upstream_keepalive_timeout_s=60) as b:
        first, second = await b.connect(), await b.connect()
        await first.send(asked)
        assert (await first.read_head()).startswith(b"HTTP/1.1 " + answer[:3])
        await until(lambda: not b.gateway.stats.in_flight)
        await second.send(GET)
        app.asked_again.set()
        assert (await second.read_response()).content == b"mine"
        assert b.gateway.stats.upstream_reused_total == 0


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"Content-Length: 4\r\n\r\nab"]
)
async def test_answer_before_the_end_of_the_request_leaves_no_connection_behind(framing):
    """The app may take the rest of the request for the next one, though it came in the meantime."""
    rest = b"2\r\ncd\r\n0\r\n\r\n" if b"chunked" in framing else b"cd"
    may_end = asyncio.Event()

    async def app(peer: Peer) -> None:
        await peer.read_head()
        await peer.read_until(b"ab")
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await peer.read_until(b"cd")
        await may_end.wait()
        await peer.send(b"k")
        await peer.reader.read()

    async with bench(app, upstream_keepalive_timeout_s=60) as b:
        peer = await b.connect()
        await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
        await peer.read_until(b"\r\n\r\no")
        await peer.send(rest)
        may_end.set()
        assert await peer.read_exactly(1) == b"k"
        await until(lambda: not b.gateway.stats.upstream_connections)


async def test_answers_with_content_share_a_connection_as_before():
    """What costs a connection is what has no content; an upload with a length is no reason."""

    async def app(peer: Peer) -> None:
        while b"\r\n\r\n" in (head := await peer.read_head()):
            if head.startswith(b"POST"):
                await peer.read_exactly(1)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")

    async with bench(app, upstream_keepalive_timeout_s=60) as b:
        peer = await b.connect()
        for request in (GET, GET, b"POST / HTTP/1.1\r\nHost: a\r\n" + SIZED_UPLOAD, GET):
            await peer.send(request)
            assert (await peer.read_response()).content == b"mine"
        assert b.recorder.connections == 1
