"""Every time-out and every limit acts in its own phase, on the right peer, with the right answer.

The clock is in the tests' hands, so the defaults of production are what is tested;
only the time to connect is the event loop's. `test_faults.py` has what is left behind: nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.message.syntax import MAX_FIELDS
from tests.support.gateway import Bench, bench
from tests.support.peer import XHR_LINE, Answer, Peer
from tests.support.streams import MIB, narrow_socket
from tests.support.strict_reader import read_requests
from tests.support.waiting import until

pytestmark = pytest.mark.alone

PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n" + XHR_LINE
CLOSING = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + XHR_LINE + b"\r\n"


def is_own(answer: Answer, status: int, error: str) -> bool:
    """Whether it is the gateway's own: the status, who failed (RFC 9209), the strict policy, one line of text."""
    return (
        answer.status == status
        and answer.field("Proxy-Status") == [b"nocache-proxy; error=" + error.encode()]
        and answer.is_protected
        and answer.field("Content-Type") == [b"text/plain; charset=utf-8"]
        and answer.content.startswith(b"%d " % status)
        and answer.content.count(b"\n") == 1
    )


class Test_Time_to_connect:
    @pytest.mark.parametrize("request_head", [GET, POST + b"Content-Length: 5\r\n\r\nhello"])
    async def test_passes_where_nobody_accepts(self, request_head):
        """504 under the strict policy; the client's connection goes on. It is not tried a second time."""
        with full_backlog() as port:
            async with bench(upstream=f"http://127.0.0.1:{port}", connect_timeout_s=0.1) as b:
                peer = await b.connect()
                for _ in range(2):
                    await peer.send(request_head)
                    answer = await peer.read_response()
                    assert is_own(answer, 504, "connection_timeout")
                    assert answer.end == "open"
                assert b.gateway.stats.upstream_errors == {"connect_timeout": 2}
                assert b.gateway.stats.retries_total == 0

    async def test_ends_with_the_client(self):
        """A client that leaves takes the attempt with it."""
        with full_backlog() as port:
            async with bench(upstream=f"http://127.0.0.1:{port}", connect_timeout_s=60) as b:
                peer = await b.connect()
                await peer.send(GET)
                await until(lambda: b.gateway.pool._attempts)
                peer.close()
                await b.settled()
                await until(lambda: not b.gateway.pool._attempts)
                assert b.gateway.stats.upstream_errors == {}


class Test_Time_for_a_request_s_head:
    @pytest.mark.parametrize("is_first", [True, False])
    async def test_begins_with_its_first_byte_and_is_not_put_off_by_more(self, hands, is_first):
        """Slowloris: each byte in time, the head never complete. 10 s from the first byte, then 408."""
        async with bench() as b:
            peer = await b.connect()
            if not is_first:
                await peer.send(GET)
                await peer.read_response()
            await hands.forward(b, 70)  # at rest it may be for 75 s, and then a head has its own time
            for number in range(10):
                await send_and_see(b, peer, GET[number : number + 1])
                assert b.gateway.clients
                await hands.forward(b, 0.99)
            await hands.forward(b, 0.2)
            answer = await peer.read_to_end()
            assert is_own(answer, 408, "http_request_error")
            assert answer.field("Connection") == [b"close"]
            assert b.gateway.stats.client_errors == {"request_timeout": 1}
            assert len(b.recorder.heads) == (not is_first)

    async def test_is_whole_again_for_the_next_one(self, hands):
        async with bench() as b:
            peer = await b.connect()
            for _ in range(3):
                await send_and_see(b, peer, GET[:20])
                await hands.forward(b, 9.9)
                await peer.send(GET[20:])
                assert (await peer.read_response()).status == 200

    async def test_is_not_begun_by_empty_lines(self, hands):
        """Nor is the rest put off by them: RFC 9112 section 2.2 lets a server ignore them."""
        async with bench() as b:
            peer = await b.connect()
            for _ in range(10):
                await send_and_see(b, peer, b"\r")
                await hands.forward(b, 3.7)
                await peer.send(b"\n")
                await until(lambda: not next(iter(b.gateway.clients))._buffer)
                await hands.forward(b, 3.7)
            assert b.gateway.clients
            await hands.forward(b, 1.1)
            assert (await peer.read_to_end()).status in (0, 408)


