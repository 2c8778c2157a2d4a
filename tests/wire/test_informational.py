"""Informational responses: 1xx are passed on as they come, and the final response is what is enforced on.

RFC 9110 sections 10.1.1 and 15.2: `Expect: 100-continue` is end to end, so the app decides; HTTP/1.0
clients know no 1xx.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import bench
from tests.support.peer import XHR_LINE, Peer
from tests.support.strict_reader import read_responses
from tests.support.waiting import until

PIECES = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CONTENTS = {
    b"Content-Length: 5\r\n": b"hello",
    CHUNKED: b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
}
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def expecting(framing: bytes = b"Content-Length: 5\r\n", *lines: bytes, version: bytes = b"1.1") -> bytes:
    fields = b"Host: a\r\nExpect: 100-continue\r\n" + framing + b"".join(lines)
    return b"POST / HTTP/" + version + b"\r\n" + fields + b"\r\n"


class Upstream:
    """An app that says something to each head, reads the content where it comes, and answers.

    Args:
        before: sent when the head is here.
        final: sent when the content is; nothing where `before` was final.
        piece: what it sends is cut into pieces of that size.
    """

    def __init__(self, before: bytes, final: bytes = b"", *, piece: int = 0) -> None:
        self.before, self.final, self.piece = before, final, piece
        self.heads: list[bytes] = []
        self.contents: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if head.startswith(b"GET /next "):
                await peer.send(OK)
                continue
            await peer.send(self.before, piece=self.piece)
            self.contents.append(await peer.read_content(head))
            await peer.send(self.final, piece=self.piece)


class Test_Expect_100_continue:
    @PIECES
    @pytest.mark.parametrize("framing", CONTENTS)
    async def test_is_the_upstream_s_to_answer(self, piece, framing):
        """The client waits; the gateway says nothing of its own; the content goes when the app has asked for it."""
        upstream = Upstream(CONTINUE, OK, piece=piece)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(expecting(framing), piece=piece)
            assert await peer.read_head() == CONTINUE
            assert upstream.contents == []
            assert b"\r\nExpect: 100-continue\r\n" in upstream.heads[0]
            await peer.send(CONTENTS[framing], piece=piece)
            assert (await peer.read_response()).status == 200
            await peer.send(NEXT, piece=piece)
            assert (await peer.read_to_end()).status == 200
        assert upstream.contents == [b"hello"]
        assert b.recorder.connections == 2, "another 100 may follow the answer"

    @PIECES
    @pytest.mark.parametrize("framing", CONTENTS)
    async def test_answered_with_a_final_status_ends_the_connections(self, piece, framing):
        """The client may send the content or not, so what follows cannot be told from a request: RFC 9110 section 10.1.1."""
        refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno"
        upstream = Upstream(refusal, piece=piece)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(expecting(framing, XHR_LINE), piece=piece)
            answer = await peer.read_to_end()
            assert (answer.status, answer.content, answer.end) == (417, b"no", "closed")
            assert answer.field("Connection") == [b"close"]
            assert answer.is_protected
            assert (await b.exchange(NEXT)).status == 200
        assert b.recorder.connections == 2
        assert upstream.contents == []

    @PIECES
    @pytest.mark.parametrize("framing", CONTENTS)
    async def test_content_that_comes_all_the_same_is_no_request(self, piece, framing):
        """Also when it looks like one; the app that refused it never gets it."""
        refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
        upstream = Upstream(refusal)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(expecting(framing))
            answer = await peer.read_response()
            assert (answer.status, answer.content) == (401, b"no")
            try:
                await peer.send(NEXT, piece=piece)
            except ConnectionError:
                pass  # closed while it was sent
            assert (await peer.read_to_end()).data == b""
        assert len(upstream.heads) == 1

    @PIECES
    @pytest.mark.parametrize("framing", CONTENTS)
    async def test_client_need_not_wait(self, piece, framing):
        """Content at once: nothing changes, and a 100 that comes late is passed on all the same."""
        upstream = Upstream(CONTINUE, OK, piece=piece)
        async with bench(upstream) as b:
            answer = await b.exchange(expecting(framing) + CONTENTS[framing] + NEXT, piece=piece)
            messages = read_responses(answer.data, iter(["POST", "GET"]))
            assert [message.status for message in messages] == [100, 200, 200]
        assert upstream.contents == [b"hello"]

    @PIECES
    async def test_app_that_answers_after_the_content_without_a_100_is_fine(self, piece):
        """Where the client gives up to wait: RFC 9110 section 10.1.1 tells it not to wait for ever."""
        upstream = Upstream(b"", OK)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(expecting(), piece=piece)
            await until(lambda: upstream.heads)
            await peer.send(b"hello", piece=piece)
            answer = await peer.read_response()
            assert (answer.status, answer.field("Connection")) == (200, [])

    async def test_client_that_waits_in_vain_gets_a_408(self, hands):
        upstream = Upstream(b"")
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(expecting())
            await until(lambda: upstream.heads)
            await hands.forward(b, 301)
            answer = await peer.read_to_end()
            assert (answer.status, answer.is_protected, answer.end) == (408, True, "closed")

    @PIECES
    async def test_of_a_request_without_content_keeps_the_connections(self, piece):
        upstream = Upstream(CONTINUE + OK, piece=piece)
        async with bench(upstream) as b:
            answer = await b.exchange(expecting(b"Content-Length: 0\r\n") + NEXT, piece=piece)
            messages = read_responses(answer.data, iter(["POST", "GET"]))
            assert [message.status for message in messages] == [100, 200, 200]

    async def test_time_for_the_response_begins_when_the_content_is_complete(self, hands):
        """A 100 ends no wait, and takes none away: 504 by the time-out of the response's head, not the idle one."""
        upstream = Upstream(CONTINUE)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(expecting())
            await peer.read_head()
            await hands.forward(b, 70)
            await peer.send(b"hello")
            await until(lambda: upstream.contents)
            await hands.forward(b, 61)
            answer = await peer.read_response()
            assert (answer.status, answer.is_protected, answer.end) == (504, True, "open")


