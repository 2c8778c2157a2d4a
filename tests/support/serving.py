"""`serve` as its users run it: a process of its own, before an app that the test holds in its hands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import peer as raw
from tests.support.peer import Answer, Peer, Place, request
from tests.support.ports import LOCALHOST, free_ports, is_open
from tests.support.upstream import scripted, switch_and_echo
from tests.support.waiting import LIMIT_S, wait_until

ROOT = Path(__file__).parents[2]
RULES = """\
version: 1
rules:
  - name: ajax
    match: {x_requested_with: XMLHttpRequest}
    policy: %s
policies:
  first: {extends: strict, set: {X-Rules: first}}
  second: {extends: strict, set: {X-Rules: second}}
"""

_connected: list[Peer] = []  # until the `command` block ends that they were made in


@dataclass
class App:
    """An upstream. `/slow` sends half of its response and waits for `finish`; an upgrade gets an echo.

    Attributes:
        arrived: targets, as their requests come.
        finish: lets slow responses end.
    """

    arrived: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        async with scripted(self._serve, port=self.port) as recorder:
            self.port = recorder.port
            yield self

    async def _serve(self, peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ")[1].decode()
            self.arrived.put_nowait(target)
            if b"\r\nupgrade:" in head.lower():
                await switch_and_echo(peer)
                return
            first = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nwe"
            await peer.send(first)
            if target == "/slow":
                await self.finish.wait()
            await peer.send(b"ll")


@dataclass
class Lines:
    """What a process writes, line by line."""

    read: list[str] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.read.append(line.decode().rstrip("\n"))
            self.came.set()

    async def matching(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until so many lines match."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                found = [line for line in self.read if re.search(pattern, line)]
                if len(found) >= count:
                    return found
                self.came.clear()
                await self.came.wait()


@dataclass
class Sidecar:
    """A running `serve`."""

    process: asyncio.subprocess.Process
    out: Lines = field(default_factory=Lines)
    log: Lines = field(default_factory=Lines)
    listen: Place = ("", 0)
    admin: Place = ("", 0)

    async def started(self) -> Sidecar:
        (line,) = await self.log.matching("listening on ")
        match = re.search(r"listening on (\S+) for .* admin on (\S+), workers", line)
        assert match is not None
        self.listen, self.admin = place_of(match[1]), place_of(match[2])
        return self

    async def get(self, target: str = "/", *fields: str) -> Answer:
        return await get(self.listen, target, *fields)

    async def ask(self, path: str) -> Any:
        """Get JSON from the admin listener."""
        return json.loads((await get(self.admin, path)).content)

    async def metrics(self) -> dict[str, float]:
        """Scrape: every sample by its name and labels as written."""
        text = (await get(self.admin, "/metrics")).content.decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def is_ready(self) -> bool:
        return bool((await self.ask("/readyz"))["ready"])

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        async with asyncio.timeout(LIMIT_S):
            return await self.process.wait()

    def worker_pids(self) -> list[int]:
        return child_pids(self.process.pid)


@asynccontextmanager
async def sidecar(
    upstream: str,
    rules: Path,
    *flags: str,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
    under: Sequence[str] = (),
) -> AsyncIterator[Sidecar]:
    """Run `serve` on free ports until the block ends, and wait until it listens."""
    words = serve_command(upstream, rules, *flags)
    async with command(*words, env=env, cwd=cwd, under=under) as running:
        yield await running.started()


@asynccontextmanager
async def command(
    *words: str,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
    under: Sequence[str] = (),
    module: str = "proxy",
) -> AsyncIterator[Sidecar]:
    """Run the command line; it is killed, with its workers, at the end of the block if it still runs.

    Args:
        under: a command that becomes the one that it is given.
        module: that is run; others than the product's run it in their turn.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOCACHE_PROXY_")}
    process = await asyncio.create_subprocess_exec(
        *(*under, sys.executable, "-P", "-m", module, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**environment, **(env or {})},
    )
    running = Sidecar(process)
    assert process.stdout is not None
    assert process.stderr is not None
    following = asyncio.gather(running.out.follow(process.stdout), running.log.follow(process.stderr))
    try:
        yield running
    finally:
        while _connected:
            _connected.pop().close()
        if process.returncode is None:
            process.kill()
        await running.ended()
        async with asyncio.timeout(LIMIT_S):
            await following


@contextmanager
def serving(app: int, rules: Path) -> Iterator[tuple[int, int]]:
    """Run `serve` before an app until the block ends, where no event loop runs; give its port and the admin's.

    Args:
        app: its port.
    """
    data, admin = free_ports(2)
    places = ("--listen", f"{LOCALHOST}:{data}", "--admin", f"{LOCALHOST}:{admin}")
    words = serve_command(f"http://{LOCALHOST}:{app}", rules, *places)
    process = subprocess.Popen([sys.executable, "-m", "proxy", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_open(data) and is_open(admin))
        yield data, admin
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def serve_command(upstream: str, rules: Path, *flags: str) -> list[str]:
    """The words of a `serve` on free ports; flags given later win."""
    fixed = [
        "--upstream",
        upstream,
        "--rules",
        str(rules),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]
    # So few connections fit into any machine's limit of open files: no warning.
    return ["serve", *fixed, "--access-log", "off", "--max-connections", "1000", *flags]


async def connect(place: Place) -> Peer:
    """Open a raw connection that ends with the `command` block, at the latest."""
    peer = await raw.connect(place)
    _connected.append(peer)
    return peer


async def get(place: Place, target: str, *fields: str) -> Answer:
    """Ask on a connection of its own and read to its end."""
    return await raw.ask(place, request(target, "Connection: close", *fields))


def place_of(text: str) -> Place:
    if text.startswith("unix:"):
        return Path(text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port) if host else 0


def child_pids(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether a process still does something: one that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
