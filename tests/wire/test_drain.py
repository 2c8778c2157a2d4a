"""Drain: nothing new is taken, what is under way ends, what does not end in time is broken off and counted.

`tests/service/test_serve.py` has the same for a process and its signals.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.gateway import Bench, bench
from tests.support.peer import XHR_LINE, Answer, Peer
from tests.support.waiting import LIMIT_S, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
LONG_S = 60.0  # a drain that waits so long hangs its test: it has to end before


class App:
    """Answers when it may; a target that begins with `/begun` gets its head and half of its content at once.

    Attributes:
        may_end: lets all responses end.
        targets: of the requests that came.
    """

    def __init__(self, half: bytes = b"Content-Length: 10\r\n\r\nhello", rest: bytes = b"again") -> None:
        self.half, self.rest = HEAD + half, rest
        self.may_end = asyncio.Event()
        self.targets: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ")[1]
            self.targets.append(target)
            if target == b"/ws":
                await peer.send(SWITCH)
                while data := await peer.reader.read(65536):
                    await peer.send(data)
                return
            if target == b"/begun":
                await peer.send(self.half)
            if target != b"/quick":
                await self.may_end.wait()
            await peer.send(self.rest if target == b"/begun" else self.half + self.rest)


@asynccontextmanager
async def draining(b: Bench, timeout_s: float = LONG_S) -> AsyncIterator[asyncio.Task[int]]:
    """Begin to drain; the task has how many exchanges were broken off."""
    task = asyncio.create_task(b.gateway.drain(timeout_s))
    await until(lambda: b.gateway.context.is_draining)
    yield task
    if not task.done():
        b.close_clients()
        await task


async def result(task: asyncio.Task[int]) -> int:
    async with asyncio.timeout(LIMIT_S):
        return await task


@pytest.fixture
def app() -> App:
    return App()


async def asked(b: Bench, app: App, target: bytes, request: bytes = GET) -> Peer:
    """A client whose request is with the app."""
    count = len(app.targets)
    peer = await b.connect()
    await peer.send(request.replace(b" / ", b" " + target + b" "))
    await until(lambda: len(app.targets) > count)
    return peer


async def test_connection_at_rest_is_closed_at_once_and_without_a_word(app):
    """A new one, one that was served, and the app's; and with the last one the drain is over."""
    async with bench(app) as b:
        new = await b.connect()
        served = await asked(b, app, b"/quick")
        assert (await served.read_response()).status == 200
        await until(lambda: len(b.gateway.clients) == 2)
        assert b.gateway.stats.upstream_connections == 1
        async with draining(b) as drain:
            assert await new.read_to_end() == Answer(b"", "closed")
            assert await served.read_to_end() == Answer(b"", "closed")
            assert await result(drain) == 0
        await until(lambda: b.gateway.stats.upstream_connections == 0)


async def test_without_connections_is_over_at_once(app):
    async with bench(app) as b, draining(b) as drain:
        assert await result(drain) == 0


async def test_new_connection_is_refused_while_another_is_still_served(app):
    async with bench(app) as b:
        peer = await asked(b, app, b"/slow")
        async with draining(b):
            with pytest.raises(ConnectionError):
                await b.connect()
            app.may_end.set()
            assert (await peer.read_to_end()).status == 200


async def test_response_not_yet_begun_says_that_the_connection_closes(app):
    """And is enforced on as before; the app's connection is not kept either."""
    async with bench(app) as b:
        peer = await asked(b, app, b"/slow")
        async with draining(b) as drain:
            assert not drain.done()
            app.may_end.set()
            answer = await peer.read_to_end()
            assert (answer.status, answer.content, answer.end) == (200, b"helloagain", "closed")
            assert (answer.field("Connection"), answer.is_protected) == ([b"close"], True)
            assert await result(drain) == 0
        await until(lambda: b.gateway.stats.upstream_connections == 0)
        assert b.gateway.stats.client_errors == b.gateway.stats.upstream_errors == {}


@pytest.mark.parametrize(
    ("half", "rest"),
    [
        (b"Content-Length: 10\r\n\r\nhello", b"again"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"5\r\nagain\r\n0\r\n\r\n"),
    ],
)
async def test_response_under_way_is_finished_and_its_connection_closed(half, rest):
    """Also where its head could not yet say so; a pipelined request after it is not begun."""
    app = App(half, rest)
    async with bench(app) as b:
        peer = await asked(b, app, b"/begun", GET + GET.replace(b" / ", b" /pipelined "))
        await peer.read_until(b"hello")
        async with draining(b) as drain:
            app.may_end.set()
            answer = await peer.read_to_end()
            assert (answer.data.removeprefix(b"\r\n"), answer.end) == (rest, "closed")
            assert await result(drain) == 0
        assert app.targets == [b"/begun"]


async def test_request_whose_head_has_begun_is_served(app):
    """It may have been sent before anyone knew: it is answered, and told that this was the last."""
    async with bench(app) as b:
        peer = await b.connect()
        await peer.send(GET[:30].replace(b" / ", b" /quick "))
        await until(lambda: any(client._buffer for client in b.gateway.clients))
        async with draining(b) as drain:
            await peer.send(GET[30:])
            answer = await peer.read_to_end()
            assert (answer.status, answer.field("Connection")) == (200, [b"close"])
            assert await result(drain) == 0


