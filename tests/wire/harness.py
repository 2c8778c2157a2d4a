"""A production gateway between a scripted upstream and raw sockets: bytes in, bytes out, and how it ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.gateway.access_log import AccessLog
from proxy.gateway.server import Gateway
from proxy.rules.engine.matching import Ruleset
from proxy.rules.model import Rule
from proxy.rules.policies import PASS, STRICT
from proxy.settings import Settings, Upstream
from proxy.stats import Stats
from tests.rules.making import conditions, field_key

ENDED_S = 5.0  # how long anything here may take before a test calls it hung

XHR = b"X-Requested-With: XMLHttpRequest\r\n"
RULES = (
    Rule("downloads", PASS, conditions(paths=("/download/**",))),
    Rule(
        "ajax",
        STRICT,
        conditions(fields=(field_key("X-Requested-With", globs=("XMLHttpRequest",), by_member=True),)),
    ),
)

Script = Callable[["Peer"], Awaitable[None]]
End = Literal["open", "closed", "reset"]


@dataclass
class Answer:
    """What a raw client saw.

    Attributes:
        data: every byte.
        end: `open` when the connection still stood after what was waited for.
    """

    data: bytes
    end: End

    @property
    def status(self) -> int:
        return int(self.data.split(b" ", 2)[1]) if self.data else 0

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def content(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    def field(self, name: str) -> list[bytes]:
        wanted = name.lower().encode()
        lines = self.head.split(b"\r\n")[1:]
        return [line.partition(b": ")[2] for line in lines if line.partition(b":")[0].lower() == wanted]

    @property
    def is_protected(self) -> bool:
        return [b"no-store" in value for value in self.field("Cache-Control")] == [True]


class Peer:
    """One end of a raw connection: the client's in a test, the upstream's in a script."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, *, piece: int = 0) -> None:
        """Send; with `piece`, in pieces of that many bytes, each a segment of its own."""
        for start in range(0, len(data), piece or max(len(data), 1)):
            self.writer.write(data[start : start + (piece or len(data))])
            await self.writer.drain()
            if piece:
                await asyncio.sleep(0)

    async def read_head(self) -> bytes:
        async with asyncio.timeout(ENDED_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read_exactly(self, size: int) -> bytes:
        async with asyncio.timeout(ENDED_S):
            return await self.reader.readexactly(size)

    async def read_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(ENDED_S):
            return await self.reader.readuntil(end)

    async def read_to_end(self) -> Answer:
        """Read until the connection ends; hangs fail the test."""
        data = b""
        try:
            async with asyncio.timeout(ENDED_S):
                while piece := await self.reader.read(65536):
                    data += piece
        except ConnectionResetError:
            return Answer(data, "reset")
        return Answer(data, "closed")

    async def read_response(self) -> Answer:
        """Read one response by its own framing, and leave the connection as it is."""
        async with asyncio.timeout(ENDED_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            answer = Answer(head, "open")
            if answer.field("Transfer-Encoding"):
                while True:
                    size_line = await self.reader.readuntil(b"\r\n")
                    chunk = await self.reader.readexactly(int(size_line, 16) + 2)
                    answer.data += size_line + chunk
                    if size_line == b"0\r\n":
                        return answer
            for length in answer.field("Content-Length"):
                answer.data += await self.reader.readexactly(int(length))
        return answer

    def half_close(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@dataclass
class Recorder:
    """What the upstream has seen.

    Attributes:
        heads: of requests, in the order of arrival.
        connections: how many were accepted.
    """

    heads: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)


class Bench:
    """A gateway under test with its upstream.

    Attributes:
        may_fail: by itself; else a test in which it does fails.
    """

    def __init__(self, gateway: Gateway, address: tuple[str, int], recorder: Recorder) -> None:
        self.gateway = gateway
        self.address = address
        self.recorder = recorder
        self.may_fail = False
        self._peers: list[Peer] = []

    async def connect(self) -> Peer:
        peer = Peer(*await asyncio.open_connection(*self.address))
        self._peers.append(peer)
        return peer

    async def exchange(self, data: bytes, *, piece: int = 0) -> Answer:
        """Send bytes and read until the connection ends. The request should ask for a close."""
        peer = await self.connect()
        try:
            await peer.send(data, piece=piece)
        except ConnectionError:
            pass  # refused while still sending; what it said is still to be read
        return await peer.read_to_end()

    async def settled(self) -> None:
        """Wait until nothing is in flight and no client is connected."""
        async with asyncio.timeout(ENDED_S):
            while self.gateway.stats.in_flight or self.gateway.clients:
                await asyncio.sleep(0.01)

    def close_clients(self) -> None:
        for peer in self._peers:
            peer.writer.transport.abort()


@asynccontextmanager
async def bench(
    script: Script | None = None, *, rules: Sequence[Rule] = RULES, upstream: str = "", **settings: Any
) -> AsyncIterator[Bench]:
    """Run the production gateway on a free port in front of a scripted upstream.

    Args:
        script: run for each connection that the upstream accepts; `answering` by default.
        upstream: an address instead of a scripted upstream.
        settings: attributes of `Settings`.
    """
    recorder = Recorder()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recorder.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await (script or answering())(Peer(reader, RecordingWriter.wrap(writer, recorder)))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except BaseException as error:  # noqa: BLE001 - reported by the test that owns the script
            recorder.failures.append(error)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = upstream or f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    listening = socket.create_server(("127.0.0.1", 0))
    gateway = Gateway(
        Settings(upstream=Upstream.parse(address), **settings),
        Ruleset(rules),
        Stats(),
        AccessLog("off"),
        asyncio.get_running_loop(),
    )
    await gateway.start([listening])
    under_test = Bench(gateway, listening.getsockname(), recorder)
    try:
        yield under_test
    finally:
        under_test.close_clients()
        gateway.close()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.sleep(0.01)
        assert not recorder.failures, recorder.failures
        assert under_test.may_fail or not gateway.stats.proxy_errors["internal_error"], "see the log"


class RecordingWriter:
    """Marks what a script's peer belongs to; `answering` records into it."""

    @staticmethod
    def wrap(writer: asyncio.StreamWriter, recorder: Recorder) -> asyncio.StreamWriter:
        writer.recorder = recorder  # type: ignore[attr-defined]
        return writer


def answering(*responses: bytes) -> Script:
    """An upstream that reads each request whole, records it, and gives the next response (the last one again)."""
    given = list(responses) or [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]

    async def script(peer: Peer) -> None:
        recorder: Recorder = peer.writer.recorder  # type: ignore[attr-defined]
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            recorder.heads.append(head)
            recorder.contents.append(await read_content(peer, head))
            response = given.pop(0) if len(given) > 1 else given[0]
            await peer.send(response)
            if b"connection: close" in response.lower():
                return

    return script


async def read_content(peer: Peer, head: bytes) -> bytes:
    """Read a request's content by its head's framing."""
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        content = b""
        while True:
            size = int(await peer.reader.readuntil(b"\r\n"), 16)
            content += (await peer.reader.readexactly(size + 2))[:-2]
            if size == 0:
                return content
    if b"content-length: " in lower:
        length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await peer.reader.readexactly(length)
    return b""
