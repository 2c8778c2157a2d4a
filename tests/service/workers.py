"""Two workers to test: who holds which connection, and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.peer import Answer, Peer, request
from tests.support.serving import App, Sidecar, connect, is_running, sidecar
from tests.support.waiting import LIMIT_S, until

# Connections: that the kernel gives all of them to one of two workers happens once in 2 ** 29 times.
MANY = 30


@asynccontextmanager
async def two_workers(app: App, rules: Path, *flags: str):
    async with sidecar(app.url, rules, "--workers", "2", *flags) as running:
        await until(lambda: both_listen(running))
        yield running


async def both_listen(running: Sidecar) -> bool:
    """Each worker has made its socket a listening one: until then the other gets all connections."""
    listening = [row for row in tcp_rows(running) if row[3] == "0A"]
    return len(listening) == 2


def tcp_rows(running: Sidecar) -> list[list[str]]:
    """The kernel's table of the sockets on the sidecar's port, proc_net_tcp: addresses, state, inode."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[1].endswith(f":{running.listen[1]:04X}")]


def owners(running: Sidecar, peers: list[Peer]) -> list[int]:
    """Which worker holds each of these connections."""
    held = {what: pid for pid in running.worker_pids() for what in open_files(pid)}
    inodes = {int(row[2].rpartition(":")[2], 16): f"socket:[{row[9]}]" for row in tcp_rows(running)}
    return [held[inodes[peer.writer.get_extra_info("sockname")[1]]] for peer in peers]


def open_files(pid: int) -> list[str]:
    """What a process has open; it may close some of it meanwhile, or end."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(descriptor))
    return found


async def open_many(running: Sidecar, target: str = "/", *fields: str) -> list[Peer]:
    """Open connections that last, and send a request on each."""
    peers = [await connect(running.listen) for _ in range(MANY)]
    await asyncio.gather(*(peer.send(request(target, *fields)) for peer in peers))
    return peers


async def responses(peers: list[Peer]) -> list[Answer]:
    async with asyncio.timeout(LIMIT_S):
        return await asyncio.gather(*(peer.read_response() for peer in peers))


async def ask_each(peers: list[Peer], *fields: str) -> list[Answer]:
    await asyncio.gather(*(peer.send(request("/", *fields)) for peer in peers))
    return await responses(peers)


def sum_of(samples: dict[str, float], name: str) -> float:
    return sum(value for sample, value in samples.items() if sample.partition("{")[0] == name)


async def replace_all(running: Sidecar) -> None:
    """Kill both workers; wait until readiness has said so, or until both have followers."""
    before = set(running.worker_pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await running.log.matching("worker . ended", 2)
    await until(lambda: has_new_workers(running, before))


async def has_new_workers(running: Sidecar, before: set[int]) -> bool:
    now = set(running.worker_pids())
    return len(now) == 2 and not now & before


async def is_refused(running: Sidecar) -> bool:
    try:
        await connect(running.listen)
    except ConnectionError:
        return True
    return False


async def all_gone(pids: list[int]) -> bool:
    return not any(map(is_running, pids))
