"""Framing is made anew for each peer, and connections are used again where it allows: RFC 9112.

HTTP/1.1 and 1.0 clients, pipelining in order, keep-alive on both sides; `test_streaming.py` is about when
bytes move, this about what they say.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import bench
from tests.support.peer import Peer
from tests.support.strict_reader import read_requests, read_responses
from tests.support.upstream import Script
from tests.support.waiting import LIMIT_S

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])
FRAMINGS = {
    "fixed": b"Content-Length: 5\r\n\r\nhello",
    "chunked": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "until close": b"\r\nhello",
    "empty": b"Content-Length: 0\r\n\r\n",
}
CLIENTS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.1 close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/1.0 keep-alive": b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
}


class Test_Content_is_framed_anew:
    @PIECES
    async def test_chunks_of_a_request_lose_extensions_and_trailers(self, piece):
        """RFC 9112 section 7.1: what the app gets is strict; trailers are dropped, and so is their announcement."""
        content = b'5;a=b\r\nhello\r\n0006;c="d"\r\n world\r\n000\r\nX-Trailer: t\r\nCookie: a=b\r\n\r\n'
        received = b""

        async def upstream(peer: Peer) -> None:
            nonlocal received
            received = await peer.read_head()
            received += await peer.read_until(b"0\r\n\r\n")
            await peer.send(OK + b"Content-Length: 2\r\n\r\nok")
            received += (await peer.read_to_end()).data

        request = b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Trailer\r\nTE: trailers\r\n" + CHUNKED
        async with bench(upstream) as b:
            client = await b.connect()
            await client.send(request + content, piece=piece)
            assert (await client.read_response()).content == b"ok"
        (message,) = read_requests(received)
        assert message.content == b"hello world"
        assert message.values(b"transfer-encoding") == [b"chunked"]
        assert not any(message.values(name) for name in (b"trailer", b"te", b"x-trailer", b"cookie"))

    @PIECES
    async def test_chunks_of_a_response_lose_extensions_and_trailers(self, piece):
        """Also a space after the size, which old servers send."""
        content = b"5;a=b\r\nhello\r\n6 \r\n world\r\n0\r\nX-Trailer: t\r\nSet-Cookie: a=b\r\n\r\n"
        response = OK + b"Trailer: X-Trailer, Set-Cookie\r\n" + CHUNKED + content

        async def upstream(peer: Peer) -> None:
            while await peer.reader.readuntil(b"\r\n\r\n"):
                await peer.send(response, piece=piece)

        async with bench(upstream) as b:
            peer = await b.connect()
            data = b""
            for _ in range(2):
                await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                data += (await peer.read_response()).data
            messages = read_responses(data, iter(["GET", "GET"]))
            assert [message.content for message in messages] == [b"hello world"] * 2
            assert not any(
                m.values(b"trailer") + m.values(b"x-trailer") + m.values(b"set-cookie") for m in messages
            )
            assert b.recorder.connections == 1, "a trailer is the response's end, and no reason to close"

    @PIECES
    async def test_pipelined_requests_with_content_in_every_framing_are_told_apart(self, piece):
        requests = (
            b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /",
            b"POST /2 HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"5\r\nPUT /\r\n0\r\n\r\n",
            b"\r\nHEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PUT /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            b"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b"GET /6 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        async with bench(numbering()) as b:
            answer = await b.exchange(b"".join(requests), piece=piece)
            messages = read_responses(answer.data, iter(["POST", "POST", "HEAD", "PUT", "GET"]))
            assert [message.values(b"x-number") for message in messages] == [[b"%d" % n] for n in range(1, 6)]
            assert b.recorder.contents == [b"GET /", b"PUT /", b"", b"", b""]
            assert b.recorder.connections == 3, "none is left behind by chunks, nor by an answer to HEAD"

    async def test_pipelined_request_waits_for_the_response_before_it(self):
        first_is_here, first_may_end = asyncio.Event(), asyncio.Event()
        heads: list[bytes] = []

        async def upstream(peer: Peer) -> None:
            while True:
                heads.append(await peer.reader.readuntil(b"\r\n\r\n"))
                await peer.send(OK + b"Content-Length: 2\r\n\r\no")
                first_is_here.set()
                await first_may_end.wait()
                await peer.send(b"k")

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            await first_is_here.wait()
            await peer.read_head()
            assert await peer.read_exactly(1) == b"o"
            (connection,) = b.gateway.clients
            assert connection._buffer.startswith(b"GET /2 ")
            assert len(heads) == 1
            first_may_end.set()
            await peer.read_exactly(1)
            assert (await peer.read_response()).content == b"ok"
            assert len(heads) == 2


@PIECES
@pytest.mark.parametrize("client_name", CLIENTS)
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_each_client_gets_a_framing_that_it_knows(piece, framing, client_name):
    """HTTP/1.0 clients get no chunks: what has no length ends with the connection. RFC 9112 section 6."""

    async def upstream(peer: Peer) -> None:
        while await peer.reader.readuntil(b"\r\n\r\n"):
            await peer.send(OK + FRAMINGS[framing], piece=piece)
            if framing == "until close":
                return

    has_length, is_old = framing in ("fixed", "empty"), client_name.startswith("HTTP/1.0")
    stays = client_name == "HTTP/1.1" or (client_name == "HTTP/1.0 keep-alive" and has_length)
    content = b"" if framing == "empty" else b"hello"
    async with bench(upstream) as b:
        peer = await b.connect()
        await peer.send(CLIENTS[client_name], piece=piece)
        answer = await (peer.read_response() if stays else peer.read_to_end())
        assert answer.end == ("open" if stays else "closed")
        assert answer.field("Transfer-Encoding") == ([b"chunked"] if not has_length and not is_old else [])
        assert answer.field("Content-Length") == ([b"%d" % len(content)] if has_length else [])
        assert answer.field("Connection") == (
            [b"keep-alive"] if stays and is_old else [] if stays else [b"close"]
        )
        data = answer.data
        if stays:
            await peer.send(CLIENTS[client_name], piece=piece)
            data += (await peer.read_response()).data
        messages = read_responses(data, iter(["GET"] * 2))
        assert [message.content for message in messages] == [content] * (2 if stays else 1)


LENGTH_OF_ANOTHER = b"Content-Length: 5\r\n"


@PIECES
@pytest.mark.parametrize("asked", ["HTTP/1.1", "HTTP/1.0 keep-alive"])
@pytest.mark.parametrize(
    ("method", "response", "kept"),
    [
        pytest.param(b"HEAD", OK + LENGTH_OF_ANOTHER, [b"5"], id="HEAD"),
        pytest.param(b"HEAD", OK + b"Transfer-Encoding: chunked\r\n", [], id="HEAD chunked"),
        pytest.param(b"HEAD", OK, [], id="HEAD without length"),
        pytest.param(
            b"HEAD", b"HTTP/1.1 404 Not Found\r\n" + LENGTH_OF_ANOTHER, [b"5"], id="HEAD of an error"
        ),
        pytest.param(b"GET", b"HTTP/1.1 204 No Content\r\n", [], id="204"),
        pytest.param(
            b"DELETE", b"HTTP/1.1 204 No Content\r\n" + LENGTH_OF_ANOTHER, [], id="204 with a length"
        ),
        pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\n", [], id="304"),
        pytest.param(
            b"GET", b"HTTP/1.1 304 Not Modified\r\n" + LENGTH_OF_ANOTHER, [b"5"], id="304 with a length"
        ),
    ],
)
async def test_response_without_content_ends_with_its_head(piece, asked, method, response, kept):
    """Whatever its fields say of the content it would have had, RFC 9112 section 6.3; the connection goes on."""
    line, rest = CLIENTS[asked].split(b"\r\n", 1)
    request = line.replace(b"GET", method) + b'\r\nIf-None-Match: "v"\r\n' + rest

    async def upstream(peer: Peer) -> None:
        while await peer.reader.readuntil(b"\r\n\r\n"):
            await peer.send(response + b"\r\n", piece=piece)

    async with bench(upstream) as b:
        peer = await b.connect()
        for _ in range(2):
            await peer.send(request, piece=piece)
            head = await peer.read_head()
            assert head.partition(b"\r\n")[0] == response.partition(b"\r\n")[0]
            (message,) = read_responses(head, iter([method.decode()]))
            assert message.values(b"content-length") == kept
            assert message.values(b"connection") == ([b"keep-alive"] if "1.0" in asked else [])
        # What a 204 announces may follow yet: it would be taken for the next response.
        assert b.recorder.connections == 2, "the app's content may follow all the same"


class Test_Upstream_connection:
    @pytest.mark.parametrize(
        ("response", "is_reused"),
        [
            (OK + FRAMINGS["fixed"], True),
            (OK + FRAMINGS["chunked"], True),
            (OK + FRAMINGS["empty"], False),  # content may follow all the same
            (OK + b"Connection: Keep-Alive\r\n" + FRAMINGS["fixed"], True),
            (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + FRAMINGS["fixed"], True),
            (b"HTTP/1.1 500 Oh\r\n" + FRAMINGS["fixed"], True),
            (OK + b"Connection: x, Close\r\n" + FRAMINGS["fixed"], False),
            (b"HTTP/1.0 200 OK\r\n" + FRAMINGS["fixed"], False),
            (OK + FRAMINGS["until close"], False),
        ],
    )
    async def test_is_used_again_unless_the_response_says_otherwise(self, response, is_reused):
        """RFC 9112 section 9.3; for clients that come one after the other and close."""

        async def upstream(peer: Peer) -> None:
            while await peer.reader.readuntil(b"\r\n\r\n"):
                await peer.send(response)
                if b"\r\n\r\nhello" in response and b"Content-Length" not in response:
                    return

        async with bench(upstream) as b:
            for _ in range(3):
                answer = await b.exchange(CLIENTS["HTTP/1.1 close"])
                assert (answer.status, answer.end) == (int(response[9:12]), "closed")
            assert b.recorder.connections == (1 if is_reused else 3)
            assert b.gateway.stats.upstream_reused_total == (2 if is_reused else 0)

    async def test_is_never_lent_twice(self):
        """As many as there are requests at once; then those are enough."""
        gathered = asyncio.Barrier(4)

        async def upstream(peer: Peer) -> None:
            while await peer.reader.readuntil(b"\r\n\r\n"):
                async with asyncio.timeout(LIMIT_S):
                    await gathered.wait()
                await peer.send(OK + FRAMINGS["fixed"])

        async with bench(upstream) as b:
            for _ in range(3):
                answers = await asyncio.gather(*(b.exchange(CLIENTS["HTTP/1.1 close"]) for _ in range(4)))
                assert [answer.content for answer in answers] == [b"hello"] * 4
            assert b.recorder.connections == 4


# What the cases stand on

# What the cases stand on


def numbering() -> Script:
    """An upstream that answers with the number that is the request's target."""

    async def script(peer: Peer) -> None:
        while True:
            head = await peer.read_request()
            number = head.split(b" ")[1].removeprefix(b"/")
            content = b"" if head.startswith(b"HEAD") else b"hello"
            await peer.send(OK + b"X-Number: " + number + b"\r\nContent-Length: 5\r\n\r\n" + content)

    return script