class Test_Time_at_rest:
    @pytest.mark.parametrize("served", [0, 1, 3])
    async def test_ends_a_client_s_connection_without_a_word(self, hands, served):
        """75 s, from the last response or the start."""
        async with bench() as b:
            peer = await b.connect()
            await until(lambda: b.gateway.clients)
            for _ in range(served):
                await hands.forward(b, 74.9)
                await peer.send(GET)
                assert (await peer.read_response()).status == 200
            await hands.forward(b, 74.9)
            assert b.gateway.clients
            await hands.forward(b, 0.2)
            assert await peer.read_to_end() == Answer(b"", "closed")
            assert b.gateway.stats.client_errors == {}

    @pytest.mark.parametrize("method", [b"GET", b"POST"])
    async def test_keeps_an_upstream_s_connection_shorter_than_the_app_does(self, hands, method):
        """1.5 s: used again before, closed by the gateway after."""
        async with bench() as b:
            request = CLOSING.replace(b"GET", method)
            for _ in range(3):
                await b.exchange(request)
                await hands.forward(b, 1.4)
            assert b.recorder.connections == 1
            await hands.forward(b, 0.2)
            await until(lambda: b.gateway.stats.upstream_connections == 0)
            assert (await b.exchange(request)).status == 200
            assert b.recorder.connections == 2
            assert b.gateway.stats.retries_total == 0


class Test_Time_for_a_response_s_head:
    @pytest.mark.parametrize(
        "trickled", [b"", b"HTTP/1.1 200 OK\r\nA: bcdefg\r\n", b"HTTP/1.1 100 C\r\n\r\n" * 2]
    )
    @pytest.mark.parametrize(
        "request_head", [GET, POST + b"Content-Length: 5\r\n\r\nhello", POST + CHUNKED + b"0\r\n\r\n"]
    )
    async def test_passes_whatever_the_upstream_says_before_it(self, hands, trickled, request_head):
        """60 s from the end of the request; a 1xx and a part of a head end no wait."""
        upstream = Trickling(trickled)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(request_head)
            await upstream.asked.wait()
            await until(lambda: next(iter(b.gateway.clients)).exchange._request_complete)
            for _ in range(6):
                await upstream.say()
                await hands.forward(b, 9.9)
            assert b.gateway.stats.in_flight == 1
            await hands.forward(b, 0.7)
            answer = await peer.read_response()
            while answer.status == 100:
                answer = await peer.read_response()
            assert is_own(answer, 504, "http_response_timeout")
            assert answer.end == "open"
            assert b.gateway.stats.upstream_errors == {"upstream_timeout": 1}


