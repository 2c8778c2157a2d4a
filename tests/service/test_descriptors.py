"""Open files: the soft limit is raised, and clients are refused before descriptors run out."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.service.descriptors import fit_connections
from proxy.settings import Settings, Upstream
from tests.support.peer import Peer, request
from tests.support.serving import Sidecar, command, connect, get, serve_command
from tests.support.waiting import until

SETTINGS = Settings(upstream=Upstream.parse("http://app"), max_connections=1000)


@pytest.mark.parametrize("limit", [2128, 4096, resource.RLIM_INFINITY])
def test_connections_that_fit_are_left_as_they_are(limit, caplog):
    assert fit_connections(SETTINGS, limit) is SETTINGS
    assert not caplog.records


@pytest.mark.parametrize(("limit", "fitting"), [(2127, 999), (1024, 448), (128, 1), (20, 1)])
def test_connections_that_do_not_fit_are_fewer_and_a_warning_says_what_to_do(limit, fitting, caplog):
    assert fit_connections(SETTINGS, limit).max_connections == fitting
    (record,) = caplog.records
    assert (
        f"needs 2128 open files, the limit is {limit}: at most {fitting} connections" in record.getMessage()
    )


async def test_soft_limit_is_raised_to_the_hard_one_in_every_process(app, rules):
    async with limited(app.url, rules, 4096, "--workers", "2") as running:
        for pid in (running.process.pid, *running.worker_pids()):
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (4096, 4096)


async def test_clients_are_refused_while_descriptors_for_the_app_and_the_admin_listener_are_left(app, rules):
    """Without a reserve, accepting takes them all: the app is not reached, and no probe is answered."""
    async with limited(app.url, rules, 256, "--max-connections", "10000") as running:
        (warning,) = await running.log.matching("needs 20128 open files, the limit is 256: at most 64 ")
        assert json.loads(warning)["level"] == "warning"
        assert (await running.metrics())["nocache_proxy_client_connections_limit"] == 64
        peers = [await connect(running.listen) for _ in range(64)]
        for peer in peers:
            await peer.send(request("/slow"))
            assert b" 200 OK" in await peer.read_head()
        assert (await running.get("/")).status == 503
        assert (await running.ask("/readyz"))["ready"]
        app.finish.set()


async def test_flood_past_the_limit_is_refused_and_holds_no_descriptors(app, rules):
    """Issue 14.6: each of 300 that are too many gets a 503 and is closed at once; probes are answered meanwhile."""
    async with limited(app.url, rules, 256, "--max-connections", "10000") as running:
        held = [await connect(running.listen) for _ in range(64)]
        for peer in held:
            await peer.send(request("/slow"))
            await peer.read_head()
        flood = [await connect(running.listen) for _ in range(300)]
        for peer in flood:
            await peer.send(request("/"))
        assert await is_alive(running)
        answers = await asyncio.gather(*(peer.read_to_end() for peer in flood))
        refused = Counter(answer.status for answer in answers)
        assert refused.keys() <= {
            503,
            0,
        }  # what was sent to a closed connection resets it, with the answer in it
        assert refused[503] > 200
        assert open_files(running.process.pid) < 256
        app.finish.set()
        for peer in held:
            peer.close()
        await until_answered(running)


async def test_worker_without_a_descriptor_left_closes_who_comes_and_recovers(app, rules):
    """Issue 14.6: `accept` fails with EMFILE. Whoever was served before goes on, and the worker does not spin."""
    async with limited(app.url, rules, 4096) as running:
        pid = running.process.pid
        held: list[Peer] = []
        # The limit is on the number of a descriptor, and the lowest is taken.
        while len(held) < 20 or has_gaps(pid):
            held.append(await connect(running.listen))
            await held[-1].send(request("/slow"))
            await held[-1].read_head()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid), 4096))
        late = [await connect(running.listen) for _ in range(50)]
        assert [(await peer.read_to_end()).data for peer in late] == 50 * [b""]
        before_s = cpu_s(pid)
        await asyncio.sleep(0.5)
        assert cpu_s(pid) - before_s < 0.25
        app.finish.set()
        for peer in held:
            assert await peer.read_exactly(4) == b"well"
            await peer.send(request("/again"))
            assert (await peer.read_response()).status == 200
        for peer in held:
            peer.close()
        await until_answered(running)
        assert await is_alive(running)
        assert not [line for line in running.log.read if "Traceback" in line]


async def is_alive(running: Sidecar) -> bool:
    return (await get(running.admin, "/livez")).status == 200


async def until_answered(running: Sidecar) -> None:
    """Wait until a new client is served, as the worker hears of those that left in its own time."""

    async def is_served() -> bool:
        return (await running.get("/")).status == 200

    await until(is_served)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def has_gaps(pid: int) -> bool:
    return max(map(int, os.listdir(f"/proc/{pid}/fd"))) >= open_files(pid)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def limited(upstream: str, rules: Path, hard: int, *flags: str) -> AsyncIterator[Sidecar]:
    """Run `serve` with low limits of open files."""
    limits = ("sh", "-c", f'ulimit -Sn 100 && ulimit -Hn {hard} && exec "$@"', "sh")
    async with command(*serve_command(upstream, rules, *flags), under=limits) as running:
        yield await running.started()
