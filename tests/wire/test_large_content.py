"""Large content of responses: read into one buffer for all, and sent from there (`proxy.gateway.read_buffer`).

What could go wrong with that: a client gets another one's bytes, or bytes that were read over before they were
sent; or one that takes nothing holds more of the memory than it may. `test_fuzz.py` has the same with sockets that
take some of it.
"""

from __future__ import annotations

import asyncio

import pytest

from proxy.gateway.read_buffer import SMALL_BYTES
from tests.support.gateway import Bench, bench
from tests.support.peer import Peer
from tests.support.streams import MIB, narrow_listening, narrow_socket, send_megabytes
from tests.support.upstream import answering
from tests.support.waiting import LIMIT_S, until

ASK = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def head(size: int) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % size


def numbered(owner: int, size: int) -> bytes:
    """Content that says at every eighth byte whose it is and how far it has come."""
    return b"".join(b"%d%07d" % (owner, number) for number in range(size // 8 + 1))[:size]


async def serve_numbered(peer: Peer, size: int = 3 * MIB) -> None:
    """Answer `GET /N` with content numbered for N, all at once."""
    while True:
        owner = int((await peer.reader.readuntil(b"\r\n\r\n")).split(b" ")[1][1:])
        await peer.send(head(size) + numbered(owner, size))


def relayed(b: Bench) -> int:
    """How much content is on its way to clients, or there."""
    exchanges = [client.exchange for client in b.gateway.clients if client.exchange is not None]
    return sum(exchange._record.bytes_out for exchange in exchanges)


async def read_slowly(peer: Peer, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += await peer.read_exactly(min(100_000, size - len(content)))
        await asyncio.sleep(0.002)
    return content


async def test_each_of_many_clients_gets_its_own_bytes():
    """Some take all at once, some little by little, so that reads of others come between; twice each."""
    size = 3 * MIB
    async with bench(serve_numbered) as b:
        first_buffer = b.gateway.context.inbox.buffer
        peers = [await b.connect() for _ in range(8)]
        await until(lambda: len(b.gateway.clients) == len(peers))
        slow = {peer.writer.get_extra_info("sockname") for peer in peers[::2]}
        for client in b.gateway.clients:
            if client.transport.get_extra_info("peername") in slow:
                narrow_socket(client.transport)

        async def exchange(number: int, peer: Peer) -> None:
            for _ in range(2):
                await peer.send(ASK % number)
                await peer.read_head()
                content = await (read_slowly if number % 2 == 0 else Peer.read_exactly)(peer, size)
                assert content == numbered(number, size), f"not its own bytes: client {number}"

        async with asyncio.timeout(3 * LIMIT_S):
            await asyncio.gather(*(exchange(number, peer) for number, peer in enumerate(peers)))
        assert b.gateway.context.inbox.buffer is first_buffer, "a buffer was left to a slow client"


@pytest.mark.parametrize("size", [SMALL_BYTES - len(head(SMALL_BYTES)), SMALL_BYTES, MIB, 2 * MIB + 1])
async def test_connection_serves_the_next_request(size):
    """Large, small and large again, on one upstream connection."""
    small = head(2) + b"ok"
    large = head(size) + numbered(1, size)
    async with bench(answering(large, small, large), upstream_keepalive_timeout_s=60) as b:
        peer = await b.connect()
        for content in (numbered(1, size), b"ok", numbered(1, size)):
            await peer.send(ASK % 1)
            assert (await peer.read_response()).content == content
        assert b.recorder.connections == 1


@pytest.mark.parametrize("more", [1, 300_000], ids=["a byte", "a buffer full"])
async def test_what_follows_it_reaches_nobody(more):
    """Not the client of the response, and not the next one."""
    size = MIB + 10

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(head(size) + numbered(1, size) + b"!" * more)
        await peer.reader.read()

    async with bench(upstream) as b:
        peer = await b.connect()
        for connections in (1, 2):
            await peer.send(ASK % 1)
            assert (await peer.read_response()).content == numbered(1, size)
            assert b.recorder.connections == connections


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_upstream_that_goes_away_amid_it_breaks_the_response(end):
    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(head(8 * MIB) + numbered(1, MIB))
        await until(lambda: relayed(b) == MIB)
        if end == "reset":
            peer.reset()

    async with bench(upstream) as b:
        answer = await b.exchange(ASK % 1)
        assert answer.end == "reset"
        assert numbered(1, MIB).startswith(answer.content)
        assert b.gateway.stats.upstream_errors == {"upstream_truncated": 1}
        assert b.gateway.stats.upstream_connections == 0


async def test_client_that_leaves_amid_it_frees_the_upstream():
    is_over = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(head(8 * MIB) + bytes(MIB))
        try:
            await peer.reader.read()
        finally:
            is_over.set()

    async with bench(upstream) as b:
        peer = await b.connect()
        await peer.send(ASK % 1)
        await until(lambda: relayed(b) == MIB)
        peer.close()
        async with asyncio.timeout(LIMIT_S):
            await is_over.wait()
        await b.settled()
        assert b.gateway.stats.upstream_connections == 0


async def test_pieces_are_passed_on_as_they_come():
    """Whoever announces a lot may still send it little by little; each byte puts the time-out off."""
    seen = asyncio.Queue[None]()
    begun = 2 * SMALL_BYTES

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(head(8 * MIB) + bytes(begun))
        for number in range(5):
            await seen.get()
            await peer.send(b"piece %d" % number)
        await seen.get()

    async with bench(upstream) as b:
        peer = await b.connect()
        await peer.send(ASK % 1)
        await peer.read_head()
        await peer.read_exactly(begun)
        for number in range(5):
            seen.put_nowait(None)
            assert await peer.read_exactly(7) == b"piece %d" % number


async def test_time_out_counts_from_the_last_piece(hands):
    goes_on = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(head(8 * MIB) + bytes(MIB))
        await goes_on.wait()
        await peer.send(bytes(MIB))
        await peer.reader.read()

    async with bench(upstream, idle_timeout_s=100) as b:
        peer = await b.connect()
        await peer.send(ASK % 1)
        await peer.read_head()
        await peer.read_exactly(MIB)
        await hands.forward(b, 90)
        goes_on.set()
        await peer.read_exactly(MIB)
        await hands.forward(b, 90)
        assert b.gateway.stats.in_flight == 1
        await hands.forward(b, 20)
        assert (await peer.read_to_end()).end == "reset"
        assert b.gateway.stats.upstream_errors == {"upstream_stalled": 1}


FRAMINGS = {
    "fixed": (head(64 * MIB), bytes(MIB)),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n", (b"2000\r\n" + bytes(8192) + b"\r\n") * 128),
    "tiny chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 50_000),
    "until close": (OK + b"\r\n", bytes(MIB)),
    "tunnel": (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n",
        bytes(MIB),
    ),
}


@pytest.mark.parametrize("socket_bytes", [4096, 16_384, 200_000])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_client_that_takes_nothing_holds_64_kib_at_the_most(framing, socket_bytes):
    """However much of it the operating system keeps: 510 such clients stopped a pod."""
    begin, more = FRAMINGS[framing]

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(begin)
        while True:
            peer.writer.write(more)
            await peer.writer.drain()

    async with bench(upstream) as b:
        narrow_listening(b, socket_bytes)
        peer = await b.connect()
        narrow_socket(peer.writer, 16_384)
        peer.writer.transport.pause_reading()
        first_buffer = b.gateway.context.inbox.buffer
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        await until(lambda: any(client.is_congested for client in b.gateway.clients))
        (client,) = b.gateway.clients
        unsent, before = client.transport.get_write_buffer_size(), -1
        # The last of it may still find a place in the kernel.
        while unsent != before or not client.is_congested:
            assert unsent <= SMALL_BYTES + 1024
            await asyncio.sleep(0.05)
            unsent, before = client.transport.get_write_buffer_size(), unsent
        assert unsent > 0
        assert b.gateway.context.inbox.buffer is first_buffer


async def test_upload_waits_for_an_upstream_that_answers_at_length_before_it_reads():
    reads_on = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        narrow_socket(peer.writer)
        await peer.read_head()
        peer.writer.transport.pause_reading()
        await peer.send(head(8 * MIB) + bytes(MIB))
        await reads_on.wait()
        peer.writer.transport.resume_reading()
        await peer.read_exactly(32 * MIB)
        await peer.send(bytes(7 * MIB))

    async with bench(upstream) as b:
        peer = await b.connect()
        await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (32 * MIB))
        await peer.read_head()
        await peer.read_exactly(MIB)
        sending = asyncio.create_task(send_megabytes(peer, 32, chunked=False))
        (client,) = b.gateway.clients
        await until(lambda: client.is_paused_by("upstream"))
        reads_on.set()
        await peer.read_exactly(7 * MIB)
        async with asyncio.timeout(LIMIT_S):
            await sending