class Test_Time_without_a_byte:
    @pytest.mark.parametrize(
        "head",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"64\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ],
    )
    @pytest.mark.parametrize("said", [0, 4])
    async def test_breaks_a_response_and_any_byte_puts_it_off(self, hands, head, said):
        """300 s, counted from the head on, also where head and first byte come together."""
        upstream = Trickling(b"x" * said)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(GET)
            await upstream.asked.wait()
            await upstream.peer.send(head)
            await peer.read_head()
            for _ in range(said):
                await hands.forward(b, 299)
                await upstream.say()
                await peer.read_until(b"x")
            await hands.forward(b, 299)
            assert b.gateway.stats.in_flight == 1
            await hands.forward(b, 1.1)
            assert (await peer.read_to_end()).end == "reset"
            assert b.gateway.stats.upstream_errors == {"upstream_stalled": 1}

    @pytest.mark.parametrize(
        ("framing", "part"), [(b"Content-Length: 100\r\n\r\n", b"x"), (CHUNKED, b"1\r\nx\r\n")]
    )
    @pytest.mark.parametrize("said", [0, 4])
    async def test_of_a_request_is_a_408_and_any_byte_puts_it_off(self, hands, framing, part, said):
        upstream = Trickling(b"")
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(POST + framing)
            await upstream.asked.wait()
            for number in range(said):
                await hands.forward(b, 299)
                await peer.send(part)
                await until(
                    lambda number=number: next(iter(b.gateway.clients)).exchange._record.bytes_in > number
                )
            await hands.forward(b, 299)
            assert b.gateway.stats.in_flight == 1
            await hands.forward(b, 1.1)
            answer = await peer.read_to_end()
            assert is_own(answer, 408, "http_request_error")
            assert answer.end == "closed"
            assert b.gateway.stats.client_errors == {"request_timeout": 1}
            assert b.gateway.stats.upstream_errors == {}

    async def test_of_a_request_that_the_upstream_does_not_take_is_a_504(self, hands):
        """Who holds the content up is to blame, not who waits to send it."""
        holds = asyncio.Event()

        async def upstream(peer: Peer) -> None:
            narrow_socket(peer.writer)
            peer.writer.transport.pause_reading()
            await holds.wait()

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(POST + b"Content-Length: %d\r\n\r\n" % (64 * MIB))
            sending = asyncio.create_task(peer.send(b"x" * (64 * MIB)))
            await until(lambda: any(c.is_paused_by("upstream") for c in b.gateway.clients))
            await hands.forward(b, 299)
            assert b.gateway.stats.in_flight == 1
            await hands.forward(b, 1.1)
            await until(lambda: b.gateway.stats.upstream_errors)
            assert b.gateway.stats.upstream_errors == {"upstream_timeout": 1}
            assert b.gateway.stats.client_errors == {}
            answer = await peer.read_response()
            assert is_own(answer, 504, "http_response_timeout")
            peer.close()
            await asyncio.gather(sending, return_exceptions=True)
            holds.set()


