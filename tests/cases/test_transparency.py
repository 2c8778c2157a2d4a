"""Cases 41 and 45: what no rule touches is the same with and without the gateway; exceptions are exact."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest

from tests.cases.support import response, rules
from tests.support.peer import request
from tests.support.upstream import in_parts

if TYPE_CHECKING:
    from tests.cases.conftest import Scripted

RULES = rules("{name: api, match: {paths: ['/api/**']}}")
DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT"
ZIPPED = gzip.compress(b"hello " * 100)


def kept(head: bytes) -> list[bytes]:
    """Status line and fields without those of the connection; white space around a value is no part of it."""
    status_line, *lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")
    fields = [line.partition(b":") for line in lines]
    own = (b"connection", b"transfer-encoding")
    return [
        status_line,
        *(name + b":" + value.strip() for name, _, value in fields if name.lower() not in own),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(
            response(
                DATE,
                "Set-Cookie: a=1",
                "X-A: 1",
                "set-cookie: b=2",
                "Cache-Control: public",
                "cache-control: max-age=9",
            ),
            id="multiplicity_and_order",
        ),
        pytest.param(response(DATE, "X-EMPTY:", "x-Obsolete: caf\xe9\xff", 'ETag: W/"a"'), id="odd_values"),
        pytest.param(
            response(DATE, "Content-Encoding: gzip", "Vary: Accept-Encoding", content=ZIPPED), id="gzip"
        ),
        pytest.param(response(DATE, "Server: x", status="299 Very Odd Reason"), id="reason_phrase"),
        pytest.param(response(DATE, status="200 "), id="no_reason_phrase"),
        pytest.param(
            response(DATE, "Age: 3", "Warning: 110 - x", "Surrogate-Control: max-age=9"), id="cache_fields"
        ),
        pytest.param(response(DATE, content=b""), id="no_content"),
        pytest.param(f"HTTP/1.1 204 No Content\r\n{DATE}\r\nX: y\r\n\r\n".encode(), id="204"),
        pytest.param(
            f'HTTP/1.1 304 Not Modified\r\n{DATE}\r\nETag: "a"\r\nVary: A\r\n\r\n'.encode(), id="304"
        ),
        pytest.param(response(DATE, "Location: //x/y z", status="301 Moved"), id="redirect"),
    ],
)
async def test_case_41_unmatched_response_is_the_same(scripted: Scripted, raw: bytes) -> None:
    """Byte for byte: status line, fields with their order, case and number, and content."""
    gateway, _ = await scripted(raw, RULES)
    reply = await gateway.ask("/other", 'If-None-Match: "a"')
    head, _, content = raw.partition(b"\r\n\r\n")
    assert kept(reply.raw) == kept(head)
    assert reply.raw.partition(b"\r\n\r\n")[2] == content


async def test_case_41_head_keeps_its_content_length(scripted: Scripted) -> None:
    """It says what a GET would get."""
    raw = f"HTTP/1.1 200 OK\r\n{DATE}\r\nContent-Length: 12345\r\n\r\n".encode()
    gateway, _ = await scripted(raw, RULES)
    reply = await gateway.ask("/other", method="HEAD")
    assert kept(reply.raw) == kept(raw)


async def test_case_41_chunked_content_is_the_same(scripted: Scripted) -> None:
    """Chunked or until the connection closes: the same content, framed so that its end can be told."""
    head = f"HTTP/1.1 200 OK\r\n{DATE}\r\nX: y\r\n".encode()
    content = bytes(range(256)) * 300
    for answer in (
        in_parts(head + b"Transfer-Encoding: chunked\r\n\r\n12c00\r\n" + content + b"\r\n0\r\n\r\n"),
        in_parts(head + b"\r\n" + content, end="close"),
    ):
        gateway, _ = await scripted(answer, RULES)
        reply = await gateway.ask("/other")
        assert kept(reply.raw) == kept(head + b"\r\n")
        assert (reply.content, reply.is_complete) == (content, True)


@pytest.mark.parametrize("target", ["/other", "/api/events"])
async def test_case_41_server_sent_event_arrives_before_the_next_is_sent(
    scripted: Scripted, target: str
) -> None:
    """The app sends its second event only when the client has the first: no buffering in between."""
    client_has_first = asyncio.Event()
    head = f"HTTP/1.1 200 OK\r\n{DATE}\r\nContent-Type: text/event-stream\r\n\r\n".encode()
    answer = in_parts(head, b"data: 1\n\n", client_has_first, b"data: 2\n\n", end="close")
    gateway, _ = await scripted(answer, RULES)
    peer = await gateway.bench.connect()
    await peer.send(request(target))
    received = await peer.read_until(b"data: 1\n\n")
    client_has_first.set()
    await peer.read_until(b"data: 2\n\n")
    assert (b"no-store" in received) is target.startswith("/api")


@pytest.mark.parametrize("treatment", ["pass", "revalidate", "strict"])
@pytest.mark.parametrize(
    ("disposition", "is_attachment"),
    [
        ("attachment", True),
        ('ATTACHMENT; filename="a;b.pdf"', True),
        ("inline; filename=attachment", False),
        (None, False),
    ],
)
async def test_case_45_attachments_can_be_treated_in_each_way(
    scripted: Scripted, treatment: str, disposition: str | None, *, is_attachment: bool
) -> None:
    """An exception for downloads, told by the response: left alone, weakened, or enforced like the rest."""
    gateway, _ = await scripted(
        response(
            *([f"Content-Disposition: {disposition}"] if disposition else []), "Cache-Control: max-age=9"
        ),
        rules(
            f"{{name: downloads, match: {{response: {{attachment: true}}}}, policy: {treatment}}}",
            "{name: rest, match: {paths: ['/**']}, policy: classic}",
        ),
    )
    reply = await gateway.ask("/file")
    policy = treatment if is_attachment else "classic"
    if policy == "pass":
        assert reply.values("cache-control") == ["max-age=9"]
    else:
        assert reply.is_enforced(policy)


async def test_case_45_shipped_way_by_unless(scripted: Scripted) -> None:
    """The same as an exception of the rule itself."""
    gateway, _ = await scripted(
        lambda received: response(
            *(["Content-Disposition: attachment"] if b"/file" in received else []), "Cache-Control: max-age=9"
        ),
        rules("{name: all, match: {paths: ['/**']}, unless: {response: {attachment: true}}}"),
    )
    assert (await gateway.ask("/file")).values("cache-control") == ["max-age=9"]
    assert (await gateway.ask("/data")).is_enforced()
