"""Upgrade: after a 101 the two connections are one tunnel; any other answer is a response like all others.

RFC 9110 section 7.8: WebSocket and every other token but those of another HTTP, bytes as they
are, half-close passed on. `test_faults.py` has what breaks inside a tunnel.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import Bench, bench
from tests.support.peer import XHR_LINE, Answer, Peer
from tests.support.streams import MIB, narrow_listening, narrow_socket
from tests.support.upstream import Script, answering, first_then_well
from tests.support.waiting import until

PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def asking(token: bytes = b"websocket", *lines: bytes, connection: bytes = b"Upgrade") -> bytes:
    fields = b"Connection: " + connection + b"\r\nUpgrade: " + token + b"\r\n" + b"".join(lines)
    return b"GET /chat HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


def switching(token: bytes = b"websocket", *lines: bytes) -> bytes:
    fields = b"Connection: upgrade\r\nUpgrade: " + token + b"\r\n" + b"".join(lines)
    return b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n"


def echoing(
    response: bytes = b"", first: bytes = b"", *, piece: int = 0, heads: list[bytes] | None = None
) -> Script:
    """An upstream that switches, says something at once, and sends back what comes until it ends."""

    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        if heads is not None:
            heads.append(head)
        await peer.send((response or switching()) + first, piece=piece)
        while data := await peer.reader.read(65536):
            await peer.send(data)

    return script


class Test_Switch:
    @PIECES
    @pytest.mark.parametrize(
        ("token", "answer"),
        [
            (b"websocket", b"websocket"),
            (b"WebSocket", b"websocket"),
            (b"foo/2", b"foo/2"),
            (b"tcp", b"tcp"),
            (b"foo/2, websocket", b"websocket"),
            (b"foo , bar", b"bar"),
        ],
    )
    async def test_is_passed_on_for_any_token(self, piece, token, answer):
        """Both heads get the two hop-by-hop fields anew; the handshake's own fields stay as they are."""
        heads: list[bytes] = []
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-PROTOCOL: a, b\r\n"
        accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=b\r\n"
        async with bench(echoing(switching(answer, accept), piece=piece, heads=heads)) as b:
            peer = await b.connect()
            await peer.send(asking(token, key, connection=b"keep-alive, Upgrade"), piece=piece)
            head = await peer.read_head()
            assert head == (
                b"HTTP/1.1 101 Switching Protocols\r\n"
                + accept
                + b"Connection: Upgrade\r\nUpgrade: "
                + answer
                + b"\r\n\r\n"
            )
            assert key in heads[0]
            assert heads[0].endswith(
                b"\r\nConnection: Upgrade\r\nUpgrade: " + token.replace(b" ,", b",") + b"\r\n\r\n"
            )
            every_byte = bytes(range(256)) * 3
            await peer.send(every_byte, piece=piece)
            assert await peer.read_exactly(len(every_byte)) == every_byte
            assert b.gateway.stats.tunnels == 1

    @PIECES
    async def test_bytes_with_the_101_and_bytes_that_were_early_are_the_tunnel_s(self, piece):
        """A client that does not wait for the 101; an upstream that speaks first. Neither is read as HTTP."""
        early, first = b"GET / HTTP/1.1\r\n\r\n\x00", b"HTTP/1.1 200 OK\r\n\r\n\xff"
        async with bench(echoing(first=first, piece=piece)) as b:
            peer = await b.connect()
            await peer.send(asking() + early, piece=piece)
            head = await peer.read_head()
            assert head.startswith(b"HTTP/1.1 101 ")
            assert await peer.read_exactly(len(first + early)) == first + early
            await peer.send(b"more")
            assert await peer.read_exactly(4) == b"more"
            assert b.gateway.stats.requests == {}

    async def test_early_bytes_beyond_a_bound_wait_in_the_kernel(self):
        """They are held like pipelined requests while the upstream decides, and all arrive."""
        asked, decides = asyncio.Event(), asyncio.Event()
        early = b"".join(b"%08d" % number for number in range(MIB // 8))

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            asked.set()
            await decides.wait()
            await peer.send(switching())
            received = await peer.read_exactly(len(early))
            await peer.send(b"same" if received == early else b"else")

        async with bench(upstream) as b:
            peer = await b.connect()
            sending = asyncio.create_task(peer.send(asking() + early))
            await asked.wait()
            (connection,) = b.gateway.clients
            await until(lambda: connection.is_paused_by("pipelined"))
            assert len(connection._buffer) < MIB // 2
            decides.set()
            await sending
            await peer.read_head()
            assert await peer.read_exactly(4) == b"same"

    @PIECES
    async def test_of_a_request_with_content_comes_after_it(self, piece):
        """RFC 9110 section 7.8: the content first, then the protocol."""

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            assert await peer.read_until(b"0\r\n\r\n")
            await peer.send(switching() + b"first")
            await peer.send(await peer.read_exactly(5))

        request = asking(b"websocket", b"Transfer-Encoding: chunked\r\n") + b"2\r\nhi\r\n0\r\n\r\nearly"
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(request, piece=piece)
            assert b" 101 " in await peer.read_head()
            assert (await peer.read_to_end()).data == b"firstearly"

    async def test_before_the_content_is_complete_is_a_502(self):
        async with bench(echoing()) as b:
            peer = await b.connect()
            await peer.send(asking(b"websocket", b"Content-Length: 5\r\n") + b"he")
            answer = await peer.read_to_end()
            assert (answer.status, answer.is_protected, answer.end) == (502, True, "closed")

    @pytest.mark.parametrize(
        "response", [switching(b"other"), switching(b"foo/20"), switching(b"websocket, other")]
    )
    async def test_to_what_was_not_asked_for_is_a_502(self, response):
        """And nothing of the upstream's bytes after it reaches the client."""
        async with bench(echoing(response, b"secret")) as b:
            peer = await b.connect()
            await peer.send(asking(b"websocket, foo/2"))
            answer = await peer.read_response()
            assert (answer.status, answer.is_protected) == (502, True)
            assert b"secret" not in answer.data
            assert b.gateway.stats.tunnels_total == 0

    async def test_under_a_rule_that_enforces_is_passed_on_as_it_is(self):
        """A 101 is no response that a cache could keep; the same app's refusal is protected."""
        async with bench(
            first_then_well(echoing(switching(b"websocket", b"Cache-Control: max-age=60\r\n")))
        ) as b:
            peer = await b.connect()
            await peer.send(asking(b"websocket", XHR_LINE))
            head = await peer.read_head()
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nCache-Control: max-age=60\r\n" in head
            assert b"no-store" not in head
            refused = await b.connect()
            await refused.send(asking(b"websocket", XHR_LINE))
            answer = await refused.read_response()
            assert (answer.status, answer.is_protected) == (200, True)


class Test_Upgrade_that_does_not_happen:
    @PIECES
    @pytest.mark.parametrize(
        "response",
        [
            OK,
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno",
            b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: other\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ],
    )
    async def test_leaves_both_connections_to_the_next_request(self, piece, response):
        async with bench(answering(response)) as b:
            peer = await b.connect()
            for request in (asking(), NEXT, asking(), NEXT):
                await peer.send(request, piece=piece)
                answer = await peer.read_response()
                assert (answer.status, answer.end) == (int(response[9:12]), "open")
                assert not answer.field("Connection")
            # An answer without content leaves no connection behind, whatever it was asked for.
            assert b.recorder.connections == (4 if b"Content-Length: 0" in response else 1)

    @PIECES
    async def test_takes_early_bytes_for_the_next_request(self, piece):
        """What they are when no protocol was switched: HTTP, under the rules."""
        async with bench() as b:
            peer = await b.connect()
            await peer.send(asking() + NEXT.replace(b"\r\n\r\n", b"\r\n" + XHR_LINE + b"\r\n"), piece=piece)
            assert not (await peer.read_response()).is_protected
            assert (await peer.read_response()).is_protected

    @PIECES
    @pytest.mark.parametrize(
        ("request_head", "passed_on"),
        [
            pytest.param(
                asking(b"h2c", b"HTTP2-Settings: AAMAAABk\r\n", connection=b"Upgrade, HTTP2-Settings"),
                None,
                id="h2c",
            ),
            pytest.param(asking(b"H2C"), None, id="H2C"),
            pytest.param(asking(b"h2"), None, id="h2"),
            pytest.param(asking(b"HTTP/2.0"), None, id="HTTP/2.0"),
            pytest.param(asking(b"TLS/1.0"), None, id="TLS/1.0"),
            pytest.param(asking(b"h2c, websocket"), b"websocket", id="h2c beside another"),
            pytest.param(asking(connection=b"keep-alive"), None, id="Connection does not name it"),
            pytest.param(asking().replace(b"Connection: Upgrade\r\n", b""), None, id="no Connection"),
            pytest.param(asking().replace(b"Upgrade: websocket\r\n", b""), None, id="no Upgrade"),
            pytest.param(asking(b""), None, id="empty Upgrade"),
            pytest.param(asking(b"web\xe9socket"), None, id="no token"),
            pytest.param(asking().replace(b"HTTP/1.1", b"HTTP/1.0"), None, id="HTTP/1.0"),
        ],
    )
    async def test_is_not_asked_of_the_upstream(self, piece, request_head, passed_on):
        """Tokens of another HTTP would carry requests past the rules; the rest is no upgrade. RFC 9110 section 7.8."""
        async with bench() as b:
            peer = await b.connect()
            await peer.send(request_head, piece=piece)
            assert (await peer.read_response()).status == 200
            (head,) = b.recorder.heads
            lines = [
                line
                for line in head.split(b"\r\n")
                if line.lower().startswith((b"upgrade", b"connection", b"http2"))
            ]
            assert lines == ([b"Connection: Upgrade", b"Upgrade: " + passed_on] if passed_on else [])

    @pytest.mark.parametrize("request_head", [asking(b"h2c"), asking(connection=b"close"), NEXT])
    async def test_makes_a_101_of_the_upstream_a_502(self, request_head):
        """Whatever the upstream understood, the client did not ask for it."""
        async with bench(echoing(switching(b"h2c"), b"PRI * HTTP/2.0")) as b:
            peer = await b.connect()
            await peer.send(request_head)
            answer = await peer.read_response()
            assert (answer.status, answer.is_protected) == (502, True)


class Test_Tunnel:
    async def test_passes_the_client_s_half_close_on_and_still_carries_the_other_direction(self):
        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(switching())
            received = await peer.reader.read()  # to its end
            await peer.send(b"after the end of " + received)

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(asking())
            await peer.read_head()
            await peer.send(b"client")
            peer.half_close()
            answer = await peer.read_to_end()
            assert (answer.data, answer.end) == (b"after the end of client", "closed")
            await b.settled()
            assert b.gateway.stats.client_aborts_total == 0

    async def test_passes_the_upstream_s_half_close_on_and_still_carries_the_other_direction(self):
        received = asyncio.Queue[bytes]()

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(switching() + b"upstream")
            peer.half_close()
            received.put_nowait(await peer.reader.read())

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(asking())
            await peer.read_head()
            assert (await peer.read_to_end()).data == b"upstream"
            await peer.send(b"after the end")
            await b.ticks(1)
            peer.half_close()
            assert await received.get() == b"after the end"
            await b.settled()
            assert b.gateway.stats.upstream_errors == {}

    @pytest.mark.parametrize("direction", ["up", "down"])
    async def test_is_held_back_by_the_side_that_does_not_read(self, direction):
        content = 8 * MIB
        reads_on = asyncio.Event()
        sent = asyncio.Event()

        async def one(peer: Peer) -> None:
            for _ in range(content // MIB):
                await peer.send(b"x" * MIB)
            sent.set()

        async def other(peer: Peer) -> None:
            peer.writer.transport.pause_reading()
            await reads_on.wait()
            peer.writer.transport.resume_reading()
            assert len(await peer.read_exactly(content)) == content

        async def upstream(peer: Peer) -> None:
            narrow_socket(peer.writer)
            await peer.read_head()
            await peer.send(switching())
            await (other if direction == "up" else one)(peer)
            await peer.reader.read()

        async with bench(upstream) as b:
            narrow_listening(b)
            peer = await b.connect()
            narrow_socket(peer.writer)
            await peer.send(asking())
            await peer.read_head()
            ours = asyncio.create_task((one if direction == "up" else other)(peer))
            (connection,) = b.gateway.clients
            await until(lambda: connection.is_paused_by("upstream") or connection.is_congested)
            await b.ticks(1)
            held = connection.tunnel._upstream.transport.get_write_buffer_size()
            assert max(held, connection.transport.get_write_buffer_size()) < MIB // 2
            assert not sent.is_set()
            reads_on.set()
            await ours
            await sent.wait()

    async def test_that_is_silent_ends_and_one_that_speaks_does_not(self, hands):
        """300 s without a byte, from the 101 on; any byte in any direction puts it off."""
        async with bench(echoing()) as b:
            silent, speaking = await opened(b), await opened(b)
            for _ in range(2):
                await hands.forward(b, 149)
                await speaking.send(b"still there?")
                assert await speaking.read_exactly(12) == b"still there?"
            assert b.gateway.stats.tunnels == 2
            await hands.forward(b, 3)
            assert await silent.read_to_end() == Answer(b"", "reset")
            assert b.gateway.stats.tunnels == 1
            await hands.forward(b, 298)
            assert (await speaking.read_to_end()).end == "reset"

    async def test_is_counted_and_logged_when_it_has_ended(self):
        async with bench(echoing()) as b:
            peer = await opened(b)
            assert (b.gateway.stats.tunnels, b.gateway.stats.in_flight) == (1, 1)
            await peer.send(b"hello")
            await peer.read_exactly(5)
            peer.close()
            await b.settled()
            stats = b.gateway.stats
            assert (stats.tunnels, stats.tunnels_total) == (0, 1)
            assert (stats.request_bytes_total, stats.response_bytes_total) == (5, 5)
            assert stats.client_aborts_total == 0
            assert [key[2] for key in stats.requests] == [1]


async def opened(b: Bench) -> Peer:
    """A tunnel."""
    peer = await b.connect()
    await peer.send(asking())
    assert b" 101 " in await peer.read_head()
    return peer
