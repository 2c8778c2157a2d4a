"""The law of the second guarantee: what no rule touches is the same with and without the proxy."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import pytest
import uvloop

from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from tests.laws.holding import at_both_sizes, hold
from tests.rules.making import conditions, field_key, response_keys
from tests.support.gateway import Bench, bench
from tests.support.peer import Answer, Peer
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
UPPER = ascii_uppercase.encode()
Fields = list[tuple[bytes, bytes]]

ODD_VALUES = (b"", b"*", b"no-store", b"a,b,,c", b'"q\\"uoted"', b"caf\xe9", b"x" * 3000, b"a\tb")
OPTIONS = (b"close", b"keep-alive", b"X-Own", b"x-own, Server, ,", b"Content-Length, Date", b"Vary,ETag", b"")
RESPONSE_NAMES = (
    b"Cache-Control Pragma Expires Vary ETag Last-Modified Age Date Server X-Own Set-Cookie set-cookie SET-COOKIE "
    b"Content-Encoding Surrogate-Control CDN-Cache-Control Keep-Alive Proxy-Connection Trailer TE Content-Type "
    b"Location X-Accel-Expires".split()
)
# aiohttp's parsers take some of these for singletons.
REQUEST_NAMES = (
    b"Cookie Accept accept If-None-Match If-Match If-Range Range X-Own TE User-Agent Content-Type content-type "
    b"Authorization Origin Max-Forwards".split()
)
FRAMING_NAMES = {b"content-length", b"connection", b"transfer-encoding", b"host", b"upgrade", b"expect"}
NOT_DRAWN = FRAMING_NAMES - {b"connection"}
ODDITIES = ("none", "none", "colons", "folds", "lengths", "line feeds")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
STATUSES = (200, 204, 206, 301, 304, 404, 500)
ODD_CONTENTS = (b"", b"x" * 70_000, b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n")
TARGETS = (
    *(
        b"/",
        b"//a//b",
        b"/a/../b?x=/../",
        b"/%2e%2e/%2F%7e?%zz",
        b"/a;v=1?",
        b"/caf\xe9?\xff",
        b"/@x:1/?a=b?c",
    ),
    *(b"/a%00b", b"http://app/x", b"/a#b", b"/a?b#/../c?d"),
)


def some_bytes(chance: random.Random, alphabet: bytes, least: int, most: int) -> bytes:
    return chance.randbytes(chance.randint(least, most)).translate(table_of(alphabet))


@functools.cache
def table_of(alphabet: bytes) -> bytes:
    """Turns any byte into one of an alphabet: to hypothesis, many bytes are one choice, and many letters many."""
    return bytes(alphabet[byte % len(alphabet)] for byte in range(256))


def some_text(chance: random.Random) -> bytes:
    return b" ".join(some_bytes(chance, VISIBLE, 1, 12) for _ in range(chance.randrange(5)))


def some_fields(chance: random.Random, names: Sequence[bytes]) -> Fields:
    lines = []
    for _ in range(chance.randrange(11)):
        if chance.random() < 0.15:
            lines.append((chance.choice((b"Connection", b"connection")), chance.choice(OPTIONS)))
            continue
        name = chance.choice(names) if chance.random() < 0.7 else some_bytes(chance, TOKEN, 1, 10)
        value = some_text(chance) if chance.random() < 0.6 else chance.choice(ODD_VALUES)
        if name.lower() not in NOT_DRAWN:
            lines.append((name, value))
    return lines


def some_content(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(41)) if chance.random() < 0.6 else chance.choice(ODD_CONTENTS)


def some_method(chance: random.Random) -> str:
    """One that is known, or any token that has the form of a method."""
    if chance.random() < 0.5:
        return chance.choice(METHODS)
    made = some_bytes(chance, UPPER, 1, 1) + some_bytes(chance, UPPER + b"0123456789-_", 0, 31)
    return made.decode().replace("CONNECT", "CONNEC-").replace("PROPFIND", "PROP")


def some_target(chance: random.Random) -> bytes:
    return chance.choice(TARGETS) if chance.random() < 0.4 else b"/" + some_bytes(chance, VISIBLE, 0, 20)


@dataclass
class Stage:
    """One bench for all examples, with the next response and the last request."""

    runner: asyncio.Runner
    bench: Bench
    response: bytes = b""
    closes: bool = False
    request: bytes = b""

    def exchange(self, data: bytes) -> Answer:
        return self.runner.get_loop().run_until_complete(self.bench.exchange(data))

    def leaves_response(self, chance: random.Random) -> None:
        status = chance.choice(STATUSES) if chance.random() < 0.5 else chance.randint(200, 599)
        reason, lines, content = some_text(chance), some_fields(chance, RESPONSE_NAMES), some_content(chance)
        framing = chance.choice(("fixed", "chunked", "until close"))
        method = chance.choice(("GET", "GET", "HEAD", "POST", "M-SEARCH"))
        oddity = chance.choice(ODDITIES)
        has_content = method != "HEAD" and status not in (204, 304)
        if framing == "fixed":
            lines.insert(len(lines) // 2, (b"content-LENGTH", b"%d" % len(content)))
        elif framing == "chunked":
            lines.insert(len(lines) // 2, (b"Transfer-encoding", b"Chunked"))
        self.closes = framing == "until close" or any(
            n.lower() == b"connection" and b"close" in v for n, v in lines
        )
        self.response = b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, made_odd(lines, oddity))
        if oddity == "line feeds":
            self.response = self.response.replace(b"\r\n", b"\n")
        if has_content:
            self.response += content if framing != "chunked" else chunked(content)

        request = method.encode() + b" /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        answer = self.exchange(request + (b"Content-Length: 0\r\n\r\n" if method == "POST" else b"\r\n"))

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

    def leaves_request(self, chance: random.Random) -> None:
        method, target = some_method(chance), some_target(chance)
        sent, content = some_fields(chance, REQUEST_NAMES), some_content(chance)
        framing = chance.choice(("none", "fixed", "chunked"))
        self.response, self.closes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False
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
        answer = self.exchange(head + (chunked(content) if framing == "chunked" else content))
        assert answer.status == 200, answer.data

        (received,) = read_requests(self.request)
        assert received.start == method.encode() + b" " + target.removeprefix(b"http://app") + b" HTTP/1.1"
        got = end_to_end(received.fields)
        assert [name.lower() for name, _ in got[-len(ADDED_TO_REQUESTS) :]] == ADDED_TO_REQUESTS
        assert got[: -len(ADDED_TO_REQUESTS)] == end_to_end(lines)
        assert received.content == content


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


@at_both_sizes
def test_response_that_no_rule_touches_stays_as_it_is(stage: Stage, examples: int) -> None:
    """Status line, fields in order and spelling, content; hop-by-hop fields aside, and a Date where there is none.

    Nor does anything else change where RFC 9112 wants something mended.
    """
    hold(stage.leaves_response, examples)


@at_both_sizes
def test_request_that_no_rule_matches_reaches_the_app_as_it_is(stage: Stage, examples: int) -> None:
    """Method, target byte for byte, fields in order and spelling, content; forwarding fields are added behind."""
    hold(stage.leaves_request, examples)


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
