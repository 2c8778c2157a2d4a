"""Raw bytes on both sides of the gateway: a client and an upstream that do what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from proxy.audit.assess import CacheKind, assess
from proxy.gateway.access_log import AccessLog
from proxy.gateway.server import Gateway
from proxy.rules.loading import loader
from proxy.settings import Settings, Upstream
from proxy.stats import Stats

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 20
"""Bound of every wait; nothing here waits for time to pass."""

CACHE_CONTROL = {
    "classic": "no-store, no-cache, must-revalidate, post-check=0, pre-check=0",
    "strict": "no-store, no-cache, must-revalidate, max-age=0, private",
    "revalidate": "no-cache, must-revalidate, max-age=0, private",
}
EXPIRED = "Thu, 01 Dec 1994 16:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response as it came over the wire.

    Attributes:
        fields: names in lower case, in order, duplicates kept.
        content: without the chunked coding.
        raw: everything that was received.
        is_complete: the content ended as its framing says.
    """

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    content: bytes
    raw: bytes
    is_complete: bool

    def values(self, name: str) -> list[str]:
        """All lines of a field."""
        return [value for field_name, value in self.fields if field_name == name]

    def value(self, name: str) -> str | None:
        """The only line of a field; `None` if there is none."""
        values = self.values(name)
        assert len(values) <= 1, f"{len(values)} lines of {name}: {values}"
        return values[0] if values else None

    def is_enforced(self, policy: str = "strict") -> bool:
        """Whether exactly the policy's Cache-Control is there; and if so, that no cache may store it."""
        is_enforced = self.values("cache-control") == [CACHE_CONTROL[policy]]
        assert not (is_enforced and policy != "revalidate" and self.may_be_kept()), self.raw
        return is_enforced

    def may_be_kept(self, method: str = "GET") -> bool:
        """Whether some cache may store it, by RFC 9111."""
        fields = [(name.encode(), value.encode("latin-1")) for name, value in self.fields]
        caches: tuple[CacheKind, ...] = ("private", "shared")
        return any(
            assess(method, self.status, (), fields, cache=cache, received_at_s=0).may_store
            for cache in caches
        )


def parse(raw: bytes, *, method: str = "GET") -> Reply:
    """Read one response from all that came until the connection closed."""
    head, separator, rest = raw.partition(b"\r\n\r\n")
    assert separator, f"no response head in {raw!r}"
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status, *reason = status_line.split(" ", 2)
    assert version == "HTTP/1.1", status_line
    fields = tuple(
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    )
    reply = Reply(int(status), "".join(reason), fields, b"", raw, is_complete=True)
    if reply.status < 200:
        return parse(rest, method=method)
    content, is_complete = _content(reply, rest, method)
    return Reply(reply.status, reply.reason, fields, content, raw, is_complete)


def request(target: str | bytes, *lines: str, method: str = "GET", content: bytes = b"") -> bytes:
    """Make a request that closes its connection afterwards."""
    encoded = target.encode() if isinstance(target, str) else target
    framing = (f"Content-Length: {len(content)}",) if content or method in ("POST", "PUT") else ()
    host = () if any(line.lower().startswith("host:") for line in lines) else ("Host: app.example",)
    fields = "".join(f"{line}\r\n" for line in (*host, *lines, *framing, "Connection: close"))
    return method.encode() + b" " + encoded + b" HTTP/1.1\r\n" + fields.encode("latin-1") + b"\r\n" + content


@dataclass(frozen=True, slots=True)
class Answer:
    """What the scripted upstream does with one request.

    Attributes:
        chunks: bytes written, in order; at an event it waits until that is set.
        end: what happens to the connection then.
    """

    chunks: tuple[bytes | asyncio.Event, ...]
    end: Literal["keep", "close", "reset"] = "keep"


Script = Callable[[bytes], Answer | bytes] | Answer | bytes