class Test_Limit:
    async def test_of_connections_is_a_503_for_the_next_one(self):
        """RFC 9209 `connection_limit_reached`; those that are open are served, and each that closes makes room."""
        async with bench(max_connections=2) as b:
            first, second = await b.connect(), await b.connect()
            await until(lambda: len(b.gateway.clients) == 2)
            for _ in range(3):
                refused = await b.exchange(CLOSING)
                assert is_own(refused, 503, "connection_limit_reached")
                assert refused.field("Connection") == [b"close"]
                assert refused.end in {"closed", "reset"}  # closed at once, whatever the client still sends
            for peer in (first, second):
                await peer.send(GET)
                assert (await peer.read_response()).status == 200
            first.close()
            await until(lambda: len(b.gateway.clients) == 1)
            assert (await b.exchange(CLOSING)).status == 200
            assert b.gateway.stats.proxy_errors == {"too_many_connections": 3}

    @PIECES
    @pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431), (5000, 431)])
    async def test_of_a_request_s_head_is_a_431(self, piece, excess, status):
        """To the byte; also in pieces, and before the head has come to an end."""
        start = CLOSING.removesuffix(b"\r\n") + b"X-Long: "
        head = start + b"x" * (1000 - len(start) + excess) + b"\r\n\r\n"
        async with bench(max_head_size_bytes=1000) as b:
            answer = await b.exchange(head, piece=piece)
            assert answer.status == status
            assert answer.is_protected
            if status == 431:
                assert is_own(answer, 431, "http_request_error")
                assert (answer.field("Connection"), answer.end) == ([b"close"], "closed")
            assert len(b.recorder.heads) == (status == 200)

    @PIECES
    async def test_that_a_target_does_not_fit_into_is_a_414(self, piece):
        async with bench(max_head_size_bytes=1000) as b:
            answer = await b.exchange(b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", piece=piece)
            assert is_own(answer, 414, "http_request_error")
            assert answer.end == "closed"
            assert b.recorder.connections == 0

    @PIECES
    @pytest.mark.parametrize(("count", "status"), [(MAX_FIELDS, 200), (MAX_FIELDS + 1, 431)])
    async def test_of_a_request_s_fields_is_a_431(self, piece, count, status):
        lines = b"".join(b"X-%d: y\r\n" % number for number in range(count - 3))
        async with bench() as b:
            answer = await b.exchange(CLOSING.removesuffix(b"\r\n") + lines + b"\r\n", piece=piece)
            assert answer.status == status
            assert answer.is_protected
            if status == 431:
                assert is_own(answer, 431, "http_request_error")

    @PIECES
    @pytest.mark.parametrize(("length", "status"), [(0, 200), (10, 200), (11, 413), (10**15, 413)])
    async def test_of_a_request_s_content_is_a_413_at_its_head(self, piece, length, status):
        """A length that is too much reaches nobody."""
        async with bench(max_request_body_bytes=10) as b:
            head = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % length
            answer = await b.exchange(head + b"x" * min(length, 10), piece=piece)
            assert answer.status == status
            if status == 413:
                assert is_own(answer, 413, "http_request_error")
                assert (answer.field("Connection"), answer.end) == ([b"close"], "closed")
                assert b.gateway.stats.client_errors == {"content_too_large": 1}
            assert b.recorder.connections == (status == 200)

    @PIECES
    @pytest.mark.parametrize(
        ("sizes", "status"), [([10], 200), ([5, 5], 200), ([11], 413), ([5, 5, 1, 100], 413)]
    )
    async def test_of_chunked_content_is_a_413_when_it_is_passed(self, piece, sizes, status):
        """What has gone to the app before has no end: it cannot be taken for a whole request."""
        received = bytearray()

        async def upstream(peer: Peer) -> None:
            while data := await peer.reader.read(65536):
                received.extend(data)
                if received.endswith(b"0\r\n\r\n"):
                    await peer.send(OK)

        chunks = b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes) + b"0\r\n\r\n"
        async with bench(upstream, max_request_body_bytes=10) as b:
            answer = await b.exchange(POST + b"Connection: close\r\n" + CHUNKED + chunks, piece=piece)
            assert answer.status == status
            if status == 413:
                assert is_own(answer, 413, "http_request_error")
                assert answer.end == "closed"
        assert [message.is_complete for message in read_requests(bytes(received))] in ([status == 200], [])

    @PIECES
    @pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 502), (5000, 502)])
    async def test_of_a_response_s_head_is_a_502(self, piece, excess, status):
        start = OK.partition(b"\r\n\r\n")[0] + b"\r\nX-Long: "
        head = start + b"x" * (1000 - len(start) + excess) + b"\r\n\r\n"

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(head + b"ok", piece=piece)

        async with bench(upstream, max_head_size_bytes=1000) as b:
            answer = await b.exchange(CLOSING)
            assert answer.status == status
            if status == 502:
                assert is_own(answer, 502, "http_response_header_section_size")
                assert b.gateway.stats.upstream_errors == {"upstream_head_too_large": 1}


# What the cases stand on


class Trickling:
    """An app that reads a head, and then says its words evenly in four or six steps, when it is told to.

    Attributes:
        asked: the head is here.
        peer: its connection.
    """

    peer: Peer

    def __init__(self, words: bytes) -> None:
        self._words = words
        self._size = max(1, len(words) // 4)
        self.asked = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        self.peer = peer
        await peer.read_head()
        self.asked.set()
        await peer.reader.read()  # to the end of it

    async def say(self) -> None:
        """Send some more, and let it arrive."""
        said, self._words = self._words[: self._size], self._words[self._size :]
        await self.peer.send(said)
        await asyncio.sleep(0.005)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port where connections are neither accepted nor refused: the kernel's queue for it is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(listening.getsockname())
        try:
            yield listening.getsockname()[1]
        finally:
            for connection in waiting:
                connection.close()


async def send_and_see(b: Bench, peer: Peer, data: bytes) -> None:
    """Send a part of a head, and wait until the gateway holds it."""
    (connection,) = b.gateway.clients
    before = len(connection._buffer)
    await peer.send(data)
    await until(lambda: len(connection._buffer) == before + len(data))
