"""The app behind every peer: canned bytes over uvloop, cheap, as it shares its core with the load.

Run as `python -m tests.benchmarks.upstream PORT`. It knows the few requests of `workloads` and answers others
with 404.
"""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from typing import Final

import uvloop

from tests.benchmarks import messages

SMALL: Final = messages.response(messages.SMALL_CONTENT)
BLOBS: Final = {
    b"GET /blob/64k ": messages.response(messages.BLOCK_64_KIB, content_type=b"application/octet-stream"),
    b"GET /blob/1m ": messages.response(messages.BLOCK_1_MIB, content_type=b"application/octet-stream"),
}
STREAM_HEAD: Final = messages.response(b"", chunked=True, content_type=b"text/plain")
STREAM_PIECE: Final = b"%x\r\n%b\r\n" % (len(messages.PIECE), messages.PIECE)
STREAM_END: Final = b"0\r\n\r\n"
RECEIVED: Final = messages.response(messages.RECEIVED)
NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class App(asyncio.Protocol):
    """One connection; a proxy sends one request after the other on it, never two at once."""

    __slots__ = ("buffer", "loop", "remaining", "transport")

    def __init__(self) -> None:
        self.buffer = b""
        self.remaining = 0  # bytes of a request's content still to come; -1: chunked
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.remaining:
            self.content_received(data)
            return
        if self.buffer:
            data = self.buffer + data
        if data.startswith(b"GET /api/") and data.endswith(b"\r\n\r\n"):
            self.buffer = b""
            self.transport.write(SMALL)
            return
        head, end, content = data.partition(b"\r\n\r\n")
        if not end:
            self.buffer = data
            return
        self.buffer = b""
        if head.startswith(b"POST /upload"):
            length = CONTENT_LENGTH.search(head)
            self.remaining = int(length[1]) if length else -1
            self.content_received(content)
        elif head.startswith(b"GET /stream"):
            self.transport.write(STREAM_HEAD)
            self.loop.call_soon(self.send_piece, messages.PIECES)
        else:
            self.transport.write(BLOBS.get(head[: head.find(b" ", 4) + 1], NOT_FOUND))

    def content_received(self, data: bytes) -> None:
        if self.remaining > 0:
            self.remaining -= len(data)
            done = self.remaining == 0
            assert self.remaining >= 0
        else:  # the generator's content holds no such bytes
            self.buffer = (self.buffer + data)[-7:]
            done = self.buffer == b"\r\n0\r\n\r\n"
        if done:
            self.remaining, self.buffer = 0, b""
            self.transport.write(RECEIVED)

    def send_piece(self, left: int) -> None:
        # One piece in each turn of the loop: uvloop joins what is written in one turn into one segment.
        if left:
            self.transport.write(STREAM_PIECE)
            self.loop.call_soon(self.send_piece, left - 1)
        else:
            self.transport.write(STREAM_END)


async def serve(port: int) -> None:
    """Answer on 127.0.0.1 until terminated."""
    server = await asyncio.get_running_loop().create_server(App, "127.0.0.1", port, backlog=4096)
    gc.freeze()
    gc.disable()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
