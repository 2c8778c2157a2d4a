"""Content in both directions: it is relayed as it comes, framed anew, and held back where a peer does not take it.

Streaming both ways with back-pressure, constant memory for any size, and an event that is at
the client as soon as it is at the gateway. `test_framing.py` has how it is framed.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket

import pytest

from proxy.gateway import clock, pool, request_reader
from tests.support.gateway import bench
from tests.support.peer import Peer
from tests.support.streams import (
    MIB,
    narrow_listening,
    narrow_socket,
    read_some,
    readable_bytes,
    send_megabytes,
)
from tests.support.upstream import answering, first_then_well
from tests.support.waiting import LIMIT_S, until

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CLOSE = b"Connection: close\r\n"
PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])

BUFFERED_BYTES = 512 * 1024  # what the gateway may hold: the mark of 64 KiB and one read of 256 KiB
ON_THE_WAY_BYTES = 3 * MIB  # all sockets, both ends' own buffers and the gateway's together


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel hold little between gateway and upstream, so that what the gateway holds is seen."""
    monkeypatch.setattr(clock, "TICK_S", 0.02)
    opened = pool.Pool.open

    async def narrowed(self: pool.Pool) -> pool.UpstreamConnection:
        connection = await opened(self)
        narrow_socket(connection.transport)
        return connection

    monkeypatch.setattr(pool.Pool, "open", narrowed)