def response(*lines: str, status: str = "200 OK", content: bytes = b"hello") -> bytes:
    """Make a response with a Content-Length, its fields in the order given."""
    fields = "".join(f"{line}\r\n" for line in (*lines, f"Content-Length: {len(content)}"))
    return f"HTTP/1.1 {status}\r\n".encode() + fields.encode("latin-1") + b"\r\n" + content


@dataclass(slots=True)
class ScriptedUpstream:
    """An upstream that answers each request as the script says.

    Attributes:
        requests: heads and contents received, in order.
    """

    script: Script
    requests: list[bytes] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Cancelled at the end of the test: a stream's task that is cancelled would be logged as an error.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        received = head + await reader.readexactly(_content_length(head))
        self.requests.append(received)
        script = self.script(received) if callable(self.script) else self.script
        answer = Answer((script,)) if isinstance(script, bytes) else script
        for chunk in answer.chunks:
            if isinstance(chunk, bytes):
                writer.write(chunk)
                await writer.drain()
            else:
                await chunk.wait()
        if answer.end == "reset":
            reset(writer)
        return answer.end == "keep"


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a TCP reset."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """The production gateway, in this event loop."""

    gateway: Gateway
    port: int
    log: Path

    @property
    def stats(self) -> Stats:
        """What it counted."""
        return self.gateway.stats

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to it."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, raw: bytes) -> Reply:
        """Send bytes on a connection of their own and read until it closes."""
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await self.connect()
            try:
                writer.write(raw)
                return parse(await _read_to_end(reader), method=raw.partition(b" ")[0].decode("latin-1"))
            finally:
                writer.close()

    async def ask(self, target: str | bytes, *lines: str, method: str = "GET", content: bytes = b"") -> Reply:
        """Send a request and read the response."""
        return await self.send(request(target, *lines, method=method, content=content))


@contextlib.asynccontextmanager
async def run_gateway(upstream_port: int, rules: str, directory: Path, **settings: Any) -> Any:
    """Run the gateway in front of an upstream until the block ends."""
    ruleset = loader.loads(rules.encode(), "rules.yaml").ruleset
    upstream = Upstream.parse(f"http://127.0.0.1:{upstream_port}")
    log = directory / "access.log"
    access_log = AccessLog("json", log)
    gateway = Gateway(
        Settings(upstream=upstream, **settings), ruleset, Stats(), access_log, asyncio.get_running_loop()
    )
    listener = socket.create_server(("127.0.0.1", 0))
    await gateway.start([listener])
    try:
        yield RunningGateway(gateway, listener.getsockname()[1], log)
        assert gateway.stats.decision_failures_total == 0
    finally:
        await gateway.drain(0)
        access_log.close()


def field_lines(received: bytes) -> list[str]:
    """The field lines of a request head as the upstream received it."""
    return received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]


def field_names(received: bytes) -> list[str]:
    """The field names of it, lower case."""
    return [line.partition(":")[0].lower() for line in field_lines(received)]


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(65536):
            received += data
    return bytes(received)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _content(reply: Reply, rest: bytes, method: str) -> tuple[bytes, bool]:
    if method == "HEAD" or reply.status in (204, 304):
        assert not rest
        return b"", True
    if reply.value("transfer-encoding") == "chunked":
        return _dechunk(rest)
    length = reply.value("content-length")
    return rest, length is None or len(rest) == int(length)


def _dechunk(rest: bytes) -> tuple[bytes, bool]:
    content = bytearray()
    while True:
        size_line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return bytes(content), False
        size = int(size_line.partition(b";")[0], 16)
        if size == 0:
            return bytes(content), rest == b"\r\n"
        content += rest[:size]
        if len(rest) < size + 2:
            return bytes(content), False
        rest = rest[size + 2 :]


def rules(*entries: str) -> str:
    """Make a rules file of rules, each a YAML mapping in flow style."""
    return "\n".join(("version: 1", "rules:", *(f"  - {entry}" for entry in entries))) + "\n"


def names(values: Iterable[str]) -> list[str]:
    """Members of `Vary` lines, lower case, sorted."""
    return sorted(member.strip().lower() for value in values for member in value.split(","))
