"""Constant memory for content of any size: a real `serve` process, measured while much goes through it.

The kernel's own figures (`VmRSS`, `VmHWM`), before, during and after; `-s` prints them. The
run with a gibibyte each way is marked slow, one with 64 MiB is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import pytest

from tests.support.peer import Place
from tests.support.serving import RULES, sidecar
from tests.support.waiting import LIMIT_S

pytestmark = pytest.mark.alone

SHIPPED_RULES = Path(__file__).parents[2] / "config" / "rules.yaml"
MIB = 1 << 20
MOST_GROWTH_KIB = 8 * 1024
MOST_MADE_UP_KIB = 4 * 1024
WARM_UP = 4  # MiB: the first content of a process, and what it takes once for all
AHEAD_S = 0.3  # each reader comes late by it, so that content would gather where nothing held it back
CHUNK = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
HEADS = {
    "fixed": lambda size: b"Content-Length: %d\r\n\r\n" % (size * MIB),
    "chunked": lambda _: b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("framing", HEADS)
@pytest.mark.parametrize(
    "mebibytes", [64, pytest.param(1024, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_process_does_not_grow_with_the_content(tmp_path, mebibytes, framing):
    """Up and down, as fast as loopback takes it."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES % "first")
    with upstream(mebibytes, framing) as port:
        async with sidecar(f"http://127.0.0.1:{port}", rules) as running:
            assert not running.worker_pids()
            pid = running.process.pid
            assert isinstance(running.listen, tuple)
            await asyncio.to_thread(transfer, running.listen, WARM_UP, framing, pid)
            before, peak_before = memory_kib(pid)
            sampled = await asyncio.to_thread(transfer, running.listen, mebibytes, framing, pid)
            after, peak_after = memory_kib(pid)
    peak = peak_after if peak_after > peak_before else max(sampled)
    print(
        f"\n{mebibytes} MiB {framing} each way: VmRSS before {before} KiB, at most {max(sampled)} KiB in "
        f"{len(sampled)} samples, after {after} KiB; VmHWM {peak_before} -> {peak_after} KiB; "
        f"growth {max(peak, *sampled) - before} KiB"
    )
    assert len(sampled) >= 2 * mebibytes
    assert max(peak, *sampled) - before < MOST_GROWTH_KIB


MADE_UP: dict[str, Callable[[int], bytes]] = {
    "connection options": lambda n: (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %b"
        % b",".join(b"%x" % (n * 7919 + option) for option in range(9000))
    ),
    "paths": lambda n: b"GET /%d%b HTTP/1.1\r\nHost: a" % (n, b"x" * 8000),
    "values that rules read": lambda n: (
        b"GET / HTTP/1.1\r\nHost: a\r\nSec-Fetch-Dest: %d%b" % (n, b"x" * 60_000)
    ),
    "hosts": lambda n: b"GET / HTTP/1.1\r\nHost: %d%b" % (n, b"x" * 60_000),
    "names": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n%d%b: a" % (n, b"x" * 60_000),
}