class Dialling:
    """A connection to the upstream that is made when a test says so."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()


@pytest.fixture
def dialling(monkeypatch: pytest.MonkeyPatch) -> Dialling:
    held = Dialling()
    opened = pool.Pool.open

    async def late(self: pool.Pool) -> pool.UpstreamConnection:
        held.has_begun.set()
        await held.may_end.wait()
        return await opened(self)

    monkeypatch.setattr(pool.Pool, "open", late)
    return held


class Test_Peer_that_does_not_read:
    @pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n", CHUNKED])
    async def test_upload_waits_for_the_upstream(self, narrow, framing):
        """The gateway stops to read from the client; whatever the size of the content, little is held."""
        content, chunked = 8 * MIB, framing is CHUNKED
        reads_on = asyncio.Event()
        received = hashlib.sha256()

        async def upstream(peer: Peer) -> None:
            narrow_socket(peer.writer)
            await peer.read_head()
            await reads_on.wait()
            if chunked:
                while size := int(await peer.read_until(b"\r\n"), 16):
                    received.update(await peer.read_exactly(size))
                    await peer.read_exactly(2)
                await peer.read_exactly(2)
            else:
                received.update(await peer.read_exactly(content))
            await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

        async with bench(upstream) as b:
            narrow_listening(b)
            peer = await b.connect()
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + (framing if chunked else framing % content))
            sending = asyncio.create_task(send_megabytes(peer, content // MIB, chunked=chunked))
            await until(lambda: any(c.is_paused_by("upstream") for c in b.gateway.clients))
            await b.ticks(3)
            (connection,) = b.gateway.clients
            exchange = connection.exchange
            assert connection.is_paused_by("upstream")
            assert exchange._upstream.transport.get_write_buffer_size() < BUFFERED_BYTES
            assert exchange._record.bytes_in < ON_THE_WAY_BYTES
            reads_on.set()
            async with asyncio.timeout(LIMIT_S):
                sent = await sending
            assert (await peer.read_response()).status == 200
            assert received.digest() == sent

    @pytest.mark.parametrize("framing", ["fixed", "chunked", "until close"])
    async def test_download_waits_for_the_client(self, narrow, framing):
        """The gateway stops to read from the upstream, which can then send no more."""
        content, chunked = 8 * MIB, framing == "chunked"
        line = {"fixed": b"Content-Length: %d\r\n\r\n" % content, "chunked": CHUNKED, "until close": b"\r\n"}
        sent: list[bytes] = []

        async def upstream(peer: Peer) -> None:
            narrow_socket(peer.writer)
            await peer.read_head()
            await peer.send(OK + line[framing])
            sent.append(await send_megabytes(peer, content // MIB, chunked=chunked))

        async with bench(upstream) as b:
            narrow_listening(b)
            peer = await b.connect()
            narrow_socket(peer.writer)
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n")
            await peer.read_head()
            await until(lambda: any(c.is_congested for c in b.gateway.clients))
            await b.ticks(3)
            (connection,) = b.gateway.clients
            assert connection.transport.get_write_buffer_size() < BUFFERED_BYTES
            assert connection.exchange._record.bytes_out < ON_THE_WAY_BYTES
            assert not sent
            received = hashlib.sha256()
            if framing != "fixed":
                while size := int(await peer.read_until(b"\r\n"), 16):
                    received.update(await peer.read_exactly(size))
                    await peer.read_exactly(2)
            else:
                received.update(await peer.read_exactly(content))
            assert received.digest() == sent[0]

    @pytest.mark.parametrize("status", [200, 502])
    async def test_upstream_that_ends_without_reading_does_not_hold_the_client(
        self, narrow, monkeypatch, status
    ):
        """All of the request is with the gateway and not with the upstream: the client goes on, the upstream does not."""
        monkeypatch.setattr(request_reader, "_MAX_PIPELINED_BYTES", 1 << 30)
        ends = asyncio.Event()

        async def upstream(peer: Peer) -> None:
            narrow_socket(peer.writer, 4096)
            await peer.read_head()
            peer.writer.transport.pause_reading()
            await ends.wait()
            if status == 200:
                await peer.send(OK + b"Content-Length: 2\r\n\r\nok")
                await asyncio.Event().wait()
            peer.reset()

        async with bench(first_then_well(upstream)) as b:
            # Room for the whole content in one read.
            b.gateway._servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
            peer = await b.connect()
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 250000\r\n\r\n")
            await until(lambda: b.gateway.stats.upstream_connections_total == 1)
            (connection,) = b.gateway.clients
            await until(lambda: connection.exchange._upstream is not None)
            narrow_socket(connection.exchange._upstream.transport, 4096)
            connection.exchange._upstream.transport.set_write_buffer_limits(high=1)
            await peer.send(b"x" * 250_000)
            await until(lambda: connection.exchange._request_complete and connection.is_paused_by("upstream"))
            ends.set()
            assert (await peer.read_response()).status == status
            await peer.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await peer.read_response()).status == 200
            assert b.recorder.connections == 2

    async def test_response_that_ends_while_its_client_is_full_leaves_a_connection_that_is_read(self):
        """What was paused for one client is read for the next: else that one would wait for ever."""
        response = OK + b"Content-Length: 40000\r\n\r\n" + b"x" * 40_000
        has_asked, is_to_send = asyncio.Event(), asyncio.Event()

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            has_asked.set()
            await is_to_send.wait()
            await peer.send(response)
            await answering()(peer)

        async with bench(upstream, upstream_keepalive_timeout_s=60) as b:
            narrow_listening(b, 4096)
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect(b.address)
            peer = Peer(*await asyncio.open_connection(sock=narrow))
            b._peers.append(peer)
            peer.writer.transport.pause_reading()
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await has_asked.wait()
            (connection,) = b.gateway.clients
            # All of the response in one read, more than the client and the kernel take.
            transport = connection.exchange._upstream.transport
            transport.pause_reading()
            narrow_socket(transport, MIB)
            is_to_send.set()
            await until(lambda: readable_bytes(transport) == len(response))
            transport.resume_reading()
            await until(lambda: connection.exchange is None)
            assert connection.is_congested
            narrow_socket(peer.writer, MIB)  # wide from here on: through a narrow one it takes seconds
            peer.writer.transport.resume_reading()
            assert len((await peer.read_response()).content) == 40_000
            await peer.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await peer.read_response()).content == b"ok"
            assert b.recorder.connections == 1

    @pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n", CHUNKED])
    async def test_upload_waits_for_the_connection_to_the_upstream(self, monkeypatch, dialling, framing):
        monkeypatch.setattr(clock, "TICK_S", 0.02)
        content, chunked = 8 * MIB, framing is CHUNKED
        async with bench() as b:
            narrow_listening(b)
            peer = await b.connect()
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + (framing if chunked else framing % content))
            sending = asyncio.create_task(send_megabytes(peer, content // MIB, chunked=chunked))
            await dialling.has_begun.wait()
            (connection,) = b.gateway.clients
            await until(lambda: connection.is_paused_by("connecting"))
            await b.ticks(3)
            assert connection.exchange._record.bytes_in < BUFFERED_BYTES
            dialling.may_end.set()
            async with asyncio.timeout(LIMIT_S):
                sent = await sending
            assert (await peer.read_response()).status == 200
            assert hashlib.sha256(b.recorder.contents[0]).digest() == sent

    async def test_upstream_that_is_reached_when_the_client_is_full_waits_for_it(self, dialling):
        """As it may be with what came before, of which the client has read too little."""
        async with bench() as b:
            peer = await b.connect()
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await dialling.has_begun.wait()
            (connection,) = b.gateway.clients
            connection.pause_writing()  # as the transport says when it is full
            dialling.may_end.set()
            await until(lambda: b.recorder.heads)
            assert not connection.exchange._upstream.transport.is_reading()
            connection.resume_writing()
            assert (await peer.read_response()).content == b"ok"

    async def test_client_that_asks_on_after_a_502_is_answered(self):
        """The content that waited for a connection is gone with it."""
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        async with bench(upstream=f"http://127.0.0.1:{port}") as b:
            peer = await b.connect()
            for _ in range(2):
                await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
                answer = await peer.read_response()
                assert (answer.status, answer.is_protected) == (502, True)
                assert not answer.field("Connection")

    @pytest.mark.interpreted
    async def test_pipelined_requests_beyond_a_bound_wait_in_the_kernel(self, monkeypatch):
        """They are not read ahead without end; all are answered, in order."""
        monkeypatch.setattr(request_reader, "_MAX_PIPELINED_BYTES", 4096)
        first_is_here, first_may_end = asyncio.Event(), asyncio.Event()

        async def upstream(peer: Peer) -> None:
            while True:
                head = await peer.reader.readuntil(b"\r\n\r\n")
                if not first_is_here.is_set():
                    first_is_here.set()
                    await first_may_end.wait()
                await peer.send(OK + b"Content-Length: 4\r\n\r\n" + head[5:9])

        async with bench(upstream) as b:
            narrow_listening(b)
            peer = await b.connect()
            await peer.send(b"GET /0000 HTTP/1.1\r\nHost: a\r\n\r\n")
            await first_is_here.wait()
            (connection,) = b.gateway.clients
            numbers = [b"%04d" % number for number in range(1, 500)]
            rest = b" HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 8000 + b"\r\n\r\n"  # 4 MB of them
            sending = asyncio.create_task(peer.send(b"".join(b"GET /" + number + rest for number in numbers)))
            await until(lambda: connection.is_paused_by("pipelined"))
            assert len(connection._buffer) < BUFFERED_BYTES
            first_may_end.set()
            for number in [b"0000", *numbers]:
                assert (await peer.read_response()).content == number
                assert len(connection._buffer) < BUFFERED_BYTES
            await sending

    async def test_next_request_of_a_client_that_takes_no_answers_waits(self):
        """Else the answers that the gateway makes by itself, a 502 for each request, would gather up in it."""
        async with bench() as b:
            peer = await b.connect()
            await until(lambda: b.gateway.clients)
            (connection,) = b.gateway.clients
            connection.pause_writing()  # as the transport says when it is full
            await peer.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: connection._buffer)
            assert connection.exchange is None
            connection.resume_writing()
            assert (await peer.read_response()).status == 200
            assert [head.split(b" ")[1] for head in b.recorder.heads] == [b"/late"]


class Test_Content_that_is_still_coming:
    @PIECES
    @pytest.mark.parametrize("framing", ["fixed", "chunked", "until close"])
    async def test_event_is_with_the_client_before_the_next_is_sent(self, piece, framing):
        """The head before the first event, each event before the next: `text/event-stream` needs no more."""
        events = [b"data: %d\n\n" % number for number in range(5)]
        line = {"fixed": b"Content-Length: 45\r\n\r\n", "chunked": CHUNKED, "until close": b"\r\n"}[framing]
        seen = asyncio.Queue[None]()

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(OK + b"Content-Type: text/event-stream\r\n" + line, piece=piece)
            for event in events:
                await seen.get()
                await peer.send(b"9\r\n" + event + b"\r\n" if framing == "chunked" else event, piece=piece)
            await seen.get()
            await peer.send(b"0\r\n\r\n" if framing == "chunked" else b"")

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n")
            assert b"text/event-stream" in await peer.read_head()
            for event in events:
                seen.put_nowait(None)
                assert await read_some(peer, len(event), chunked=framing != "fixed") == event
            seen.put_nowait(None)
            assert (await peer.read_to_end()).data == (b"" if framing == "fixed" else b"0\r\n\r\n")

    @PIECES
    @pytest.mark.parametrize("framing", [b"Content-Length: 20\r\n\r\n", CHUNKED])
    async def test_request_content_is_with_the_upstream_before_more_is_sent(self, piece, framing):
        arrived = asyncio.Queue[bytes]()

        async def upstream(peer: Peer) -> None:
            arrived.put_nowait(await peer.read_head())
            for _ in range(4):
                arrived.put_nowait(await read_some(peer, 5, chunked=framing is CHUNKED))
            if framing is CHUNKED:
                arrived.put_nowait(await peer.read_exactly(5))
            await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

        async with bench(upstream) as b, asyncio.timeout(LIMIT_S):
            peer = await b.connect()
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing, piece=piece)
            assert (await arrived.get()).startswith(b"POST / HTTP/1.1\r\n")
            for part in (b"part0", b"part1", b"part2", b"part3"):
                await peer.send(b"5\r\n" + part + b"\r\n" if framing is CHUNKED else part, piece=piece)
                assert await arrived.get() == part
            if framing is CHUNKED:
                await peer.send(b"0\r\n\r\n", piece=piece)
                assert await arrived.get() == b"0\r\n\r\n"
            assert (await peer.read_response()).content == b"ok"

    async def test_response_may_begin_and_go_on_while_the_request_does(self):
        """Both directions at once; the connection is not used again, as the client may not have ended in time."""

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(OK + CHUNKED)
            while part := await read_some(peer, 5, chunked=True):
                await peer.send(b"5\r\n" + part[::-1] + b"\r\n")
            await peer.send(b"0\r\n\r\n")

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED)
            assert b"Connection: close\r\n" in await peer.read_head()
            for part in (b"first", b"again"):
                await peer.send(b"5\r\n" + part + b"\r\n")
                assert await read_some(peer, 5, chunked=True) == part[::-1]
            await peer.send(b"0\r\n\r\n")
            answer = await peer.read_to_end()
            assert (answer.data, answer.end) == (b"0\r\n\r\n", "closed")
            assert b.gateway.stats.client_errors == b.gateway.stats.upstream_errors == {}

    @pytest.mark.parametrize("framing", [b"Content-Length: 3000000\r\n\r\n", CHUNKED + b"2dc6c0\r\n"])
    async def test_early_response_reaches_a_client_that_reads_only_when_it_has_sent_everything(self, framing):
        """RFC 9112 section 9.6: no reset under the response for what came after it."""
        answered = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much"

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(answered)

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
            await until(lambda: b.gateway.stats.requests != {})
            async with asyncio.timeout(LIMIT_S):
                for _ in range(30):
                    await peer.send(b"x" * 100_000)
            answer = await peer.read_to_end()
            assert (answer.status, answer.content, answer.end) == (413, b"too much", "closed")

    @pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n", CHUNKED])
    async def test_early_response_lets_a_client_go_on_that_was_held_back(self, narrow, framing):
        """Its upstream did not read: what is still to come is read, and goes nowhere."""
        content, chunked = 2 * MIB, framing is CHUNKED
        is_to_answer = asyncio.Event()

        async def upstream(peer: Peer) -> None:
            narrow_socket(peer.writer)
            await peer.read_head()
            peer.writer.transport.pause_reading()
            await is_to_answer.wait()
            await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much")

        async with bench(upstream) as b:
            narrow_listening(b)
            peer = await b.connect()
            narrow_socket(peer.writer)
            await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + (framing if chunked else framing % content))
            sending = asyncio.create_task(send_megabytes(peer, content // MIB, chunked=chunked))
            await until(lambda: any(c.is_paused_by("upstream") for c in b.gateway.clients))
            is_to_answer.set()
            async with asyncio.timeout(LIMIT_S):
                await sending
            answer = await peer.read_to_end()
            assert (answer.status, answer.content, answer.end) == (413, b"too much", "closed")