async def test_request_whose_content_is_coming_is_served(app):
    async with bench(app) as b:
        peer = await asked(b, app, b"/slow", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        async with draining(b) as drain:
            await peer.send(b"again")
            await until(lambda: all(client.exchange._request_complete for client in b.gateway.clients))
            app.may_end.set()
            answer = await peer.read_to_end()
            assert (answer.status, answer.field("Connection")) == (200, [b"close"])
            assert await result(drain) == 0


async def test_own_answer_during_the_drain_says_that_the_connection_closes():
    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        asked.set()
        await ends.wait()

    asked, ends = asyncio.Event(), asyncio.Event()
    async with bench(upstream) as b:
        peer = await b.connect()
        await peer.send(GET)
        await asked.wait()
        async with draining(b) as drain:
            ends.set()
            answer = await peer.read_to_end()
            assert (answer.status, answer.is_protected, answer.field("Connection")) == (502, True, [b"close"])
            assert await result(drain) == 0


FRAME = b"\x81\x85\0\0\0\0hello"  # of a client: text, masked with noughts
GOING_AWAY = b"\x88\x02\x03\xe9"


async def test_websocket_is_closed_between_two_frames(app):
    """Issue 16.13: with code 1001, at once when no frame is under way, else when it is whole."""
    async with bench(app) as b:
        at_rest, within_a_frame = [await asked(b, app, b"/ws", UPGRADE) for _ in range(2)]
        for peer in (at_rest, within_a_frame):
            await peer.read_head()
        await within_a_frame.send(FRAME[:8])
        assert await within_a_frame.read_exactly(8) == FRAME[:8]
        async with draining(b) as drain:
            assert await at_rest.read_to_end() == Answer(GOING_AWAY, "closed")
            assert not drain.done()
            await within_a_frame.send(FRAME[8:])
            answer = await within_a_frame.read_to_end()
            assert answer == Answer(FRAME[8:] + GOING_AWAY, "closed")
            assert await result(drain) == 0
        assert b.gateway.stats.proxy_errors == {"drained": 2}


async def test_other_tunnel_is_closed_when_no_byte_has_passed_for_a_tick(app):
    async with bench(app) as b:
        peer = await asked(b, app, b"/ws", UPGRADE.replace(b"websocket", b"websocket, other"))
        await peer.read_head()
        await peer.send(b"bytes")
        assert await peer.read_exactly(5) == b"bytes"
        async with draining(b) as drain:
            assert await peer.read_to_end() == Answer(b"", "closed")
            assert await result(drain) == 0


async def test_tunnel_that_has_half_closed_is_not_written_to_again(app):
    async with bench(app) as b:
        peer = await asked(b, app, b"/ws", UPGRADE)
        await peer.read_head()
        peer.half_close()
        async with draining(b) as drain:
            assert (await peer.read_to_end()).end == "closed"
            assert await result(drain) == 0


@pytest.mark.parametrize("half", [b"Content-Length: 10\r\n\r\nhello", b"\r\nhello"])
async def test_what_does_not_end_in_time_is_broken_off_and_counted(half):
    """Responses waited for, responses begun, requests still coming, tunnels: resets, never a clean end; no app is blamed."""
    app = App(half)
    async with bench(app) as b:
        waiting = await asked(b, app, b"/slow")
        begun = await asked(b, app, b"/begun")
        await begun.read_until(b"hello")
        coming = await asked(b, app, b"/slow", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nh")
        tunnel = await asked(b, app, b"/ws", UPGRADE)
        await tunnel.read_head()
        await tunnel.send(FRAME[:3])  # which never becomes a whole one
        assert await tunnel.read_exactly(3) == FRAME[:3]
        half_a_head = await b.connect()
        await half_a_head.send(GET[:20])
        await until(lambda: any(client._buffer == GET[:20] for client in b.gateway.clients))
        async with draining(b, 0.05) as drain:
            assert await result(drain) == 4
            for peer in (waiting, begun, coming, tunnel):
                answer = await peer.read_to_end()
                assert answer.end == "reset"
                assert answer.data in (b"", b"\r\n")  # the chunk's end that the last read left behind
            assert (await half_a_head.read_to_end()).data == b""
        await b.settled()
        stats = b.gateway.stats
        await until(lambda: stats.upstream_connections == 0)
        assert stats.proxy_errors == {"drained": 4}
        assert stats.upstream_errors == {}
        assert stats.tunnels == stats.in_flight == 0


async def test_attempt_to_connect_is_given_up_with_the_drain(app, monkeypatch):
    """No task outlives it."""
    async with bench(app) as b:

        async def never() -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(b.gateway.pool, "open", never, raising=True)
        peer = await b.connect()
        await peer.send(GET)
        await until(lambda: b.gateway.pool._attempts)
        async with draining(b, 0.05) as drain:
            assert await result(drain) == 1
            assert (await peer.read_to_end()).end == "reset"
        await until(lambda: not b.gateway.pool._attempts)


async def test_close_breaks_off_at_once(app):
    """What a second signal does."""
    async with bench(app) as b:
        peer = await asked(b, app, b"/begun")
        await peer.read_until(b"hello")
        resting = await b.connect()
        await until(lambda: len(b.gateway.clients) == 2)
        async with draining(b) as drain:
            b.gateway.close()
            assert (await peer.read_to_end()).end == "reset"
            assert (await resting.read_to_end()).data == b""
            assert await result(drain) == 0  # none is left to be broken off
        assert b.gateway.stats.proxy_errors == {"drained": 1}
