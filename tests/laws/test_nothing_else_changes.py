"""The law of the other guarantee, DESIGN section 1: what no rule touches is the same with and without the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy.message.methods import PATTERN
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from tests.rules.making import conditions, field_key, response_keys
from tests.support.gateway import Bench, bench
from tests.support.peer import Peer
from tests.support.strict_reader import read_requests, read_responses

# Rules there are, on other paths, methods and statuses; the observing one holds for everything.
RULES = (
    Rule("watched", STRICT, mode="observe"),
    Rule(
        "elsewhere",
        STRICT,
        conditions(paths=("/elsewhere/**",), fields=(field_key("Accept", present=True),)),
    ),
    Rule("methods", STRICT, conditions(methods=frozenset({"PROPFIND"}))),
    Rule(
        "teapots",
        STRICT,
        conditions(
            methods=frozenset({"GET"}), paths=("/teapots",), response=response_keys(statuses=("418",))
        ),
    ),
)
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
ADDED_TO_REQUESTS = [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"]

TOKEN = b"!#$%&'*+-.^`|~0123456789abcxyzABCXYZ"
VISIBLE = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
Fields = list[tuple[bytes, bytes]]


def some_bytes(alphabet: bytes, most: int, *, least: int = 0) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(list(alphabet)), min_size=least, max_size=most).map(bytes)


WORDS = some_bytes(VISIBLE, 12, least=1)
VALUES = st.lists(WORDS, max_size=4).map(b" ".join) | st.sampled_from(
    [b"", b"*", b"no-store", b"a,b,,c", b'"q\\"uoted"', b"caf\xe9", b"x" * 3000, b"a\tb"]
)
OPTIONS = st.sampled_from(
    [b"close", b"keep-alive", b"X-Own", b"x-own, Server, ,", b"Content-Length, Date", b"Vary,ETag", b""]
)
COMMON_NAMES = (
    *(
        b"Cache-Control",
        b"Pragma",
        b"Expires",
        b"Vary",
        b"ETag",
        b"Last-Modified",
        b"Age",
        b"Date",
        b"Server",
        b"X-Own",
    ),
    *(
        b"Set-Cookie",
        b"set-cookie",
        b"SET-COOKIE",
        b"Content-Encoding",
        b"Surrogate-Control",
        b"CDN-Cache-Control",
    ),
    *(
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Trailer",
        b"TE",
        b"Content-Type",
        b"Location",
        b"X-Accel-Expires",
    ),
)
OWN_NAMES = some_bytes(TOKEN, 10, least=1)
FRAMING_NAMES = {b"content-length", b"connection", b"transfer-encoding", b"host", b"upgrade", b"expect"}


def fields(names: st.SearchStrategy[bytes]) -> st.SearchStrategy[Fields]:
    line = st.tuples(names, VALUES) | st.tuples(st.sampled_from([b"Connection", b"connection"]), OPTIONS)
    return st.lists(line, max_size=10).map(
        lambda lines: [(n, v) for n, v in lines if n.lower() not in FRAMING_NAMES - {b"connection"}]
    )


RESPONSE_FIELDS = fields(st.sampled_from(COMMON_NAMES) | OWN_NAMES)
REQUEST_FIELDS = fields(
    st.sampled_from(
        (
            b"Cookie",
            b"Accept",
            b"accept",
            b"If-None-Match",
            b"If-Match",
            b"If-Range",
            b"Range",
            b"X-Own",
            b"TE",
            b"User-Agent",  # aiohttp's parsers take some of these for singletons
            b"Content-Type",
            b"content-type",
            b"Authorization",
            b"Origin",
            b"Max-Forwards",
        )
    )
    | OWN_NAMES
)
ODDITIES = ("none", "none", "colons", "folds", "lengths", "line feeds")
ANY_METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]) | st.from_regex(
    f"\\A{PATTERN}\\Z"
).filter(lambda method: method != "CONNECT")
REASONS = st.lists(WORDS, max_size=3).map(b" ".join)
STATUSES = st.integers(200, 599) | st.sampled_from([200, 204, 206, 301, 304, 404, 500])
CONTENTS = st.binary(max_size=40) | st.sampled_from(
    [b"", b"x" * 70_000, b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
TARGETS = st.sampled_from(
    [
        b"/",
        b"//a//b",
        b"/a/../b?x=/../",
        b"/%2e%2e/%2F%7e?%zz",
        b"/a;v=1?",
        b"/caf\xe9?\xff",
        b"/@x:1/?a=b?c",
        b"/a%00b",
        b"http://app/x",
    ]
) | some_bytes(VISIBLE.replace(b"#", b""), 20).map(lambda path: b"/" + path)


@dataclass
class Stage:
    """One bench for all examples, with the next response and the last request."""

    runner: asyncio.Runner
    bench: Bench
    response: bytes = b""
    closes: bool = False
    request: bytes = b""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    async def script(peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            made.request = head + frame(await peer.read_content(head), head)
            await peer.send(made.response)
            if made.closes:
                return

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        made = Stage(runner, runner.run(stack.enter_async_context(bench(script, rules=RULES))))
        yield made
        runner.run(stack.aclose())


@given(
    status=STATUSES,
    reason=REASONS,
    sent=RESPONSE_FIELDS,
    content=CONTENTS,
    framing=st.sampled_from(["fixed", "chunked", "until close"]),
    method=st.sampled_from(["GET", "GET", "HEAD", "POST", "M-SEARCH"]),
    oddity=st.sampled_from(ODDITIES),
)
def test_response_that_no_rule_touches_stays_as_it_is(
    stage: Stage,
    status: int,
    reason: bytes,
    sent: Fields,
    content: bytes,
    framing: str,
    method: str,
    oddity: str,
) -> None:
    """Status line, fields in order and spelling, content; hop-by-hop fields aside, and a Date where there is none.

    Nor does anything else change where RFC 9112 wants something mended.
    """
    has_content = method != "HEAD" and status not in (204, 304)
    lines = list(sent)
    if framing == "fixed":
        lines.insert(len(lines) // 2, (b"content-LENGTH", b"%d" % len(content)))
    elif framing == "chunked":
        lines.insert(len(lines) // 2, (b"Transfer-encoding", b"Chunked"))
    stage.closes = framing == "until close" or any(
        n.lower() == b"connection" and b"close" in v for n, v in lines
    )
    stage.response = b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, made_odd(lines, oddity))
    if oddity == "line feeds":
        stage.response = stage.response.replace(b"\r\n", b"\n")
    if has_content:
        stage.response += content if framing != "chunked" else chunked(content)

    request = method.encode() + b" /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    answer = stage.run(
        stage.bench.exchange(request + (b"Content-Length: 0\r\n\r\n" if method == "POST" else b"\r\n"))
    )

    (received,) = read_responses(answer.data, iter([method]))
    assert received.start == b"HTTP/1.1 %d %b" % (status, reason)
    expected = end_to_end(lines)
    if status == 204:
        expected = [line for line in expected if line[0].lower() != b"content-length"]
    if b"date" not in [name.lower() for name, _ in expected]:
        (date,) = received.values(b"date")
        expected.append((b"Date", date))
    assert end_to_end(received.fields) == expected
    assert received.values(b"connection") == [b"close"]
    assert received.content == (content if has_content else b"")
    assert answer.end == "closed"


@given(
    target=TARGETS,
    sent=REQUEST_FIELDS,
    content=CONTENTS,
    framing=st.sampled_from(["none", "fixed", "chunked"]),
    method=ANY_METHOD,
)
def test_request_that_no_rule_matches_reaches_the_app_as_it_is(
    stage: Stage, target: bytes, sent: Fields, content: bytes, framing: str, method: str
) -> None:
    """Method, target byte for byte, fields in order and spelling, content; forwarding fields are added behind."""
    stage.response, stage.closes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False
    added = set(ADDED_TO_REQUESTS) | {b"forwarded"}
    lines = [(b"hOst", b"app"), *[(name, value) for name, value in sent if name.lower() not in added]]
    if framing == "none":
        content = b""
    else:
        lines.append(
            (b"content-LENGTH", b"%d" % len(content))
            if framing == "fixed"
            else (b"Transfer-encoding", b"chunked")
        )
    head = (
        method.encode()
        + b" "
        + target
        + b" HTTP/1.1\r\n"
        + rendered([*lines, (b"Connection", b"close")])
        + b"\r\n"
    )
    answer = stage.run(stage.bench.exchange(head + (chunked(content) if framing == "chunked" else content)))
    assert answer.status == 200, answer.data

    (received,) = read_requests(stage.request)
    assert received.start == method.encode() + b" " + target.removeprefix(b"http://app") + b" HTTP/1.1"
    got = end_to_end(received.fields)
    assert [name.lower() for name, _ in got[-len(ADDED_TO_REQUESTS) :]] == ADDED_TO_REQUESTS
    assert got[: -len(ADDED_TO_REQUESTS)] == end_to_end(lines)
    assert received.content == content


def made_odd(lines: Fields, oddity: str) -> bytes:
    """Spell fields so that a proxy has to mend them; what frames the message is never folded."""
    data = b""
    for name, value in lines:
        framing = name.lower() in FRAMING_NAMES
        colon = b" \t:" if oddity == "colons" else b":"
        space = b"\r\n\t" if oddity == "folds" and value and not framing else b" "
        data += name + colon + space + value + b"\r\n"
        if oddity == "lengths" and name.lower() == b"content-length":
            data += name.upper() + b": " + value + b", " + value + b"\r\n"
    return data


def rendered(lines: Fields) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in lines)


def chunked(content: bytes) -> bytes:
    """In chunks of uneven sizes, with an extension and a trailer field."""
    data = b""
    size = 1
    while content:
        piece, content = content[:size], content[size:]
        data += b"%X;ext\r\n%b\r\n" % (len(piece), piece)
        size = size * 7 + 1
    return data + b"0\r\nX-Trailer: x\r\n\r\n"


def frame(content: bytes, head: bytes) -> bytes:
    """Content as the head says, for the strict reader."""
    if b"transfer-encoding: chunked" in head.lower():
        return (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
    return content


def end_to_end(lines: Any) -> Fields:
    """Without hop-by-hop fields, those that `Connection` names among them; what frames, routes or dates stays."""
    options = {
        option.strip().lower()
        for name, value in lines
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    gone = HOP_BY_HOP | (options - {b"content-length", b"host", b"date", b"via"})
    return [(name, value) for name, value in lines if name.lower() not in gone]
