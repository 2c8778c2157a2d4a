"""One end of a raw connection, a client's or an upstream's: bytes in, bytes out, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.waiting import LIMIT_S

XHR = "X-Requested-With: XMLHttpRequest"
XHR_LINE = XHR.encode() + b"\r\n"

End = Literal["open", "closed", "reset"]
Place = tuple[str, int] | Path


@dataclass
class Recorder:
    """What an upstream has seen.

    Attributes:
        heads: of requests, in the order of arrival.
        connections: how many were accepted.
        failures: of its script.
        port: that it listens on.
    """

    heads: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)
    port: int = 0

    @property
    def requests(self) -> list[bytes]:
        """Heads with the contents behind them."""
        return [head + content for head, content in zip(self.heads, self.contents, strict=True)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


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
    """One end of a raw connection: the client's in a test, the upstream's in a script.

    Attributes:
        recorder: of the upstream whose end it is.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        recorder: Recorder | None = None,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.recorder = recorder or Recorder()

    async def send(self, data: bytes, *, piece: int = 0) -> None:
        """Send; with `piece`, in pieces of that many bytes, each a segment of its own."""
        for start in range(0, len(data), piece or max(len(data), 1)):
            self.writer.write(data[start : start + (piece or len(data))])
            await self.writer.drain()
            if piece:
                await asyncio.sleep(0)

    async def read_head(self) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read_exactly(self, size: int) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.readexactly(size)

    async def read_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.readuntil(end)

    async def read_to_end(self) -> Answer:
        """Read until the connection ends; hangs fail the test."""
        data = b""
        try:
            async with asyncio.timeout(LIMIT_S):
                while piece := await self.reader.read(65536):
                    data += piece
        except ConnectionResetError:
            return Answer(data, "reset")
        return Answer(data, "closed")

    async def read_response(self, method: str = "GET") -> Answer:
        """Read one response by its own framing, and leave the connection as it is.

        Args:
            method: of the request; a response to HEAD has no content.
        """
        async with asyncio.timeout(LIMIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            answer = Answer(head, "open")
            if method == "HEAD" or answer.status == 304:
                return answer
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

    async def read_request(self) -> bytes:
        """Read a request whole and record it; return its head."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.recorder.heads.append(head)
        self.recorder.contents.append(await self.read_content(head))
        return head

    async def read_content(self, head: bytes) -> bytes:
        """Read a request's content by its head's framing."""
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            content = b""
            while True:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                content += (await self.reader.readexactly(size + 2))[:-2]
                if size == 0:
                    return content
        if b"content-length: " in lower:
            length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return await self.reader.readexactly(length)
        return b""

    def half_close(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


async def connect(place: Place, **options: Any) -> Peer:
    """Open a raw connection.

    Args:
        options: of `asyncio.open_connection`, such as `limit`.
    """
    if isinstance(place, Path):
        return Peer(*await asyncio.open_unix_connection(place, **options))
    return Peer(*await asyncio.open_connection(*place, **options))


async def ask(place: Place, data: bytes, *, piece: int = 0) -> Answer:
    """Send bytes on a connection of their own and read until it ends. The request should ask for a close."""
    async with await connect(place) as peer:
        # Refused while it is sent: the answer may be there all the same.
        with contextlib.suppress(ConnectionError):
            await peer.send(data, piece=piece)
        return await peer.read_to_end()


def request(target: str | bytes, *lines: str, method: str = "GET", content: bytes = b"") -> bytes:
    """Make a request; a `Host` that is not given is `localhost`."""
    framing = [f"Content-Length: {len(content)}"] if content or method in ("POST", "PUT") else []
    host = [] if any(line.lower().startswith("host:") for line in lines) else ["Host: localhost"]
    start = b"%b %b HTTP/1.1" % (method.encode(), target.encode() if isinstance(target, str) else target)
    fields = [line.encode("latin-1") for line in (*host, *lines, *framing)]
    return b"\r\n".join([start, *fields, b"", content])
