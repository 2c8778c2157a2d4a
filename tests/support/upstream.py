"""A scripted upstream: it does to each connection what a test says, and keeps what it has seen."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from tests.support.peer import Peer, Recorder
from tests.support.ports import LOCALHOST

Script = Callable[[Peer], Awaitable[None]]
"""Run for each connection; the connection closes when it returns."""

Response = bytes | Callable[[bytes], bytes]
"""Bytes, or made from a request's head."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def scripted(
    script: Script | None = None,
    *,
    host: str = LOCALHOST,
    port: int = 0,
    path: Path | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Recorder]:
    """Run an upstream until the block ends; a script that fails, fails the test.

    Args:
        script: `answering()` by default.
        path: of a Unix socket, instead of `host` and `port`.
        tls: what it speaks TLS with.
    """
    recorder = Recorder()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recorder.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await (script or answering())(Peer(reader, writer, recorder))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except BaseException as error:  # noqa: BLE001 - reported by the test that owns the script
            recorder.failures.append(error)
        finally:
            writer.close()
            tasks.discard(task)

    if path is not None:
        server = await asyncio.start_unix_server(serve, path)
    else:
        server = await asyncio.start_server(serve, host, port, ssl=tls, backlog=1024)
        recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not recorder.failures, recorder.failures


def answering(*responses: Response) -> Script:
    """Read each request whole, record it, and give the next response (the last one again).

    Args:
        responses: after one with `Connection: close` the connection closes.
    """
    given = list(responses) or [OK]

    async def script(peer: Peer) -> None:
        while True:
            head = await peer.read_request()
            response = given.pop(0) if len(given) > 1 else given[0]
            data = response if isinstance(response, bytes) else response(head)
            await peer.send(data)
            if b"connection: close" in data.lower():
                return

    return script


def in_parts(*parts: bytes | asyncio.Event, end: Literal["keep", "close", "reset"] = "keep") -> Script:
    """Answer each request with these bytes; at an event, wait until it is set.

    Args:
        end: what happens to the connection then.
    """

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            for part in parts:
                await (peer.send(part) if isinstance(part, bytes) else part.wait())
            if end == "reset":
                peer.reset()
            if end != "keep":
                return

    return script


def first_then_well(first: Script) -> Script:
    """An upstream whose first connection is `first`; later ones are well."""

    async def script(peer: Peer) -> None:
        await (first if peer.recorder.connections == 1 else answering())(peer)

    return script


async def switch_and_echo(peer: Peer) -> None:
    """Switch protocols, and send what comes back until it ends."""
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    while data := await peer.reader.read(65536):
        await peer.send(data)
