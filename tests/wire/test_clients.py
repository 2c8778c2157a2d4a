"""Real clients through the production gateway: curl, requests, aiohttp and websockets find nothing amiss.

Each speaks to an app under a server of its own kind (aiohttp's, websockets') with rules in force: the
content is whole both ways, the matching responses are protected and the others as the app sent them.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
import websockets.asyncio.client as ws_client
import websockets.asyncio.server as ws_server
from websockets.exceptions import ConnectionClosed

from tests.support.gateway import Bench, bench
from tests.support.programs import program
from tests.wire.client_app import DIGEST, FILE, MIB, STORABLE, App

LIMIT_S = 60.0  # of one client process or one transfer
XHR = {"X-Requested-With": "XMLHttpRequest"}
CURL_XHR = ("-H", "X-Requested-With: XMLHttpRequest")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(FILE)
    return path


@pytest.fixture
async def app(file) -> AsyncIterator[App]:
    async with App(file).running() as running:
        yield running


@pytest.fixture
async def gateway(app) -> AsyncIterator[Bench]:
    async with bench(upstream=f"http://127.0.0.1:{app.port}") as running:
        yield running
        await running.settled()


def url(gateway: Bench, path: str, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{gateway.address[1]}{path}"


def is_protected(cache_control: list[str]) -> bool:
    return ["no-store" in value for value in cache_control] == [True]


# curl


@pytest.fixture
def curl(tmp_path) -> Any:
    """Run curl to its end, as a process; it must be there in CI."""
    found = program("curl")

    async def run(*words: str, stdin: bytes = b"") -> Curled:
        head, output = tmp_path / "head", tmp_path / "output"
        options = ("-sS", "-v", "--max-time", "50", "-D", str(head), "-o", str(output))
        told = ("-w", "%{num_connects} %{size_upload}")
        process = await asyncio.create_subprocess_exec(
            *(found, "-q", *options, *told, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        )
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate(stdin)
        connects, uploaded = out.split()[-2:]
        return Curled(
            *(process.returncode, err.decode("latin-1"), head.read_text("latin-1").split("\n\n")),
            *(output.read_bytes() if output.exists() else b"", int(connects), int(uploaded)),
        )

    return run


@dataclass
class Curled:
    """What curl did.

    Attributes:
        heads: of all responses, informational ones too, each with its status line.
        uploaded: bytes of content.
    """

    code: int | None
    trace: str
    heads: list[str]
    content: bytes
    connects: int
    uploaded: int

    @property
    def statuses(self) -> list[int]:
        return [int(head.split(" ")[1]) for head in self.heads if head]

    def field(self, name: str) -> list[str]:
        last = [head for head in self.heads if head][-1]
        return re.findall(rf"(?im)^{name}: (.*)$", last)

    @property
    def is_protected(self) -> bool:
        return is_protected(self.field("Cache-Control"))


UPLOADS = {
    "PUT that waits for 100 Continue": ("-T", "FILE", "-H", "Expect: 100-continue", *CURL_XHR),
    "POST that waits for 100 Continue": (
        *("--data-binary", "@FILE", "-H", "Expect: 100-continue", *CURL_XHR),
    ),
    "POST that does not wait": ("--data-binary", "@FILE", "-H", "Expect:", *CURL_XHR),
    "chunked": ("-T", "-", "-H", "Expect:", *CURL_XHR),
    "chunked that waits for 100 Continue": ("-T", "-", "-H", "Expect: 100-continue", *CURL_XHR),
    "HTTP/1.0": ("--http1.0", "--data-binary", "@FILE", *CURL_XHR),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_curl_uploads_some_mebibytes(gateway, app, file, curl, name):
    """RFC 9110 section 10.1.1: the expectation is the app's to meet, and `100 Continue` comes from it."""
    words = [word.replace("FILE", str(file)) for word in UPLOADS[name]]
    done = await curl(*words, "--expect100-timeout", "40", url(gateway, "/upload"), stdin=FILE)
    assert done.code == 0, done.trace
    waits = "100 Continue" in name
    assert done.statuses == ([100, 200] if waits else [200])
    assert app.continued == waits
    assert f'"sha256": "{DIGEST}"' in done.content.decode()
    assert ('"length": null' in done.content.decode()) == ("chunked" in name)
    assert done.is_protected


async def test_curl_keeps_its_content_when_the_app_refuses_the_expectation(gateway, file, curl):
    """A final response in place of `100 Continue` reaches the client before it has sent anything."""
    words = ("--data-binary", f"@{file}", "-H", "Expect: 100-continue", *CURL_XHR)
    done = await curl(*words, "--expect100-timeout", "40", url(gateway, "/refusing"))
    assert (done.statuses, done.content, done.uploaded) == ([413], b"too much", 0), done.trace
    assert done.is_protected


