"""The load generator's judgement: a proxy that answers wrongly must never look fast."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.benchmarks import load, messages, upstream

ENFORCED_HEAD = messages.response(messages.SMALL_CONTENT).replace(messages.STORABLE, messages.ENFORCED)
UPLOAD_HEAD = messages.response(messages.RECEIVED)


def chunked(content: bytes, size: int) -> bytes:
    head = messages.response(b"", chunked=True).replace(messages.STORABLE, messages.ENFORCED)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def measured(answers: list[bytes], request="repeated", rate_per_s: int = 0) -> load.Figures:
    """Let the load talk for a moment to a server that gives these answers, the last one ever after."""
    left = list(answers)

    class Server(asyncio.Protocol):
        received = b""

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.received += data
            size = messages.MIB if request == "upload-1m" else 0
            end = self.received.find(b"\r\n\r\n")
            if end < 0 or len(self.received) < end + 4 + size:
                return
            self.received = b""
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer:
                self.transport.write(answer)
            else:
                self.transport.close()

    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return await load.measure(load.Job(port, request, 2, rate_per_s, 0.02, 0.1, os.getpid(), os.getpid()))
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("request_kind", "answer"),
    [
        ("repeated", ENFORCED_HEAD),
        ("distinct", ENFORCED_HEAD),
        ("pieces", chunked(messages.STREAM_CONTENT, 512)),
        ("pieces", chunked(messages.STREAM_CONTENT, 700)),
        ("upload-1m", UPLOAD_HEAD),
        ("download-64k", messages.response(messages.BLOCK_64_KIB)),
    ],
)
async def test_right_answers_are_counted(request_kind, answer):
    """The control: the same server with the right answer is measured."""
    figures = await measured([answer], request_kind)
    assert figures.mistake is None
    assert figures.requests > 0
    assert 0 < figures.p50_s <= figures.p99_s <= figures.max_s


async def test_requests_at_a_fixed_rate_are_sent_at_that_rate():
    """A tenth of a second at 1,000 requests/s; generous, as the machine may be busy."""
    figures = await measured([ENFORCED_HEAD], rate_per_s=1000)
    assert figures.mistake is None
    assert figures.requests <= figures.seconds * 1000 + 60


@pytest.mark.parametrize(
    ("answers", "mistake"),
    [
        ([ENFORCED_HEAD.replace(b"200 OK", b"502 Bad Gateway")], "unexpected answer"),
        ([ENFORCED_HEAD] * 5 + [ENFORCED_HEAD.replace(b"200 OK", b"502 Bad Gateway")], "unexpected answer"),
        ([messages.response(messages.SMALL_CONTENT)], "Cache-Control"),
        ([ENFORCED_HEAD] * 5 + [messages.response(messages.SMALL_CONTENT)], "not enforced"),
        ([ENFORCED_HEAD.replace(b"Server:", b"Cache-Control: max-age=9\r\nServer:")], "Cache-Control"),
        ([ENFORCED_HEAD[:-1] + b"?"], "bytes of content"),
        ([ENFORCED_HEAD] * 5 + [ENFORCED_HEAD + b"!"], "bytes of content"),
        ([ENFORCED_HEAD] * 5 + [b""], "closed by the proxy"),
    ],
)
async def test_a_wrong_answer_spoils_the_measurement(answers, mistake):
    """Status, enforced field, content, connection: first answers in full, later ones by length and bytes."""
    figures = await measured(answers)
    assert figures.mistake is not None
    assert mistake in figures.mistake


async def test_a_chunked_answer_with_a_piece_missing_spoils_the_measurement():
    """Chunk sizes may change on the way, the content may not."""
    figures = await measured([chunked(messages.STREAM_CONTENT[:-512], 512)], "pieces")
    assert figures.mistake is not None
    assert "bytes of content" in figures.mistake


def test_the_upstream_sends_what_the_load_expects():
    """Both read the same constants; the head section says so."""
    assert upstream.SMALL.endswith(b"\r\n\r\n" + messages.SMALL_CONTENT)
    assert (
        chunked(messages.STREAM_CONTENT, 512).partition(b"\r\n\r\n")[2][:-5]
        == upstream.STREAM_PIECE * messages.PIECES
    )
