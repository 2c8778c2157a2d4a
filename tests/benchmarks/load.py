"""The load: cheap enough to share a core with the upstream, strict enough that a wrong proxy is never fast.

Run as `python -m tests.benchmarks.load`, a job as JSON on standard input, its figures as JSON on standard
output. Every answer is checked: status, length and the enforced Cache-Control by byte search, and the first
of each connection in full. CPU times are read at the very edges of the measured window.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import gc
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import uvloop

from tests.benchmarks import messages, processes, workloads

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_BATCH: Final = 100
LAST_ANSWERS_S: Final = 10.0
FIELD_LINE: Final = re.compile(rb"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)")


@dataclass(frozen=True, slots=True)
class Job:
    """What to do; see Workload. The CPU time of the trees below `proxy_pid` and `upstream_pid` counts."""

    port: int
    request: workloads.Request
    connections: int
    rate_per_s: int
    warm_up_s: float
    seconds: float
    proxy_pid: int
    upstream_pid: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it, within the measured window."""

    requests: int
    seconds: float
    proxy_cpu_s: float
    upstream_cpu_s: float
    load_cpu_s: float
    p50_s: float
    p99_s: float
    p999_s: float
    max_s: float
    mistake: str | None


class Load:
    """What all connections share: requests to send, the expected answer, latencies so far."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests: Iterator[bytes] = workloads.requests(job.request)
        self.expected = workloads.expected(job.request)
        self.content_length = len(self.expected.content)
        self.is_open_loop = job.rate_per_s > 0
        self.latencies_s: list[float] = []
        self.idle: collections.deque[Connection] = collections.deque()
        self.due: collections.deque[float] = collections.deque()
        self.in_flight = 0
        self.is_over = False
        self.mistake: str | None = None
        self.drained = asyncio.Event()

    def answered(self, connection: Connection) -> None:
        """Note an answer; send the next request on its connection, at once or when one is due."""
        now = time.perf_counter()
        self.latencies_s.append(now - connection.due_s)
        self.in_flight -= 1
        if self.is_open_loop:
            if self.due:
                connection.send(self.due.popleft())
            else:
                self.idle.append(connection)
        elif not self.is_over:
            connection.send(now)
        if self.is_over and self.in_flight == 0:
            self.drained.set()

    def tick(self, count: int, last_due_s: float) -> None:
        """Send `count` requests, the last one due at `last_due_s`; queue those that find no connection."""
        for number in range(count):
            due_s = last_due_s - (count - 1 - number) / self.job.rate_per_s
            if self.idle:
                self.idle.popleft().send(due_s)
            else:
                self.due.append(due_s)

    def fail(self, mistake: str) -> None:
        """Keep the first mistake and end."""
        if self.mistake is None:
            self.mistake = mistake
        self.drained.set()


class Connection(asyncio.Protocol):
    """One client connection with at most one request in flight."""

    __slots__ = ("buffer", "due_s", "head", "is_checked", "load", "received", "transport")

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.head: bytes | None = None  # of an answer whose content has not all come
        self.received = 0
        self.is_checked = False
        self.due_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits(high=4 * messages.MIB)

    def send(self, due_s: float) -> None:
        """Send the next request; its latency counts from when it was due, not from when it could be sent."""
        self.due_s = due_s
        self.load.in_flight += 1
        self.transport.write(next(self.load.requests))

    def data_received(self, data: bytes) -> None:
        expected, load = self.load.expected, self.load
        if expected.is_chunked or not self.is_checked or self.buffer:
            self.received_slowly(data)
            return
        if self.head is None:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = data
                return
            self.received = len(data) - end - 4
            if not data.startswith(b"HTTP/1.1 200 "):
                load.fail(f"unexpected answer: {data[:60]!r}")
            elif expected.is_enforced and (
                data.find(messages.ENFORCED, 0, end) < 0 or data.find(messages.STORABLE, 0, end) > 0
            ):
                load.fail(f"not enforced: {data[:end]!r}")
            self.head = data
        else:
            self.received += len(data)
        if self.received >= load.content_length:
            self.complete(self.received)

    def complete(self, received: int) -> None:
        self.head = None
        if received != self.load.content_length:
            self.load.fail(f"{received} bytes of content instead of {self.load.content_length}")
        else:
            self.load.answered(self)

    def received_slowly(self, data: bytes) -> None:
        """Gather a whole answer and check all of it."""
        self.buffer += data
        head, end, content = self.buffer.partition(b"\r\n\r\n")
        if not end or (self.load.expected.is_chunked and not content.endswith(b"\r\n0\r\n\r\n")):
            return
        if not self.load.expected.is_chunked and len(content) < self.load.content_length:
            return
        self.buffer = b""
        mistake = check(head, content, self.load.expected, is_full=not self.is_checked)
        self.is_checked = True
        if mistake:
            self.load.fail(mistake)
        else:
            self.load.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.load.drained.is_set():
            self.load.fail(f"connection closed by the proxy ({exc or 'in order'})")


def check(head: bytes, content: bytes, expected: workloads.Expected, *, is_full: bool) -> str | None:
    """Say what is wrong with an answer; None when nothing is."""
    if not head.startswith(b"HTTP/1.1 200 "):
        return f"unexpected answer: {head[:60]!r}"
    if is_full:
        lines = [value for name, value in FIELD_LINE.findall(head) if name.lower() == b"cache-control"]
        wanted = messages.ENFORCED if expected.is_enforced else messages.STORABLE
        if lines != [wanted]:
            return f"Cache-Control {lines} instead of {wanted!r}"
    if expected.is_chunked:
        content = _unchunk(content)
    if content != expected.content:
        return f"{len(content)} bytes of content, not the {len(expected.content)} that were sent"
    return None


async def measure(job: Job) -> Figures:
    """Connect, warm up, measure, and wait for the last answers."""
    load = Load(job)
    connections = await connect(load)
    timer = Timer(load) if load.is_open_loop else None
    if timer:
        load.idle.extend(connections)
        timer.start()
    else:
        # Spread the first requests, or all connections march in step.
        for connection in connections:
            connection.send(time.perf_counter())
    await _wait(load, job.warm_up_s)
    load.latencies_s.clear()
    before = _cpu_times(job)
    started = time.perf_counter()
    await _wait(load, job.seconds)
    seconds = time.perf_counter() - started
    latencies = sorted(load.latencies_s)
    after = _cpu_times(job)
    load.is_over = True
    if timer:
        timer.stop()
    if load.in_flight:
        await _wait(load, LAST_ANSWERS_S)
        if load.in_flight:
            load.fail(f"{load.in_flight} requests unanswered after {LAST_ANSWERS_S:.0f} s")
    load.drained.set()
    for connection in connections:
        connection.transport.abort()
    if not latencies:
        load.mistake = load.mistake or "no answer at all"
        latencies = [0.0]
    return Figures(
        requests=len(latencies),
        seconds=seconds,
        proxy_cpu_s=after[0] - before[0],
        upstream_cpu_s=after[1] - before[1],
        load_cpu_s=after[2] - before[2],
        p50_s=_quantile(latencies, 0.5),
        p99_s=_quantile(latencies, 0.99),
        p999_s=_quantile(latencies, 0.999),
        max_s=latencies[-1],
        mistake=load.mistake,
    )


async def connect(load: Load) -> list[Connection]:
    """Open all connections, a batch at a time so that no accept queue overflows."""
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    while len(connections) < load.job.connections:
        batch = min(CONNECT_BATCH, load.job.connections - len(connections))
        made = await asyncio.gather(
            *(
                loop.create_connection(lambda: Connection(load), "127.0.0.1", load.job.port)
                for _ in range(batch)
            )
        )
        connections += [protocol for _, protocol in made]
    return connections


class Timer:
    """Calls `Load.tick` at an exact rate, by a timerfd: the loop's timers are good to a millisecond only."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.interval_s = 1 / load.job.rate_per_s
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self.libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        self.due_s = 0.0

    def start(self) -> None:
        nanoseconds = int(self.interval_s * 1e9)
        seconds, rest = divmod(nanoseconds, 10**9)
        setting = (ctypes.c_long * 4)(seconds, rest, seconds, rest)
        self.due_s = time.perf_counter()
        if self.libc.timerfd_settime(self.descriptor, 0, setting, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        asyncio.get_running_loop().add_reader(self.descriptor, self.fired)

    def fired(self) -> None:
        count = int.from_bytes(os.read(self.descriptor, 8), sys.byteorder)
        self.due_s += count * self.interval_s
        self.load.tick(count, self.due_s)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.descriptor)
        os.close(self.descriptor)