DOWNLOADS = {
    "whole": ((), 200, FILE),
    "range": (("-r", "1000-65999"), 206, FILE[1000:66000]),
    "last bytes": (("-r", "-5000"), 206, FILE[-5000:]),
    "HTTP/1.0": (("--http1.0",), 200, FILE),
    "HTTP/1.0 range": (("--http1.0", "-r", "0-9"), 206, FILE[:10]),
    "slowly": (("--limit-rate", "16M"), 200, FILE),
}


@pytest.mark.parametrize("path", ["/file", "/download/file"])
@pytest.mark.parametrize("name", DOWNLOADS)
async def test_curl_downloads(gateway, curl, name, path):
    """Protected where a rule matches, and as the app sent it where one lets it pass."""
    words, status, content = DOWNLOADS[name]
    done = await curl(*words, *CURL_XHR, url(gateway, path))
    assert (done.code, done.statuses) == (0, [status]), done.trace
    assert done.content == content
    if path == "/file":
        assert done.is_protected
    else:
        assert done.field("Cache-Control") == [STORABLE]


async def test_curl_gets_to_the_end_of_a_response_of_unknown_length_by_either_version(gateway, app, curl):
    for words, framing in (((), ["chunked"]), (("--http1.0",), [])):
        done = await curl(*words, *CURL_XHR, url(gateway, "/chunked"))
        assert (done.code, done.field("Transfer-Encoding")) == (0, framing), done.trace
        assert done.content == FILE
        assert done.is_protected
    assert set(app.versions) == {(1, 1)}


async def test_curl_asks_for_a_head_alone(gateway, curl):
    done = await curl("--head", *CURL_XHR, url(gateway, "/file"))
    assert (done.code, done.statuses, done.field("Content-Length")) == (0, [200], [str(len(FILE))])
    assert done.is_protected


async def test_curl_decodes_what_the_app_has_compressed(gateway, curl):
    done = await curl("--compressed", *CURL_XHR, url(gateway, "/gzip"))
    assert (done.code, done.content == FILE) == (0, True), done.trace
    assert done.is_protected


async def test_curl_resumes_a_download(gateway, curl, tmp_path):
    (tmp_path / "output").write_bytes(FILE[:123_456])
    done = await curl("-C", "-", url(gateway, "/download/file"))
    assert (done.code, done.statuses, done.content == FILE) == (0, [206], True), done.trace


async def test_curl_asks_again_on_the_same_connection(gateway, file, curl):
    """Whatever came before on it: a range, a HEAD that has no content, an upload."""
    target = url(gateway, "/file")
    then = ("--next", "-sS", "-v", "-o", "/dev/null", "-w", " %{num_connects} 0")
    done = await curl(
        *("-r", "0-9", target),
        *(*then, "--head", target),
        *(*then, "-T", str(file), url(gateway, "/upload")),
        *(*then, target),
    )
    assert (done.code, done.connects) == (0, 0), done.trace
    assert done.trace.count("Re-using existing connection") == 3, done.trace


# requests


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        opened.headers.update(XHR)
        yield opened


async def in_thread(function: Any, *arguments: Any, **options: Any) -> requests.Response:
    async with asyncio.timeout(LIMIT_S):
        return await asyncio.to_thread(function, *arguments, **options, timeout=LIMIT_S)


def pieces() -> Iterator[bytes]:
    for start in range(0, len(FILE), 50_000):
        yield FILE[start : start + 50_000]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_requests_uploads(gateway, session, is_chunked):
    content = pieces() if is_chunked else FILE
    answer = await in_thread(session.post, url(gateway, "/upload"), data=content)
    assert answer.json() == {
        "sha256": DIGEST,
        "length": None if is_chunked else str(len(FILE)),
        "method": "POST",
    }
    assert is_protected([answer.headers["Cache-Control"]])


@pytest.mark.parametrize("path", ["/file", "/chunked", "/gzip"])
async def test_requests_downloads_and_asks_again_on_the_same_connection(gateway, session, path):
    for _ in range(3):
        answer = await in_thread(session.get, url(gateway, path))
        assert answer.content == FILE
        assert is_protected([answer.headers["Cache-Control"]])
    assert gateway.gateway.stats.snapshot()["client_connections"] == 1


async def test_requests_follows_a_redirection_with_the_cookies_it_was_given(gateway, session):
    """Two `Set-Cookie` lines stay two."""
    answer = await in_thread(session.get, url(gateway, "/login"))
    assert answer.text == "s1 t2"
    assert is_protected([answer.history[0].headers["Cache-Control"]])


