"""The fault matrix: what goes wrong on either side, in each framing, under each kind of request.

Every case ends in the right status or a broken connection, never in a clean end of a cut response; and
afterwards no socket, task, exchange or pooled connection is left, and the log has no traceback.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from proxy.gateway import client, clock, request_reader
from tests.support.gateway import Bench, bench
from tests.support.peer import XHR_LINE, Peer
from tests.support.strict_reader import read_requests
from tests.support.upstream import answering
from tests.support.waiting import LIMIT_S, until

Step = bytes | Literal["close", "reset", "hold", "seen"]
"""What a faulty upstream does: send, end the connection, wait until the gateway ends it, wait for the test."""

CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"
REQUESTS = {
    "GET": b"GET /a HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n",
    "HTTP/1.0": b"GET /a HTTP/1.0\r\n" + XHR_LINE + b"\r\n",
    "POST": b"POST /a HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"Content-Length: 5\r\n\r\nhello",
    "POST chunked": b"POST /a HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + CHUNKS + b"5\r\nhello\r\n0\r\n\r\n",
    "upgrade": b"GET /a HTTP/1.1\r\nHost: a\r\n"
    + XHR_LINE
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
# A head and the first half of ten bytes of content.
HALVES = {
    "fixed": STATUS_LINE + b"Content-Length: 10\r\n\r\nhello",
    "chunked": STATUS_LINE + CHUNKS + b"a\r\nhello",
    "between chunks": STATUS_LINE + CHUNKS + b"5\r\nhello\r\n",
    "until close": STATUS_LINE + b"\r\nhello",
}
CUTS = [
    *(
        (framing, how)
        for framing in HALVES
        for how in ("close", "reset", "hold")
        if (framing, how) != ("until close", "close")
    ),
    ("between chunks", "bad chunk"),
]
QUICK = {"response_head_timeout_s": 0.1, "idle_timeout_s": 0.1, "request_head_timeout_s": 0.1}


@pytest.fixture(autouse=True)
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tick often, so that a time-out of a case costs no quarter of a second."""
    monkeypatch.setattr(clock, "TICK_S", 0.02)


class Test_Upstream_fails_before_its_response:
    @pytest.mark.parametrize("request_name", REQUESTS)
    @pytest.mark.parametrize(
        ("steps", "status"),
        [
            pytest.param(["close"], 502, id="closes at once"),
            pytest.param(["reset"], 502, id="resets"),
            pytest.param([b"HTTP/1.1 200 O", "close"], 502, id="closes inside the head"),
            pytest.param([b"HTTP/1.1 200 OK\r\nA: b\r\n", "reset"], 502, id="resets inside the head"),
            pytest.param([b"HTTP/1.1 103 Early Hints\r\n\r\n", "close"], 502, id="closes after a 103"),
            pytest.param([b"SSH-2.0-OpenSSH_9.2\r\n", "hold"], 502, id="speaks another protocol"),
            pytest.param([STATUS_LINE + b"No colon\r\n\r\n", "hold"], 502, id="malformed field line"),
            pytest.param([b"HTTP/1.1 20 OK\r\n\r\n", "hold"], 502, id="malformed status"),
            pytest.param(
                [STATUS_LINE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "hold"],
                502,
                id="two lengths",
            ),
            pytest.param([STATUS_LINE + b"Content-Length: -5\r\n\r\n", "hold"], 502, id="negative length"),
            pytest.param(
                [STATUS_LINE + b"Content-Length: 5\r\n" + CHUNKS, "hold"], 502, id="length and chunked"
            ),
            pytest.param(
                [STATUS_LINE + b"Transfer-Encoding: gzip\r\n\r\n", "hold"], 502, id="unknown coding"
            ),
            pytest.param([STATUS_LINE + b"A: " + b"x" * 70_000, "hold"], 502, id="endless head"),
            pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "hold"], 502, id="100 for ever"),
            pytest.param([b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "hold"], 502, id="101 to nothing"),
            pytest.param(["hold"], 504, id="no answer"),
            pytest.param([b"HTTP/1.1 200 OK\r\nA: b\r\n", "hold"], 504, id="half an answer"),
        ],
    )
    async def test_client_gets_a_protected_502_or_504(self, leaves_nothing, steps, status, request_name):
        """And nothing of what the upstream sent; the next request finds a working gateway."""
        async with leaves_nothing(steps, **(QUICK if status == 504 else {})) as b:
            peer = await b.connect()
            await peer.send(REQUESTS[request_name])
            answer = await peer.read_response()
            while answer.status < 200:
                answer = await peer.read_response()
            assert (answer.status, answer.is_protected) == (status, True)
            assert answer.content.startswith(b"%d " % status)
            assert sum(b.gateway.stats.upstream_errors.values()) == 1
            assert b.gateway.stats.client_errors == {}
            assert (await b.exchange(closing(REQUESTS["GET"]))).status == 200

    @pytest.mark.parametrize("request_name", REQUESTS)
    async def test_refused_connection_is_a_protected_502(self, leaves_nothing, request_name):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        async with leaves_nothing([], upstream=f"http://127.0.0.1:{port}") as b:
            answer = await b.exchange(closing(REQUESTS[request_name]))
            assert (answer.status, answer.is_protected) == (502, True)
            assert b.gateway.stats.upstream_errors == {"connect_refused": 1}

    @pytest.mark.parametrize(
        ("accept", "content"),
        [
            (
                b"application/json, text/plain, */*",
                b'{"status": 502, "title": "Bad Gateway", "detail": "the app does not accept connections"}\n',
            ),
            (b"text/html, */*;q=0.8", b"502 Bad Gateway: the app does not accept connections\n"),
        ],
        ids=["script", "page"],
    )
    async def test_answer_in_place_of_the_app_is_json_for_who_asks_for_json(
        self, leaves_nothing, accept, content
    ):
        async with leaves_nothing([], upstream="http://127.0.0.1:1") as b:
            answer = await b.exchange(
                closing(b"GET /a HTTP/1.1\r\nHost: a\r\nAccept: " + accept + b"\r\n\r\n")
            )
            assert (answer.status, answer.is_protected, answer.content) == (502, True, content)