@pytest.mark.parametrize("kind", MADE_UP)
async def test_process_does_not_grow_with_what_clients_make_up(tmp_path, kind):
    """Heads of the largest size, each of them new: what is remembered is bounded in bytes, not in number alone."""
    server = await asyncio.start_server(answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sidecar(f"http://127.0.0.1:{port}", SHIPPED_RULES) as running:
        pid = running.process.pid
        assert isinstance(running.listen, tuple)
        await asyncio.to_thread(ask, running.listen, [MADE_UP[kind](n) for n in range(8)])
        before, _ = memory_kib(pid)
        await asyncio.to_thread(ask, running.listen, [MADE_UP[kind](n) for n in range(8, 300)])
        after, _ = memory_kib(pid)
    print(f"\n292 heads with {kind} never seen before: VmRSS {before} -> {after} KiB")
    assert after - before < MOST_MADE_UP_KIB


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take heads however long they are."""
    tail = b""
    while data := await reader.read(65536):
        tail = (tail + data)[-4:]
        if tail == b"\r\n\r\n":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    writer.close()


def ask(address: tuple[str, int], heads: list[bytes]) -> None:
    """Send each on a connection of its own, and read the answer's head."""
    for head in heads:
        with socket.create_connection(address, LIMIT_S) as connection, connection.makefile("rb") as reader:
            connection.sendall(head + b"\r\n\r\n")
            assert read_head(reader).startswith((b"HTTP/1.1 204", b"HTTP/1.1 400"))


def memory_kib(pid: int) -> tuple[int, int]:
    """What is resident now, and the most that ever was."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident, most = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    assert resident
    assert most
    return int(resident[1]), int(most[1])


def transfer(address: tuple[str, int], mebibytes: int, framing: str, pid: int) -> list[int]:
    """Send so much, then read so much; what was resident at each mebibyte."""
    sampled: list[int] = []

    def sample() -> None:
        sampled.append(memory_kib(pid)[0])

    with socket.create_connection(address, LIMIT_S) as connection, connection.makefile("rb") as reader:
        connection.sendall(b"POST /%d HTTP/1.1\r\nHost: a\r\n" % mebibytes + HEADS[framing](mebibytes))
        send_content(connection, mebibytes, framing, sample)
        assert read_head(reader).startswith(b"HTTP/1.1 204")
        connection.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % mebibytes)
        assert read_head(reader).startswith(b"HTTP/1.1 200")
        assert read_body(reader, mebibytes, framing, sample) == mebibytes * MIB
    return sampled


@contextmanager
def upstream(mebibytes: int, framing: str) -> Iterator[int]:
    """An app in a thread: takes what is posted, and gives as much as the target says."""

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.settimeout(LIMIT_S)
            with connection, connection.makefile("rb") as reader:
                while head := read_head(reader):
                    size = int(head.split(b" ")[1][1:])
                    if head.startswith(b"POST"):
                        assert read_body(reader, size, framing, lambda: None) == size * MIB
                        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                    else:
                        connection.sendall(b"HTTP/1.1 200 OK\r\n" + HEADS[framing](size))
                        send_content(connection, size, framing, lambda: None)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening], daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT_S)
    assert not thread.is_alive()


def send_content(connection: socket.socket, mebibytes: int, framing: str, sample: Callable[[], None]) -> None:
    piece = CHUNK if framing == "chunked" else b"x" * MIB
    for _ in range(mebibytes):
        connection.sendall(piece)
        sample()
    if framing == "chunked":
        connection.sendall(b"0\r\n\r\n")


def read_head(reader: BufferedReader) -> bytes:
    """A head, or nothing where the connection has ended."""
    lines = list(iter(reader.readline, b"\r\n" if reader.peek(1) else b""))
    return b"".join(lines)


def read_body(reader: BufferedReader, mebibytes: int, framing: str, sample: Callable[[], None]) -> int:
    """Read content to its end; how much there was."""
    time.sleep(AHEAD_S)
    buffer = bytearray(MIB)
    read, sampled = 0, 0
    while True:
        left = int(reader.readline(), 16) if framing == "chunked" else mebibytes * MIB
        if left == 0:
            break
        while left:
            size = reader.readinto(memoryview(buffer)[: min(left, MIB)])
            assert size
            left -= size
            read += size
            if read // MIB > sampled:
                sampled = read // MIB
                sample()
        if framing != "chunked":
            return read
        reader.readline()
    reader.readline()
    return read


STALLED_KIB = 64
LARGE = bytes(100_000)
ENDLESS = {
    "fixed": (b"Content-Length: %d\r\n\r\n" % (1 << 40), bytes(MIB)),
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n", b"2000\r\n" + bytes(8192) + b"\r\n"),
    "tiny chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
    "until close": (b"\r\n", bytes(MIB)),
}


@pytest.mark.parametrize(
    ("kind", "count", "framing"),
    [
        # The kernel takes 4 MB of these.
        *(("tcp", 100, framing) for framing in ENDLESS if framing != "tiny chunks"),
        # What the kernel takes at once is known of these from before.
        ("tcp after large answers", 100, "fixed"),
        *(("unix", 200, framing) for framing in ENDLESS),
        *(
            pytest.param("unix", 1000, framing, marks=[pytest.mark.slow, pytest.mark.timeout(300)])
            for framing in ENDLESS
            if framing != "tiny chunks"
        ),
    ],
)
async def test_client_that_takes_nothing_of_a_download_costs_64_kib(tmp_path, kind, count, framing):
    """Issue 14, item 7: 510 of them, 400 KiB each, stopped a pod. Unix sockets, as the kernel keeps less for each."""
    fields, content = ENDLESS[framing]

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while b"/endless" not in (head := await reader.readuntil(b"\r\n\r\n")):
                answer = LARGE if b"/large" in head else b"ok"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            writer.write(b"HTTP/1.1 200 OK\r\n" + fields)
            while True:
                writer.write(content)
                await writer.drain()
        writer.close()

    listening = socket.create_server(("127.0.0.1", 0), backlog=count)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    server = await asyncio.start_server(app, sock=listening)
    flags = ["--max-connections", str(2 * count)]
    if kind == "unix":
        flags += ["--listen", f"unix:{tmp_path}/listen"]
    with contextlib.ExitStack() as held:
        async with (
            server,
            sidecar(f"http://127.0.0.1:{listening.getsockname()[1]}", SHIPPED_RULES, *flags) as running,
        ):
            pid = running.process.pid
            large = 3 if kind == "tcp after large answers" else 0

            async def begin() -> socket.socket:
                client = await asyncio.to_thread(stalled_client, running.listen, large)
                return held.enter_context(client)

            stalled = [await begin() for _ in range(8)]
            await settle(pid)
            before, _ = memory_kib(pid)
            for _ in range(count):
                stalled.append(await begin())
            after = await settle(pid)
            most = memory_kib(pid)[1]
            for client in stalled:  # all of them were answered, and none was let go
                begun = await asyncio.to_thread(client.recv, 12, socket.MSG_PEEK)
                assert begun == b"HTTP/1.1 200"
            assert (await running.get("/small")).content == b"ok"
        server.close()
    print(
        f"\n{count} clients that take nothing of a {framing} download ({kind}): VmRSS {before} -> {after} KiB, "
        f"{(after - before) / count:.1f} KiB each, {(most - before) / count:.1f} at the most"
    )
    assert after - before <= STALLED_KIB * count


def stalled_client(place: Place, large: int) -> socket.socket:
    """Take a number of large answers, then ask for one without end, and read nothing."""
    if isinstance(place, Path):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(place))
    else:
        client = socket.create_connection(place)
    client.settimeout(LIMIT_S)
    for _ in range(large):
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        with client.makefile("rb") as reader:
            read_head(reader)
            assert reader.read(len(LARGE)) == LARGE
    client.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    return client


async def settle(pid: int) -> int:
    """Wait until the process does nothing any more; what is resident then."""
    quiet = 0
    async with asyncio.timeout(LIMIT_S):
        while quiet < 5:
            used = cpu_ticks(pid)
            await asyncio.sleep(0.1)
            quiet = quiet + 1 if cpu_ticks(pid) - used <= 1 else 0
    return memory_kib(pid)[0]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