async def hold(port: int, count: int) -> list[asyncio.Transport]:
    """Open `count` connections, get one answer on each, and leave them open."""
    load = Load(Job(port, "repeated", count, 1, 0.0, 0.0, 0, 0))  # open loop: nothing follows by itself
    connections = await connect(load)
    for start in range(0, count, 50):
        batch = connections[start : start + 50]
        for connection in batch:
            connection.send(time.perf_counter())
        while load.in_flight and not load.mistake:
            await asyncio.sleep(0.001)
        if load.mistake:
            raise RuntimeError(load.mistake)
    return [connection.transport for connection in connections]


def _unchunk(content: bytes) -> bytes:
    pieces: list[bytes] = []
    position = 0
    while True:
        end = content.index(b"\r\n", position)
        size = int(content[position:end], 16)
        if size == 0:
            return b"".join(pieces) if end + 4 == len(content) else b""
        pieces.append(content[end + 2 : end + 2 + size])
        position = end + 4 + size


async def _wait(load: Load, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await load.drained.wait()
    except TimeoutError:
        pass


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _cpu_times(job: Job) -> tuple[float, float, float]:
    own = os.times()
    return processes.cpu_time_s(job.proxy_pid), processes.cpu_time_s(job.upstream_pid), own.user + own.system


async def _hold_until_told(order: dict[str, Any]) -> None:
    transports = await hold(order["port"], order["hold"])
    print("held", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for transport in transports:
        transport.abort()


def main() -> None:
    """Do the job given on standard input."""
    order = json.loads(sys.stdin.readline())
    gc.freeze()
    gc.disable()  # a collection would show as latency of the proxy
    if "hold" in order:
        uvloop.run(_hold_until_told(order))
    else:
        print(json.dumps(asdict(uvloop.run(measure(Job(**order))))))


if __name__ == "__main__":
    main()
