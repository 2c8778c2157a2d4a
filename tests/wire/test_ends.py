"""Connections that end early, or not when expected: what was said before is heard, and nothing is taken for what it is not.

Found by a review of the data path; each of these failed before.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest

from tests.support.gateway import bench
from tests.support.peer import Peer
from tests.support.streams import MIB, narrow_listening, narrow_socket
from tests.support.waiting import LIMIT_S, until

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def test_client_that_left_before_it_was_accepted_is_nobody_to_trust():
    """The system does not know its address any more: it could be taken for a trusted peer on a Unix socket."""
    async with bench(trusted_proxies=()) as b:
        peer = await b.connect()
        await peer.send(ASK)
        await peer.read_response()
        for _ in range(10):
            with socket.create_connection(b.address) as gone:  # the loop does not turn meanwhile
                gone.sendall(
                    b"POST /forged HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 0\r\n\r\n"
                )
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        await until(lambda: b.gateway.stats.client_connections_total == 11)
        await peer.send(ASK)
        await peer.read_response()
        assert [head for head in b.recorder.heads if b"10.0.0.1" in head] == []


async def test_early_answer_to_an_upload_is_passed_on_when_the_app_leaves_the_rest_unread():
    """The app's close is a reset then, which is met in a write, before its answer is read."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        async with bench(upstream=f"http://127.0.0.1:{listening.getsockname()[1]}") as b:
            peer = await b.connect()
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            app, _ = await loop.sock_accept(listening)
            await loop.sock_recv(app, 65536)
            # The loop does not turn meanwhile: it finds all of this at once, the client's bytes first.
            os.write(peer.writer.get_extra_info("socket").fileno(), bytes(50_000))
            app.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
            app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            app.close()
            answer = await peer.read_response()
            assert (answer.status, answer.content) == (413, b"large")
            assert not b.gateway.stats.upstream_errors


async def test_answer_that_ends_with_a_half_close_is_complete_although_the_upload_is_not():
    """Else the end waits until the rest of the request has left: for ever, as nobody reads it."""
    over = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        narrow_socket(peer.writer, 4096)
        await peer.read_head()
        await peer.send(b"HTTP/1.0 413 Too Large\r\n\r\nlarge")
        peer.half_close()
        await over.wait()

    async with bench(upstream) as b:
        peer = await b.connect()
        peer.writer.write(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (16 * MIB) + bytes(16 * MIB)
        )
        answer = await peer.read_to_end()
        over.set()
        assert answer.status == 413
        assert answer.content.endswith(b"large\r\n0\r\n\r\n")
        assert not b.gateway.stats.upstream_errors


@pytest.mark.parametrize("ends", ["at the end of the drain", "by time-out"])
async def test_response_that_its_client_did_not_take_has_no_clean_end(ends):
    """Whose end is that of the connection, it would look complete."""

    async def upstream(peer: Peer) -> None:
        size = int((await peer.read_head()).split(b" ")[1][1:])
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size)
        await peer.send(bytes(size) + b"\r\n0\r\n\r\n")

    sizes = range(100_000, 1_000_000, 30_000)  # of some, a little is left in the gateway when the app is done
    async with bench(upstream, idle_timeout_s=0.3) as b:
        narrow_listening(b)
        peers = [await b.connect() for _ in sizes]
        for peer, size in zip(peers, sizes, strict=True):
            narrow_socket(peer.writer)
            peer.writer.transport.pause_reading()
            await peer.send(b"GET /%d HTTP/1.0\r\nHost: a\r\n\r\n" % size)
        await until(lambda: b.gateway.stats.requests)
        await asyncio.sleep(0.1)
        if ends == "by time-out":
            async with asyncio.timeout(2 * LIMIT_S):
                while b.gateway.clients:
                    await asyncio.sleep(0.05)
        else:
            b.gateway.close()
        for peer, size in zip(peers, sizes, strict=True):
            peer.writer.transport.resume_reading()
            answer = await peer.read_to_end()
            assert (len(answer.content) == size) or answer.end == "reset"


async def test_app_has_its_idle_time_anew_once_a_slow_client_takes_more():
    """While the client takes nothing the app is not read; that time is not the app's."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * MIB + 4)
    goes_on = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(begun + bytes(8 * MIB))
        await goes_on.wait()
        await peer.send(b"last")

    async with bench(upstream) as b:
        peer = await b.connect()
        peer.writer.transport.pause_reading()
        await peer.send(ASK)
        await until(lambda: any(client.is_congested for client in b.gateway.clients))
        (client,) = b.gateway.clients
        peer.writer.transport.resume_reading()
        await peer.read_head()
        await peer.read_exactly(4 * MIB)
        await until(lambda: not client.is_congested)
        # As it would stand after nearly all of the idle time.
        client.deadline_s = b.gateway.context.clock.now_s + 1
        client.pause_writing()
        client.resume_writing()
        assert client.deadline_s > b.gateway.context.clock.now_s + 200
        goes_on.set()
        assert (await peer.read_exactly(4 * MIB + 4)).endswith(b"last")


async def test_what_an_app_says_before_the_request_has_left_is_no_answer_to_it():
    """Some servers say 408 on a connection at rest; both arrive in one turn of the loop."""
    spoken: list[socket.socket] = []

    async def upstream(peer: Peer) -> None:
        spoken.append(peer.writer.get_extra_info("socket"))
        while True:
            await peer.read_head()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with bench(upstream) as b:
        peer = await b.connect()
        descriptor = peer.writer.get_extra_info("socket").fileno()
        for _ in range(20):
            await peer.send(ASK)
            assert (await peer.read_response()).content == b"ok"
            os.write(descriptor, ASK)  # the loop does not turn between these two
            os.write(spoken[-1].fileno(), b"HTTP/1.1 408 Unasked\r\nContent-Length: 4\r\n\r\nevil")
            assert (await peer.read_response()).content == b"ok"
