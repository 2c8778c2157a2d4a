"""What fails in the gateway itself: in the log with its traceback, counted, and answered like a failure of the app.

No response to a matching request leaves unprotected, whoever made it. The alert
`NocacheProxyInternalErrors` goes by this count.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from proxy.gateway.upstream import UpstreamConnection
from tests.support.gateway import bench
from tests.support.peer import Peer
from tests.support.streams import MIB
from tests.support.upstream import answering
from tests.support.waiting import until

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
INTERNAL = {"internal_error": 1}


class Broken:
    """Stands where something is needed, and fails whoever uses it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.fixture
def tracebacks(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)
    return lambda: [
        record for record in caplog.records if record.exc_info and record.name.startswith("proxy.")
    ]


@pytest.mark.parametrize(
    "part",
    [
        "take",
        pytest.param("requests", marks=pytest.mark.interpreted),
        pytest.param("responses", marks=pytest.mark.interpreted),
    ],
)
async def test_request_is_answered(monkeypatch, tracebacks, part):
    """Before there is an exchange, when it begins, and when its response comes; the next one is served."""
    async with bench() as b:
        b.may_fail = True
        with monkeypatch.context() as broken:
            broken.setattr(b.gateway.pool if part == "take" else b.gateway.context, part, Broken())
            peer = await b.connect()
            await peer.send(ASK)
            # Nobody knows what else of the connection is not as it should be.
            answer = await peer.read_to_end()
            assert answer.status == 502
            assert answer.is_protected
            assert answer.field("Proxy-Status") == [b"nocache-proxy; error=proxy_internal_error"]
        assert len(tracebacks()) == 1
        assert b.gateway.stats.proxy_errors == INTERNAL
        assert b.gateway.stats.in_flight == 0
        peer = await b.connect()
        await peer.send(ASK)
        assert (await peer.read_response()).content == b"ok"


@pytest.mark.interpreted
async def test_request_that_waits_for_a_connection_is_answered(monkeypatch, tracebacks):
    """In the task that opens one, and where it is handed over."""
    async with bench() as b:
        b.may_fail = True
        for broken_part in ("open", "hand over"):
            with monkeypatch.context() as broken:
                if broken_part == "open":
                    broken.setattr(b.gateway.pool, "open", Broken())
                else:
                    broken.setattr(UpstreamConnection, "send_head", Broken())
                peer = await b.connect()
                await peer.send(ASK)
                answer = await peer.read_to_end()
            assert (answer.status, answer.is_protected) == (502, True)
        assert b.gateway.stats.proxy_errors == {"internal_error": 2}
        assert len(tracebacks()) == 2
        await until(lambda: not b.gateway.stats.upstream_connections)


@pytest.mark.interpreted
async def test_request_that_was_pipelined_is_answered(monkeypatch, tracebacks):
    """It is read when the one before it is done, not when it comes."""
    goes_on = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await goes_on.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await peer.read_head()

    async with bench(upstream) as b:
        b.may_fail = True
        peer = await b.connect()
        await peer.send(ASK + ASK)
        await until(lambda: b.gateway.stats.upstream_connections)
        with monkeypatch.context() as broken:
            broken.setattr(b.gateway.context, "requests", Broken())
            goes_on.set()
            assert (await peer.read_response()).content == b"ok"
            answer = await peer.read_to_end()
        assert (answer.status, answer.is_protected) == (502, True)
        assert len(tracebacks()) == 1


@pytest.mark.parametrize("size", [1000, 8 * MIB])
async def test_response_under_way_is_broken_off(monkeypatch, tracebacks, size):
    """Read by the connection itself, or past it."""
    goes_on = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size // 2))
        await goes_on.wait()
        await peer.send(bytes(size - size // 2))

    async with bench(upstream) as b:
        b.may_fail = True
        peer = await b.connect()
        await peer.send(ASK)
        await peer.read_head()
        await peer.read_exactly(size // 2)
        with monkeypatch.context() as broken:
            broken.setattr(b.gateway.context, "clock", Broken())
            goes_on.set()
            assert (await peer.read_to_end()).end == "reset"
            await until(lambda: not b.gateway.stats.in_flight)
        assert len(tracebacks()) == 1
        assert b.gateway.stats.proxy_errors == INTERNAL


async def test_request_under_way_is_answered(monkeypatch, tracebacks):
    async with bench(answering()) as b:
        b.may_fail = True
        peer = await b.connect()
        await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        await until(lambda: b.gateway.stats.upstream_connections)
        with monkeypatch.context() as broken:
            broken.setattr(b.gateway.context, "settings", Broken())
            await peer.send(b"cd")
            await until(tracebacks)
        answer = await peer.read_to_end()
        assert (answer.status, answer.is_protected) == (502, True)
        assert b.gateway.stats.proxy_errors == INTERNAL
