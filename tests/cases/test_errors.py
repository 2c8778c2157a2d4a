"""Cases 38 to 40: every status is enforced, the gateway's own errors too; a broken answer stays broken."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.cases.support import Asked, response, rules
from tests.support.gateway import bench
from tests.support.peer import request
from tests.support.ports import free_port
from tests.support.upstream import Script, in_parts

if TYPE_CHECKING:
    from tests.cases.conftest import Scripted, ToFlask

RULES = rules("{name: api, match: {paths: ['/api/**']}}")
STATUSES = (
    *("200 OK", "201 Created", "203 X", "204 No Content", "206 Partial Content", "300 Multiple Choices"),
    *(
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ),
    *(
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "405 Method Not Allowed",
        "410 Gone",
    ),
    *("412 Precondition Failed", "414 URI Too Long", "416 X", "418 X", "429 X", "451 X"),
    *("500 Internal Server Error", "501 Not Implemented", "502 Bad Gateway", "503 X", "504 X", "599 X"),
)


@pytest.mark.parametrize("status", STATUSES)
async def test_case_38_every_status_is_enforced(scripted: Scripted, status: str) -> None:
    """A transient 404 or a redirect can stick in a cache as well as a 200 can."""
    content = b"" if status.startswith("204") else b"hello"
    head = f"HTTP/1.1 {status}\r\nCache-Control: public, max-age=600\r\nLocation: /x\r\n"
    framing = f"Content-Length: {len(content)}\r\n" if content else ""
    gateway, _ = await scripted(f"{head}{framing}\r\n".encode() + content, RULES)
    reply = await gateway.ask("/api/data")
    assert f"{reply.status} {reply.reason}" == status
    assert reply.is_enforced()
    assert reply.content == content
    assert not reply.may_be_kept()


@pytest.mark.parametrize("status", [301, 308, 404, 405, 410, 414, 500, 501])
async def test_case_38_every_status_of_a_real_app_is_enforced(to_flask: ToFlask, status: int) -> None:
    """The same with Flask's own."""
    gateway = await to_flask(rules("{name: status, match: {paths: ['/status/**']}}"))
    reply = await gateway.ask(f"/status/{status}")
    assert reply.status == status
    assert reply.is_enforced()


async def test_case_39_app_that_is_down_gives_502() -> None:
    """Enforced, with Proxy-Status (RFC 9209), on matched and unmatched paths alike."""
    async with bench(rules=RULES, upstream=f"http://127.0.0.1:{free_port()}") as b:
        gateway = Asked(b)
        for target in ("/api/data", "/other"):
            reply = await gateway.ask(target)
            assert reply.status == 502
            assert reply.is_enforced()
            assert (reply.value("proxy-status") or "").startswith("nocache-proxy; error=")
            assert not reply.may_be_kept()


async def test_case_39_app_that_does_not_answer_gives_504(scripted: Scripted) -> None:
    """The time-out ends the wait, not the client."""
    never = asyncio.Event()
    gateway, _ = await scripted(in_parts(never), RULES, response_head_timeout_s=0.1)
    reply = await gateway.ask("/api/data")
    assert reply.status == 504
    assert reply.is_enforced()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(in_parts(b"nonsense\r\n\r\n", end="close"), id="no_http"),
        pytest.param(in_parts(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", end="close"), id="bad_field"),
        pytest.param(in_parts(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", end="close"), id="bad_length"),
        pytest.param(in_parts(b"HTTP/1.1 200 OK\r\nContent-", end="close"), id="closed_in_the_head"),
        pytest.param(in_parts(b"HTTP/1.1 200 OK\r\nContent-", end="reset"), id="reset_in_the_head"),
        pytest.param(in_parts(end="close"), id="closed_before_the_head"),
        pytest.param(in_parts(end="reset"), id="reset_before_the_head"),
    ],
)
async def test_case_39_malformed_response_gives_502(scripted: Scripted, answer: Script) -> None:
    """Nothing of it is passed on."""
    gateway, _ = await scripted(answer, RULES)
    reply = await gateway.ask("/api/data", method="POST")
    assert reply.status == 502
    assert reply.is_enforced()


FIXED = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nbegun"


@pytest.mark.parametrize(
    ("begun", "end"),
    [
        pytest.param(FIXED, "close", id="fixed_length_closed"),
        pytest.param(FIXED, "reset", id="fixed_length_reset"),
        pytest.param(CHUNKED, "close", id="chunked_closed"),
        pytest.param(CHUNKED, "reset", id="chunked_reset"),
        pytest.param(UNTIL_CLOSE, "reset", id="until_close_reset"),
    ],
)
async def test_case_39_truncated_content_is_not_completed(scripted: Scripted, begun: bytes, end: str) -> None:
    """The client can tell: the connection breaks, and no last chunk is invented."""
    received = asyncio.Event()
    gateway, _ = await scripted(in_parts(begun, received, end=end), RULES)
    peer = await gateway.bench.connect()
    await peer.send(request("/api/data"))
    head = await peer.read_head()
    await peer.read_until(b"begun")
    received.set()
    rest = await peer.read_to_end()
    assert b"no-store" in head
    assert (rest.data.strip(), rest.end) == (b"", "reset")


async def test_case_40_post_that_names_itself_is_not_kept_for_a_get(scripted: Scripted) -> None:
    """RFC 9110 section 9.3.3 would let a cache answer the GET from this POST; enforced, it may not."""
    app_says = response("Content-Location: /api/data", "Cache-Control: max-age=600")
    gateway, upstream = await scripted(app_says, RULES)
    post = await gateway.ask("/api/data", method="POST", content=b"x")
    assert post.is_enforced()
    assert not post.may_be_kept("POST")
    assert (await gateway.ask("/api/data")).is_enforced()
    assert [received.partition(b" ")[0] for received in upstream.requests] == [b"POST", b"GET"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"GET /api/data HTTP/1.1\r\n\r\n", 400, id="no_host"),
        pytest.param(b"GET /api/data HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two_hosts"),
        pytest.param(b"nonsense\r\n\r\n", 400, id="nonsense"),
        pytest.param(
            b"POST /api/data HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            id="smuggled",
        ),
        pytest.param(
            b"GET /api/data HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431, id="large_head"
        ),
        pytest.param(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, id="connect"),
    ],
)
async def test_own_errors_are_enforced(scripted: Scripted, raw: bytes, status: int) -> None:
    """Whoever made the response: it carries the strict policy."""
    gateway, upstream = await scripted(response(), RULES)
    reply = await gateway.send(raw)
    assert reply.status == status
    assert reply.is_enforced()
    assert upstream.requests == []