class Test_Upstream_fails_inside_its_response:
    @pytest.mark.parametrize("request_name", ["GET", "HTTP/1.0", "POST", "POST chunked", "upgrade"])
    @pytest.mark.parametrize(("framing", "how"), CUTS)
    async def test_client_can_tell_that_the_response_was_cut(
        self, leaves_nothing, framing, how, request_name
    ):
        """A close may be a clean end to an HTTP/1.0 client or until-close content: so it is a reset, RFC 9112 section 8."""
        steps: list[Step] = [HALVES[framing], "seen", *([b"zz\r\n", "hold"] if how == "bad chunk" else [how])]
        async with leaves_nothing(steps, **({"idle_timeout_s": 0.1} if how == "hold" else {})) as b:
            peer = await b.connect()
            await peer.send(REQUESTS[request_name])
            head = await peer.read_head()
            first = await peer.read_until(b"hello")
            b.seen.set()
            rest = await peer.read_to_end()
            assert head.startswith(STATUS_LINE)
            assert rest.end == "reset"
            assert b"0\r\n\r\n" not in first + rest.data
            reason = "upstream_stalled" if how == "hold" else "upstream_truncated"
            assert b.gateway.stats.upstream_errors == {reason: 1}
            assert (await b.exchange(closing(REQUESTS["GET"]))).status == 200

    @pytest.mark.parametrize("end", ["close", "reset"])
    @pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\n", CHUNKS])
    async def test_client_can_tell_when_no_content_came_at_all(self, leaves_nothing, framing, end):
        async with leaves_nothing([STATUS_LINE + framing, "seen", end]) as b:
            peer = await b.connect()
            await peer.send(REQUESTS["GET"])
            await peer.read_head()
            b.seen.set()
            assert (await peer.read_to_end()).end == "reset"

    @pytest.mark.parametrize("request_name", ["GET", "HTTP/1.0", "POST", "POST chunked"])
    @pytest.mark.parametrize(
        ("response", "content"),
        [
            (b"Content-Length: 5\r\n\r\nhello, and more", b"hello"),
            (CHUNKS + b"5\r\nhello\r\n0\r\n\r\nand more", b"hello"),
            (b"Content-Length: 0\r\n\r\nmore", b""),
            (CHUNKS + b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", b"hello"),
        ],
    )
    async def test_what_follows_a_response_is_never_taken_for_the_next(
        self, leaves_nothing, response, content, request_name
    ):
        """The connection that said too much is not used again."""
        async with leaves_nothing([STATUS_LINE + response, "hold"]) as b:
            answer = await b.exchange(closing(REQUESTS[request_name]))
            assert answer.status == 200
            assert dechunked(answer.content) == content
            next_answer = await b.exchange(closing(REQUESTS["GET"]))
            assert next_answer.content == b"ok"
            assert b.recorder.connections == 2

    async def test_304_that_nobody_asked_for_is_a_502(self, leaves_nothing):
        async with leaves_nothing([b"HTTP/1.1 304 Not Modified\r\n\r\n", "hold"]) as b:
            answer = await b.exchange(closing(REQUESTS["GET"]))
            assert (answer.status, answer.is_protected) == (502, True)


class Test_Upstream_answers_before_it_has_read:
    @pytest.mark.parametrize("framing", [b"Content-Length: 3000000\r\n\r\n", CHUNKS])
    @pytest.mark.parametrize("end", ["close", "hold"])
    async def test_early_response_is_delivered_whole(self, leaves_nothing, framing, end):
        """An answer to a request that is still coming is an answer; the connection closes after it."""
        response = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much"
        async with leaves_nothing([response, "seen", end], reads_content=False) as b:
            peer = await b.connect()
            await peer.send(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing + b"5\r\nhello\r\n")
            answer = await peer.read_response()
            b.seen.set()
            assert (answer.status, answer.content) == (413, b"too much")
            assert answer.field("Connection") == [b"close"]
            assert b.gateway.stats.upstream_errors == b.gateway.stats.client_errors == {}


class Test_Idle_connection_closes_under_a_request:
    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE"])
    async def test_safe_or_idempotent_request_is_sent_again_on_a_new_connection(self, leaves_nothing, method):
        async with leaves_nothing(closing_under_the_second_request()) as b:
            first = await b.exchange(closing(REQUESTS["GET"]))
            second = await b.exchange(method + b" /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (first.status, second.status) == (200, 200)
            assert b.gateway.stats.retries_total == 1
            assert b.gateway.stats.upstream_errors == {}

    @pytest.mark.parametrize("name", ["POST", "POST chunked"])
    async def test_post_is_never_sent_twice(self, leaves_nothing, name):
        """RFC 9110 section 9.2.2: the app may have acted on it before it closed."""
        async with leaves_nothing(closing_under_the_second_request()) as b:
            first = await b.exchange(closing(REQUESTS["GET"]))
            for habit in b.gateway.pool._habits:
                habit.was_kept = True  # as it looked; else the request had a connection of its own
            second = await b.exchange(closing(REQUESTS[name]))
            assert (first.status, second.status, second.is_protected) == (200, 502, True)
            assert b.gateway.stats.retries_total == 0
            assert sum(head.startswith(b"POST") for head in b.recorder.heads) == 1

    async def test_post_meets_no_connection_that_the_app_closes_only_after_uploads(self):
        """Issue 16.3: uWSGI's `--http11-socket` does so where the app leaves content unread. GETs prove nothing then."""
        async with bench(closing_after_uploads()) as b:
            peer = await b.connect()
            for name in ("GET", "GET", "POST", "POST", "GET", "GET", "POST", "POST", "GET"):
                await peer.send(REQUESTS[name])
                assert (await peer.read_response()).status == 200
            assert b.gateway.stats.upstream_errors == {}
            assert b.gateway.stats.retries_total == 2  # of the two GETs that came behind a POST

    @pytest.mark.parametrize("name", ["GET", "POST", "POST chunked", "upgrade"])
    async def test_connection_that_was_closed_in_time_is_not_used(self, leaves_nothing, name):
        """A close that has arrived is seen before the request is written, for any method."""
        closed = asyncio.Event()

        async def once(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(STATUS_LINE + b"Content-Length: 2\r\n\r\nok")
            peer.close()
            await peer.writer.wait_closed()
            closed.set()

        async with leaves_nothing(once) as b:
            await b.exchange(closing(REQUESTS["GET"]))
            await closed.wait()
            assert (await b.exchange(closing(REQUESTS[name]))).status == 200


class Test_Client_fails:
    @pytest.mark.parametrize("leave", ["close", "reset"])
    @pytest.mark.parametrize("name", REQUESTS)
    @pytest.mark.parametrize("response", [None, *HALVES])
    async def test_client_that_leaves_takes_the_upstream_exchange_with_it(
        self, leaves_nothing, response, name, leave
    ):
        """While waiting for the response and inside it; logged as 499 and not counted against the upstream."""
        async with leaves_nothing([*([HALVES[response]] if response else []), "hold"]) as b:
            peer = await b.connect()
            await peer.send(REQUESTS[name])
            await b.asked.wait()
            if response:
                await peer.read_until(b"hello")
            getattr(peer, leave)()
            await within_bounds(b.ended.wait())
            await b.settled()
            assert b.gateway.stats.client_aborts_total == 1
            assert b.gateway.stats.upstream_errors == {}
            assert [key for key in b.gateway.stats.requests if key[2] == 4] or response

    @pytest.mark.parametrize("leave", ["close", "reset"])
    @pytest.mark.parametrize(
        "framing", [b"Content-Length: 10\r\n\r\nhello", CHUNKS + b"a\r\nhello", CHUNKS + b"5\r\nhello\r\n"]
    )
    async def test_client_that_leaves_inside_its_content_leaves_no_whole_request_behind(
        self, leaves_nothing, framing, leave
    ):
        """The upstream sees the connection end inside the content: no last chunk, not all bytes."""
        async with leaves_nothing(["hold"], reads_content=False) as b:
            peer = await b.connect()
            await peer.send(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing)
            await b.asked.wait()
            getattr(peer, leave)()
            await within_bounds(b.ended.wait())
            await b.settled()
            (received,) = read_requests(b.recorder.heads[0] + b.received)
            assert not received.is_complete
            assert b.gateway.stats.upstream_errors == {}

    @pytest.mark.parametrize("leave", ["close", "reset"])
    @pytest.mark.parametrize(
        "sent", [b"", b"GE", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\nHost: a\r\n\r"]
    )
    async def test_client_that_leaves_inside_its_head_reaches_nobody(self, leaves_nothing, sent, leave):
        async with leaves_nothing([]) as b:
            peer = await b.connect()
            await peer.send(sent)
            getattr(peer, leave)()
            await b.settled()
            assert b.recorder.connections == 0

    @pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\nHost: a\r\n"])
    async def test_head_that_does_not_come_to_an_end_is_a_408(self, leaves_nothing, sent):
        async with leaves_nothing([], **QUICK) as b:
            answer = await b.exchange(sent)
            assert (answer.status, answer.is_protected, answer.end) == (408, True, "closed")
            assert b.recorder.connections == 0

    @pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\nhello", CHUNKS + b"a\r\nhello", CHUNKS])
    async def test_content_that_does_not_come_to_an_end_is_a_408(self, leaves_nothing, framing):
        async with leaves_nothing(["hold"], reads_content=False, **QUICK) as b:
            answer = await b.exchange(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing)
            await within_bounds(b.ended.wait())
            assert (answer.status, answer.is_protected, answer.end) == (408, True, "closed")
            assert b.gateway.stats.upstream_errors == {}

    @pytest.mark.parametrize(
        "framing", [b"Content-Length: 100000000\r\n\r\n", CHUNKS + b"5f5e100\r\n", b"\r\n"]
    )
    async def test_client_that_never_reads_is_broken_off(self, leaves_nothing, framing):
        """Not buffered for: the upstream is paused, and after the idle time-out both are let go."""
        async with leaves_nothing([STATUS_LINE + framing, "flood"], **QUICK) as b:
            peer = await b.connect()
            peer.writer.transport.pause_reading()
            await peer.send(REQUESTS["GET"])
            await within_bounds(b.ended.wait())
            assert b.gateway.stats.upstream_errors == {}
            assert b.gateway.stats.client_errors == {"client_stalled": 1}

    @pytest.mark.parametrize("framing", ["fixed", "chunked", "until close"])
    @pytest.mark.parametrize("name", ["GET", "HTTP/1.0"])
    async def test_client_that_reads_slowly_gets_everything(self, leaves_nothing, monkeypatch, name, framing):
        """What is written and not yet taken outlives the exchange; the closing connection waits for it."""
        monkeypatch.setattr(client, "LINGER_S", 0.05)
        monkeypatch.setattr(request_reader, "LINGER_S", 0.05)
        content = b"x" * 40_000  # less than is read at once, more than the kernel holds here
        heads = {
            "fixed": b"Content-Length: 40000\r\n\r\n",
            "chunked": CHUNKS + b"9c40\r\n",
            "until close": b"\r\n",
        }
        last = {"fixed": b"", "chunked": b"\r\n0\r\n\r\n", "until close": b""}
        async with leaves_nothing([STATUS_LINE + heads[framing] + content + last[framing], "close"]) as b:
            b.gateway._servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(b.address)
            # Takes no more until it is asked.
            peer = Peer(*await asyncio.open_connection(sock=connection, limit=1))
            b._peers.append(peer)
            await peer.send(closing(REQUESTS[name]))
            if framing == "until close":  # the end is read when the client has taken what came before
                await until(lambda: any(connection.is_congested for connection in b.gateway.clients))
            else:
                await until(lambda: b.gateway.stats.requests != {})
            assert b.gateway.clients, "the kernel took everything: nothing is left to test"
            lingered_s = b.gateway.context.clock.now_s + 0.2
            await until(lambda: b.gateway.context.clock.now_s > lingered_s)
            answer = await peer.read_to_end()
            assert answer.end == "closed"
            assert answer.content.count(b"x") == len(content)
            assert b.gateway.stats.client_errors == {}

    @pytest.mark.parametrize("name", ["GET", "POST", "POST chunked"])
    async def test_garbage_after_a_request_is_a_400_after_its_response(self, leaves_nothing, name):
        async with leaves_nothing([STATUS_LINE + b"Content-Length: 2\r\n\r\nok", "hold"]) as b:
            answer = await b.exchange(REQUESTS[name] + b"\x16\x03\x01 garbage\r\n\r\n")
            assert answer.status == 200
            assert b"HTTP/1.1 400 Bad Request" in answer.data
            assert answer.end == "closed"
            assert len(b.recorder.heads) == 1


class Test_Tunnel_fails:
    @pytest.mark.parametrize("end", ["close", "reset"])
    async def test_end_of_the_upstream_ends_the_client(self, leaves_nothing, end):
        """After the bytes that came before it."""
        async with leaves_nothing([SWITCH + b"frame", "seen", b"last", end]) as b:
            peer = await b.connect()
            await peer.send(REQUESTS["upgrade"])
            await peer.read_until(b"frame")
            b.seen.set()
            if end == "close":
                assert await peer.read_until(b"last")
                peer.half_close()
            answer = await peer.read_to_end()
            assert answer.end == ("closed" if end == "close" else "reset")
            assert b.gateway.stats.tunnels_total == 1

    @pytest.mark.parametrize("leave", ["close", "reset"])
    async def test_end_of_the_client_ends_the_upstream(self, leaves_nothing, leave):
        async with leaves_nothing([SWITCH + b"frame", "hold"]) as b:
            peer = await b.connect()
            await peer.send(REQUESTS["upgrade"])
            await peer.read_until(b"frame")
            await peer.send(b"bytes")
            getattr(peer, leave)()
            await within_bounds(b.ended.wait())
            await b.settled()
            assert b.gateway.stats.tunnels == 0
            assert b.gateway.stats.upstream_errors == {}

    async def test_silence_in_both_directions_ends_it(self, leaves_nothing):
        async with leaves_nothing([SWITCH + b"frame", "hold"], **QUICK) as b:
            peer = await b.connect()
            await peer.send(REQUESTS["upgrade"])
            await peer.read_until(b"frame")
            assert (await peer.read_to_end()).end == "reset"
            await within_bounds(b.ended.wait())


# What the cases stand on


class FaultyBench(Bench):
    """A bench whose upstream misbehaves on its first connection and is well on every later one.

    Attributes:
        seen: set by a test, awaited by the step `seen`.
        asked: the first request's head (and content, if it is read) is with the upstream.
        ended: the gateway has ended its connection to the faulty upstream.
        received: what came on that connection after the head.
    """

    seen: asyncio.Event
    asked: asyncio.Event
    ended: asyncio.Event
    received: bytes


@pytest.fixture
def leaves_nothing(caplog: pytest.LogCaptureFixture) -> Callable[..., Any]:
    """Make a bench, and hold against it afterwards that nothing is left of its exchanges."""

    @asynccontextmanager
    async def run(
        steps: list[Step] | Callable[[Peer], Awaitable[None]], *, reads_content: bool = True, **settings: Any
    ) -> AsyncIterator[FaultyBench]:
        caplog.set_level(logging.INFO)
        before = await resources()
        faulty: list[FaultyBench] = []

        async def script(peer: Peer) -> None:
            if faulty[0].recorder.connections > 1:
                await answering()(peer)
            elif callable(steps):
                await steps(peer)
            else:
                await misbehave(faulty[0], peer, steps, reads_content=reads_content)

        async with bench(script, **settings) as b:
            b.__class__ = FaultyBench
            assert isinstance(b, FaultyBench)
            b.seen, b.asked, b.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
            b.received = b""
            faulty.append(b)
            yield b
            b.close_clients()
            await b.settled()
            stats = b.gateway.stats
            assert stats.in_flight == stats.tunnels == stats.client_connections == 0
            assert stats.upstream_connections == len(b.gateway.pool._idle), "a connection that no pool knows"
            assert not b.gateway.pool._attempts
            b.gateway.pool.close()
            await until(lambda: stats.upstream_connections == 0)
        # A reset that a test's own stream was told of twice is reported by asyncio whenever it collects garbage.
        complaints = [
            record.getMessage()
            for record in caplog.records
            if record.exc_info or record.levelno > logging.INFO
        ]
        assert not [
            text for text in complaints if not text.startswith("Future exception was never retrieved")
        ]
        await until_settled(before)

    return run


async def misbehave(b: FaultyBench, peer: Peer, steps: list[Step], *, reads_content: bool) -> None:
    """Be the faulty upstream."""
    head = await peer.read_head()
    b.recorder.heads.append(head)
    if reads_content:
        await peer.read_content(head)
    b.asked.set()
    try:
        for step in steps:
            if isinstance(step, bytes):
                await peer.send(step)
            elif step == "seen":
                await b.seen.wait()
            elif step == "reset":
                peer.reset()
            elif step == "flood":
                while True:
                    await peer.send(b"x" * 65536)
            elif step == "hold":
                while data := await peer.reader.read(65536):
                    b.received += data
    finally:
        b.ended.set()


def closing_under_the_second_request() -> Callable[[Peer], Awaitable[None]]:
    """An upstream whose connection lasts for one response; it ends when the second request has arrived."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(STATUS_LINE + b"Content-Length: 2\r\n\r\nok")
        peer.recorder.heads.append(await peer.read_head())

    return script


def closing_after_uploads() -> Callable[[Peer], Awaitable[None]]:
    """An upstream that keeps a connection until it was sent content, and then closes it as the next request comes."""

    async def script(peer: Peer) -> None:
        content = b""
        while not content:
            content = await peer.read_content(await peer.reader.readuntil(b"\r\n\r\n"))
            await peer.send(STATUS_LINE + b"Content-Length: 2\r\n\r\nok")
        await peer.read_head()

    return script


def closing(request: bytes) -> bytes:
    """The request, asking for a close afterwards."""
    if b"Connection: Upgrade" in request:
        return request.replace(b"Connection: Upgrade", b"Connection: Upgrade, close")
    return request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def dechunked(content: bytes) -> bytes:
    """The content without the chunked coding, if it is in it; it has one chunk at most."""
    return content.split(b"\r\n")[1] if content.endswith(b"\r\n0\r\n\r\n") else content


async def resources() -> tuple[set[str], int]:
    """Sockets of this process, and tasks of this loop."""
    await asyncio.sleep(0)
    sockets = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith("socket:"):
            sockets.add(target)
    return sockets, len(asyncio.all_tasks())


async def until_settled(before: tuple[set[str], int]) -> None:
    """Wait until there are no more sockets and tasks than before."""
    after = await resources()
    try:
        async with asyncio.timeout(LIMIT_S):
            while not after[0] <= before[0] or after[1] > before[1]:
                await asyncio.sleep(0.01)
                after = await resources()
    except TimeoutError:
        pytest.fail(f"left behind: sockets {after[0] - before[0]}, tasks {after[1] - before[1]}")


async def within_bounds(awaitable: Awaitable[Any]) -> None:
    """Await; hangs fail the test."""
    async with asyncio.timeout(LIMIT_S):
        await awaitable
