"""Nobody gets another's answer, whatever a real server leaves on a connection or reads from it.

WSGI servers send the content of apps that do not look at the method: after a HEAD, a 204 or a 304, mostly in a
segment of its own (waitress, gunicorn up to 23, cheroot, gevent, eventlet, uWSGI). Some take the rest of an upload
that the app left unread for the next request (cheroot, Django's runserver). A gateway that lends such a connection
to the next client gives it the answer of somebody else.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.legacy.careless import PATH_FIELD, content_of
from tests.legacy.servers import serving
from tests.support.peer import Answer, Peer, connect
from tests.support.serving import sidecar
from tests.support.waiting import LIMIT_S

APP, DJANGO = "tests.legacy.careless:app", "tests.legacy.careless:make_django_app()"
BEHIND = {
    "waitress": APP,
    "waitress with Django": DJANGO,
    "gunicorn": APP,
    "gunicorn-23": APP,
    "cheroot": APP,
    "gevent": APP,
    "eventlet": APP,
    "uwsgi": APP,
    "uwsgi-http": APP,
    "uwsgi-http11": APP,
    "runserver": DJANGO,
}
RULES = """\
version: 1
rules:
  - {name: conditional, match: {paths: ["/304/**"]}, policy: revalidate}
  - {name: all, match: {paths: ["/**"]}, policy: strict}
"""
CLIENTS = 12
EMPTY = ("HEAD", "204", "304")
UPLOADED = b"GET /smuggled HTTP/1.1\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(UPLOADED), UPLOADED)
COUNTED = b"Content-Length: %d\r\n\r\n%b" % (len(UPLOADED), UPLOADED)
# What a client asks for: a method, where, and the rest of the request. The same number never comes twice.
KINDS = {
    "GET": ("GET", "late", b"\r\n"),
    "GET a file": ("GET", "file", b"\r\n"),
    "HEAD": ("HEAD", "late", b"\r\n"),
    "HEAD of a file": ("HEAD", "file", b"\r\n"),
    "HEAD of what looks like an answer": ("HEAD", "evil", b"\r\n"),
    "204": ("GET", "204", b"\r\n"),
    "304": ("GET", "304", b"\r\n"),
    "chunked upload": ("POST", "late", CHUNKED),
    "upload": ("PUT", "late", COUNTED),
    "form": ("POST", "late", COUNTED),
}


class Client:
    """Asks one request after the other on one connection, and judges each answer."""

    def __init__(
        self, address: tuple[str, int], numbers: Iterator[int], seed: int, kinds: Sequence[str]
    ) -> None:
        self._address = address
        self._numbers = numbers
        self._random = random.Random(seed)
        self._kinds = kinds
        self._peer: Peer | None = None
        self.seen: Counter[str] = Counter()

    async def run(self) -> None:
        for number in self._numbers:
            kind = self._random.choice(self._kinds)
            async with asyncio.timeout(LIMIT_S):
                verdict = await self._ask(kind, number)
            self.seen[f"{kind}: {verdict}" if verdict != "right" else verdict] += 1
            if verdict != "right":
                self._close()
        self._close()

    async def _ask(self, kind: str, number: int) -> str:
        method, place, rest = KINDS[kind]
        path = f"/{place}/{number}"
        if self._peer is None:
            self._peer = await connect(self._address)
        try:
            await self._peer.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n".encode() + rest)
            answer = await self._peer.read_response(method)
        except (OSError, EOFError) as error:
            return type(error).__name__
        if answer.field("Connection") == [b"close"]:
            self._close()
        return judge(answer, method, path)

    def _close(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None


def judge(answer: Answer, method: str, path: str) -> str:
    place = path.split("/")[1]
    if answer.status != (int(place) if place in EMPTY else 200):
        return f"status {answer.status}"
    if answer.field(PATH_FIELD) != [path.encode()]:
        return "foreign"
    if method != "HEAD" and place not in EMPTY and answer.content != content_of(path):
        return "foreign content"
    return "right" if answer.is_protected or place == "304" else "unprotected"


async def ask_many(server: str, directory: Path, requests: int, kinds: Sequence[str]) -> Counter[str]:
    """Put so many requests of a dozen clients to an app behind the product; how the answers were."""
    rules = directory / "rules.yaml"
    rules.write_text(RULES)
    numbers = iter(range(requests))
    with serving(server.partition(" ")[0], directory / "log", BEHIND[server]) as process:
        async with sidecar(f"http://127.0.0.1:{process.port}", rules) as running:
            assert isinstance(running.listen, tuple)
            clients = [Client(running.listen, numbers, seed, kinds) for seed in range(CLIENTS)]
            await asyncio.gather(*(client.run() for client in clients))
    return sum((client.seen for client in clients), Counter())


def bounded(short: int, long: int) -> pytest.MarkDecorator:
    """Run with few requests, and with many in the slow runs."""
    return pytest.mark.parametrize(
        "requests", [short, pytest.param(long, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
    )


@bounded(400, 10_000)
@pytest.mark.parametrize("server", BEHIND)
async def test_every_client_gets_its_own_answer(tmp_path, server, requests):
    """Issue 14, items 1 and 3."""
    kinds = [kind for kind in KINDS if not (BEHIND[server] == DJANGO and kind in EMPTY)]
    seen = await ask_many(server, tmp_path, requests, kinds)
    print(f"\n{server}: {dict(seen)}")
    assert seen == {"right": requests}


@bounded(400, 5_000)
@pytest.mark.parametrize("kinds", [("form",), ("form", "GET")], ids=["POST", "POST and GET"])
@pytest.mark.parametrize("server", [name for name in BEHIND if name.startswith("uwsgi")])
async def test_no_post_is_lost_to_an_app_that_closes_after_answers(tmp_path, server, kinds, requests):
    """Issue 16.3: so many POSTs, also between GETs, whose connections they share where the app keeps those."""
    seen = await ask_many(server, tmp_path, requests * len(kinds), kinds)
    print(f"\n{server}, {' and '.join(kinds)}: {dict(seen)}")
    assert seen == {"right": requests * len(kinds)}