class Test_Informational_response:
    @PIECES
    @pytest.mark.parametrize(
        "responses",
        [
            pytest.param([HINTS + b"\r\n"], id="103"),
            pytest.param([HINTS + b"\r\n", HINTS + b"A: b\r\n\r\n", HINTS + b"\r\n"], id="103 thrice"),
            pytest.param([b"HTTP/1.1 102 Processing\r\n\r\n"], id="102"),
            pytest.param([CONTINUE], id="100 that nobody waits for"),
            pytest.param([b"HTTP/1.1 199 Odd  phrase\r\nX: \xe9\r\n\r\n"], id="unknown"),
            pytest.param([b"HTTP/1.1 103 \r\n\r\n"], id="no reason phrase"),
            pytest.param([CONTINUE, HINTS + b"\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"], id="mixed"),
        ],
    )
    async def test_is_passed_on_as_it_is(self, piece, responses):
        """Several, in order; no field is added to them, under a rule that enforces neither."""
        async with bench(Upstream(b"".join(responses) + OK, piece=piece)) as b:
            peer = await b.connect()
            for _ in range(2):
                await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n", piece=piece)
                for response in responses:
                    assert await peer.read_head() == response
                answer = await peer.read_response()
                assert (answer.status, answer.is_protected, answer.end) == (200, True, "open")
            assert b.recorder.connections == 1

    @PIECES
    async def test_is_with_the_client_before_the_final_one_is_sent(self, piece):
        final = asyncio.Event()

        async def upstream(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(HINTS + b"\r\n", piece=piece)
            await final.wait()
            await peer.send(OK, piece=piece)

        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await peer.read_head() == HINTS + b"\r\n"
            final.set()
            assert (await peer.read_response()).status == 200

    @PIECES
    async def test_loses_its_hop_by_hop_fields_and_its_framing(self, piece):
        """A 1xx has no content, RFC 9110 section 8.6: a length in it would be read as one by the next parser."""
        odd = b"HTTP/1.1 103 Early Hints\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nA: b\r\n"
        async with bench(Upstream(odd + b"Content-Length: 0\r\n\r\n" + OK, piece=piece)) as b:
            answer = await b.exchange(NEXT.replace(b"/next", b"/"))
            hints, final = read_responses(answer.data, iter(["GET"]))
            assert hints.fields == ((b"A", b"b"),)
            assert final.content == b"ok"

    @PIECES
    @pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
    async def test_is_not_sent_to_an_old_client(self, piece, connection):
        """RFC 9110 section 15.2."""
        upstream = Upstream(CONTINUE + HINTS + b"\r\n" + OK, piece=piece)
        async with bench(upstream) as b:
            peer = await b.connect()
            await peer.send(expecting(b"Content-Length: 0\r\n", connection, version=b"1.0"), piece=piece)
            answer = await (peer.read_response() if connection else peer.read_to_end())
            assert (answer.status, answer.content) == (200, b"ok")

    @PIECES
    @pytest.mark.parametrize("before", [b"", CONTINUE, HINTS + b"\r\n"])
    async def test_that_switches_unasked_is_a_502(self, piece, before):
        """Nothing of it or after it reaches the client as a response, and the connection to the app ends."""
        switch = (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsecret"
        )
        async with bench(Upstream(before + switch, piece=piece)) as b:
            answer = await b.exchange(NEXT.replace(b"/next", b"/"), piece=piece)
            *informational, final = read_responses(answer.data, iter(["GET"]))
            assert len(informational) == bool(before)
            assert (final.status, final.is_protected) == (502, True)
            assert b"secret" not in answer.data
            assert b.gateway.stats.upstream_errors == {"upstream_malformed": 1}
