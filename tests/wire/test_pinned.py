"""Connections that the app authenticates, issue 14.2: NTLM and Negotiate, RFC 4559.

Such a connection belongs to the client's connection on which that happened: nobody else gets it, and both live and die
together.
"""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from tests.support.gateway import bench
from tests.support.peer import Peer
from tests.support.waiting import until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: %b\r\nContent-Length: 2\r\n\r\nno"


def ok(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content


class Ntlm:
    """An app that knows its users by their connections: a handshake of two steps, then no credentials any more."""

    def __init__(self, scheme: bytes = b"NTLM") -> None:
        self._scheme = scheme
        self._numbers = count(1)
        self.closes_when_told = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        number = next(self._numbers)
        user = b""
        while head := await peer.read_head():
            token = head.partition(b"Authorization: " + self._scheme + b" ")[2].partition(b"\r\n")[0]
            if token.startswith(b"user-"):
                user = token
            if b"/close" in head:
                await peer.send(ok(b"bye"))
                await self.closes_when_told.wait()
                return
            if b"HEAD" in head:
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            elif b"/empty" in head:
                await peer.send(b"HTTP/1.1 304 Not Modified\r\n\r\n")
            elif not user:
                await peer.send(CHALLENGE % (self._scheme + b" step" if token else self._scheme))
            else:
                await peer.send(ok(user + b" on %d" % number))


async def ask(peer: Peer, *fields: bytes, start: bytes = GET) -> bytes:
    await peer.send(start + b"".join(field + b"\r\n" for field in fields) + b"\r\n")
    return (await peer.read_response()).content


async def log_in(peer: Peer, user: bytes, scheme: bytes = b"NTLM") -> bytes:
    assert await ask(peer) == b"no"
    assert await ask(peer, b"Authorization: " + scheme + b" hello") == b"no"
    return await ask(peer, b"Authorization: " + scheme + b" user-" + user)


@pytest.mark.parametrize("scheme", [b"NTLM", b"Negotiate"])
async def test_handshake_works_and_nobody_else_gets_in(scheme):
    async with bench(Ntlm(scheme), upstream_keepalive_timeout_s=60) as b:
        alice, bob = await b.connect(), await b.connect()
        assert await log_in(alice, b"alice", scheme) == b"user-alice on 1"
        assert await ask(bob) == b"no"
        assert await log_in(await b.connect(), b"carol", scheme) == b"user-carol on 3"
        # IE sends no credentials any more on a connection that is authenticated.
        assert await ask(alice) == b"user-alice on 1"
        assert await ask(bob) == b"no"


async def test_credentials_that_come_unasked_pin_it_too():
    """A browser that knows the site sends them with the first request."""
    async with bench(Ntlm(), upstream_keepalive_timeout_s=60) as b:
        alice = await b.connect()
        assert await ask(alice, b"Authorization: NTLM user-alice") == b"user-alice on 1"
        assert await ask(await b.connect()) == b"no"
        assert await ask(alice) == b"user-alice on 1"


async def test_client_that_leaves_takes_its_connection_along():
    async with bench(Ntlm(), upstream_keepalive_timeout_s=60) as b:
        alice = await b.connect()
        await log_in(alice, b"alice")
        assert b.gateway.stats.upstream_connections == 1
        alice.close()
        await until(lambda: not b.gateway.stats.upstream_connections)


async def test_app_that_closes_it_closes_the_client_s():
    """Else the client would go on as somebody whom the app no longer knows."""
    app = Ntlm()
    async with bench(app, upstream_keepalive_timeout_s=60) as b:
        alice = await b.connect()
        await log_in(alice, b"alice")
        assert await ask(alice, start=b"GET /close HTTP/1.1\r\nHost: a\r\n") == b"bye"
        app.closes_when_told.set()
        assert (await alice.read_to_end()).data == b""


async def test_it_rests_for_as_long_as_the_client_does(hands):
    """Its client may come back after longer than connections of the app rest otherwise."""
    async with bench(Ntlm(), upstream_keepalive_timeout_s=1.5) as b:
        alice = await b.connect()
        await log_in(alice, b"alice")
        await hands.forward(b, 60)
        assert await ask(alice) == b"user-alice on 1"


async def test_answer_without_content_keeps_it_and_one_to_head_ends_both():
    """Late content could only reach its own client; after HEAD it is too likely."""
    async with bench(Ntlm(), upstream_keepalive_timeout_s=60) as b:
        alice = await b.connect()
        await log_in(alice, b"alice")
        await alice.send(b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await alice.read_head()).startswith(b"HTTP/1.1 304")
        assert await ask(alice) == b"user-alice on 1"
        await alice.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await alice.read_to_end()
        assert answer.field("Connection") == [b"close"]
        await until(lambda: not b.gateway.stats.upstream_connections)


async def test_others_do_not_wait_for_a_handshake():
    async with bench(Ntlm(), upstream_keepalive_timeout_s=60) as b:
        alice, bob = await b.connect(), await b.connect()
        assert await ask(alice) == b"no"  # and her browser asks her for a password
        assert await log_in(bob, b"bob") == b"user-bob on 2"
