"""A rule that asks for the response's type, on the wire: what it does not match keeps its 304. Issue 16.11."""

from __future__ import annotations

import pytest

from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from tests.rules.making import conditions, response_keys
from tests.support.gateway import bench
from tests.support.peer import Peer

RULES = (Rule("data", STRICT, conditions(response=response_keys(content_types=["application/json"]))),)
GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n"
TAG = b'If-None-Match: "a"\r\n'


async def app(peer: Peer) -> None:
    """Answers 304 to a condition, else 200 with the type that the target names."""
    while head := await peer.read_request():
        media_type = b"application/json" if b" /data" in head else b"text/html"
        if b"If-None-Match" in head:
            await peer.send(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')
        else:
            await peer.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: "
                + media_type
                + b'\r\nETag: "a"\r\nContent-Length: 2\r\n\r\nok'
            )


async def test_page_keeps_its_304_and_data_come_anew():
    async with bench(app, rules=RULES) as b:
        peer = await b.connect()
        await peer.send(GET % b"page" + TAG + b"\r\n")
        page = await peer.read_head()
        assert page.startswith(b"HTTP/1.1 304 Not Modified\r\n")
        assert b"no-store" not in page
        await peer.send(GET % b"data" + TAG + b"\r\n")
        data = await peer.read_response()
        assert (data.status, data.content, data.is_protected) == (200, b"ok", True)
        await peer.send(GET % b"page" + b"\r\n")
        assert (await peer.read_response()).content == b"ok"
        asked = [b"If-None-Match" in head for head in b.recorder.heads]
        assert asked == [True, False, True, False, False]
        assert b.gateway.stats.in_flight == 0


@pytest.mark.parametrize("scheme", [b"NTLM x", b"Negotiate x"])
async def test_connection_that_is_authenticated_is_asked_both_times(scheme):
    async with bench(app, rules=RULES) as b:
        peer = await b.connect()
        await peer.send(GET % b"data" + TAG + b"Authorization: " + scheme + b"\r\n\r\n")
        assert (await peer.read_response()).is_protected
        await peer.send(GET % b"page" + TAG + b"\r\n")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 304 ")
        assert len(b.recorder.heads) == 4


@pytest.mark.parametrize(
    ("condition", "first"),
    [
        (b'Range: bytes=0-1\r\nIf-Range: "a"\r\n', b"206 Partial Content\r\nContent-Range: bytes 0-1/9"),
        (TAG, b"304 Not Modified\r\nConnection: close"),
    ],
)
async def test_second_asking_goes_elsewhere_where_the_authenticated_connection_is_gone(condition, first):
    async def app(peer: Peer) -> None:
        while head := await peer.read_request():
            status = first if b"If-" in head else b"200 OK"
            content = b"" if status.startswith(b"304") else b"ok"
            fields = b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
            await peer.send(b"HTTP/1.1 " + status + fields + content)

    async with bench(app, rules=RULES) as b:
        peer = await b.connect()
        await peer.send(GET % b"data" + condition + b"Authorization: NTLM x\r\n\r\n")
        answer = await peer.read_response()
        assert answer.data.startswith(b"HTTP/1.1 200 OK\r\n"), "nothing of the first answer is sent"
        assert (answer.content, answer.is_protected) == (b"ok", True)
        assert (b.gateway.stats.upstream_connections_total, b.gateway.stats.retries_total) == (2, 0)
