"""A real shared cache in front: Varnish answers no condition from what passes it, and pages may poll for a new tag.

Issue 16.10; *Marked* in `config/README.md`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.message.entity_tags import mark
from proxy.rules.model import Rule
from proxy.rules.policies import CLASSIC, STRICT
from tests.support import peer
from tests.support.gateway import Bench, bench
from tests.support.peer import Peer
from tests.support.ports import free_port
from tests.support.programs import program, running

TAG = b'"v1"'
KEEPS_TAG = replace(STRICT, name="keeps-tag", etag="keep")

pytestmark = pytest.mark.peer


def app():
    """An app whose tag never changes while its content does; fresh for ten minutes by its own account."""
    numbers = itertools.count()

    async def answer(peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            content = b"%06d" % next(numbers)
            await peer.send(
                b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 6\r\nETag: "
                + TAG
                + b"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
                + (b"" if head.startswith(b"HEAD") else content)
            )

    return answer


@asynccontextmanager
async def varnish(gateway: Bench, directory: Path) -> AsyncIterator[int]:
    """Run Varnish as it comes, in front of a gateway."""
    port = free_port()
    words = ("-F", "-j", "none", "-n", str(directory), "-s", "malloc,8m", "-a", f"127.0.0.1:{port}")
    async with running(port, program("varnishd"), *words, "-b", f"127.0.0.1:{gateway.address[1]}"):
        yield port


async def ask(port: int, *lines: bytes, method: bytes = b"GET") -> bytes:
    request = b"\r\n".join([method + b" / HTTP/1.1", b"Host: a", *lines, b"Connection: close", b"", b""])
    return (await peer.ask(("127.0.0.1", port), request)).data


def tag_of(data: bytes) -> bytes:
    (line,) = (line for line in data.split(b"\r\n") if line.lower().startswith(b"etag: "))
    return line.partition(b": ")[2]


@pytest.mark.parametrize("policy", [STRICT, CLASSIC], ids=lambda policy: policy.name)
async def test_copy_stored_before_the_proxy_came_is_not_confirmed(policy, tmp_path):
    """A browser that has one asks with the app's own tag, by Varnish; it gets new content each time."""
    async with bench(app(), rules=[Rule("all", policy)]) as b, varnish(b, tmp_path) as port:
        seen = set()
        for condition in (TAG, b"W/" + TAG, TAG, b"*", b'"other", ' + TAG):
            data = await ask(port, b"If-None-Match: " + condition)
            assert data.startswith(b"HTTP/1.1 200 ")
            seen.add(data[-6:])
        assert len(seen) == 5


async def test_it_would_be_confirmed_by_a_tag_that_is_kept(tmp_path):
    """What the mark is for."""
    async with bench(app(), rules=[Rule("all", KEEPS_TAG)]) as b, varnish(b, tmp_path) as port:
        assert (await ask(port, b"If-None-Match: " + TAG)).startswith(b"HTTP/1.1 304 ")


async def test_page_that_polls_through_it_sees_one_tag(tmp_path):
    async with bench(app(), rules=[Rule("all", STRICT)]) as b, varnish(b, tmp_path) as port:
        methods = (b"HEAD", b"GET", b"HEAD", b"GET")
        assert {tag_of(await ask(port, method=method)) for method in methods} == {mark(TAG)}