@pytest.mark.parametrize("condition", [{"If-None-Match": "ETag"}, {"If-Modified-Since": "Last-Modified"}])
async def test_requests_gets_a_304_only_where_no_rule_is_in_force(gateway, session, condition):
    """The conditions that the app would meet, by what it says of the same file elsewhere."""
    (name, validator), passed = *condition.items(), url(gateway, "/download/file")
    first = await in_thread(session.get, passed)
    condition = {name: first.headers[validator]}
    assert (await in_thread(session.get, passed, headers=condition)).status_code == 304
    again = await in_thread(session.get, url(gateway, "/file"), headers=condition)
    assert (again.status_code, again.content == FILE) == (200, True)
    assert is_protected([again.headers["Cache-Control"]])


# aiohttp


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    async with aiohttp.ClientSession(headers=XHR, timeout=timeout) as opened:
        yield opened


async def test_aiohttp_downloads_a_hundred_at_a_time(gateway, client):
    async def one(path: str) -> None:
        async with client.get(url(gateway, path)) as answer:
            assert await answer.read() == FILE
            assert is_protected(answer.headers.getall("Cache-Control"))

    await asyncio.gather(*(one(path) for path in ("/file", "/chunked", "/gzip", "/file") * 25))


@pytest.mark.parametrize("expect100", [False, True])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_aiohttp_uploads(gateway, app, client, is_chunked, expect100):
    async def content() -> AsyncIterator[bytes]:
        for piece in pieces():
            yield piece

    given = content() if is_chunked else io.BytesIO(FILE)
    async with client.put(url(gateway, "/upload"), data=given, expect100=expect100) as answer:
        assert (await answer.json())["sha256"] == DIGEST
        assert is_protected(answer.headers.getall("Cache-Control"))
    assert app.continued == expect100


async def test_aiohttp_has_an_event_before_the_next_one_is_sent(gateway, app, client):
    async with client.get(url(gateway, "/events")) as answer:
        assert await answer.content.readuntil(b"\n\n") == b"data: 1\n\n"
        app.released.set()
        assert await answer.read() == b"data: 2\n\n"


# websockets


@asynccontextmanager
async def websocket_app(handler: Any) -> AsyncIterator[Bench]:
    """A gateway before a server of the websockets library."""
    async with (
        ws_server.serve(handler, "127.0.0.1", 0, max_size=None, close_timeout=5) as server,
        bench(upstream=f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}") as running,
    ):
        yield running
        await running.settled()


def open_websocket(gateway: Bench) -> ws_client.connect:
    address = url(gateway, "/ws", "ws")
    return ws_client.connect(address, proxy=None, max_size=None, open_timeout=LIMIT_S, additional_headers=XHR)


async def echo(websocket: ws_server.ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 16 * MIB])
async def test_websocket_echoes_messages_of_every_length_form(size):
    """RFC 6455 section 5.2: 7, 16 and 64 bits of length; 16 MiB are far more than any buffer here."""
    message = (FILE * 4)[:size]
    async with websocket_app(echo) as gateway, open_websocket(gateway) as websocket, asyncio.timeout(LIMIT_S):
        await websocket.send(message)
        assert await websocket.recv() == message
        await websocket.send("größer")
        assert await websocket.recv() == "größer"


async def test_websocket_pings_are_answered_by_the_other_end_in_both_directions():
    latencies: list[float] = []

    async def ping(websocket: ws_server.ServerConnection) -> None:
        latencies.append(await (await websocket.ping(b"from the app")))
        await echo(websocket)

    async with websocket_app(ping) as gateway, open_websocket(gateway) as websocket, asyncio.timeout(LIMIT_S):
        await (await websocket.ping(b"from the client"))
        await websocket.send("after")
        assert await websocket.recv() == "after"
    assert len(latencies) == 1


async def test_websocket_close_code_of_the_client_reaches_the_app():
    codes: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def wait(websocket: ws_server.ServerConnection) -> None:
        await websocket.wait_closed()
        codes.put_nowait((websocket.close_code, websocket.close_reason))

    async with websocket_app(wait) as gateway, open_websocket(gateway) as websocket, asyncio.timeout(LIMIT_S):
        await websocket.close(4001, "the client's")
        assert await codes.get() == (4001, "the client's")


async def test_websocket_close_code_of_the_app_reaches_the_client():
    async def close(websocket: ws_server.ServerConnection) -> None:
        await websocket.close(4001, "the app's")

    async with (
        websocket_app(close) as gateway,
        open_websocket(gateway) as websocket,
        asyncio.timeout(LIMIT_S),
    ):
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert (websocket.close_code, websocket.close_reason) == (4001, "the app's")


async def test_aiohttp_speaks_to_the_websockets_library(client):
    async with websocket_app(echo) as gateway, asyncio.timeout(LIMIT_S):
        async with client.ws_connect(url(gateway, "/ws"), max_msg_size=0, compress=15) as websocket:
            await websocket.send_bytes(FILE)
            assert await websocket.receive_bytes() == FILE
            await websocket.close(code=4001)
        assert websocket.close_code == 4001
