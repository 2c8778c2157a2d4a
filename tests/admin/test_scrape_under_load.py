"""What a scrape costs the requests that are served meanwhile: nothing holds the event loop for 20 ms."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from proxy.message.methods import METHODS
from tests.admin import heartbeat
from tests.benchmarks import load, processes, workloads
from tests.support.ports import free_port
from tests.support.serving import ROOT, Sidecar, command, connect, get, serve_command
from tests.support.waiting import LIMIT_S

LONGEST_S = 0.020
SECONDS = 5.0  # of load, without and with scraping
SHORT_S = 2.0
SCRAPE_EVERY_S = 0.2
CONNECTIONS = 8
RULES = 1000
SETTLED_SHARE = 0.2  # of a core
SHIPPED = ROOT / "config" / "rules.yaml"
XHR = "X-Requested-With: XMLHttpRequest"
PATHS = {
    "nothing": None,
    "/metrics": "/metrics",
    "/api/rules": "/api/rules",
    "/api/recent": "/api/recent",  # recorded from the first time on; the next path is measured with it, too
    "/api/explain": f"/api/explain?target=/api/files/overview&header={quote(XHR)}",
    "/api/explain as text": f"/api/explain?format=text&target=/api/files/overview&header={quote(XHR)}",
}


@dataclass
class Seen:
    """What was measured while something was asked again and again.

    Attributes:
        asked: how often it was.
        since_s, until_s: by CLOCK_MONOTONIC.
    """

    asked: int
    longest_answer_s: float
    size: int
    since_s: float
    until_s: float
    load: load.Figures


@pytest.mark.alone
@pytest.mark.parametrize(
    ("count", "paths", "seconds"),
    [
        pytest.param(50, ["/metrics", "/api/recent"], SHORT_S, id="50 rules"),
        *(
            pytest.param(count, PATHS, SECONDS, id=name, marks=[pytest.mark.slow, pytest.mark.timeout(300)])
            for name, count in [("shipped rules", None), (f"{RULES} rules", RULES)]
        ),
    ],
)
async def test_no_scrape_holds_the_loop_for_20_ms(tmp_path, count, paths, seconds):
    """Every rule has been hit with every method, which is as much as a client can make of /metrics."""
    rules = SHIPPED
    if count is not None:
        rules = tmp_path / "rules.yaml"
        rules.write_text(workloads.rules_file(count))
    beats = tmp_path / "beats.json"
    async with upstream(tmp_path) as port, serving(beats, f"http://127.0.0.1:{port}", rules) as running:
        await settled(running)
        await hit_every_rule(running, count or 0)
        seen = {name: await under_load(running, PATHS[name], seconds) for name in paths}
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    rows = heartbeat.read(beats)
    table, held = [], {}
    for name, what in seen.items():
        assert what.load.mistake is None
        during = [beat for beat in rows if what.since_s < beat.at_s <= what.until_s]
        # The longest but one: a single full garbage collection may fall into any time, it is not a scrape's.
        held[name] = sorted(beat.cpu_s for beat in during)[-2]
        table.append(row(name, what, during))
    print("\n", "\n".join([HEADING, *table]), sep="")
    assert max(held[name] for name in paths if PATHS[name] is not None) < LONGEST_S


HEADING = (
    "asked every 200 ms      asked    bytes   answer max  |  req/s     p50     p99   p99.9     max"
    "  |  loop held: wall p99.9    max   CPU max"
)


def row(name: str, what: Seen, during: list[heartbeat.Beat]) -> str:
    """Write one line of the table, times in ms."""
    figures = what.load
    wall = sorted(beat.held_s for beat in during)
    p999_s, cpu_s = wall[int(len(wall) * 0.999)], max(beat.cpu_s for beat in during)
    return (
        f"{name:22} {what.asked:6} {what.size:8} {what.longest_answer_s * 1e3:12.1f}  |"
        f"{figures.requests / figures.seconds:7.0f} "
        + "".join(f"{s * 1e3:8.1f}" for s in (figures.p50_s, figures.p99_s, figures.p999_s, figures.max_s))
        + f"  |  {p999_s * 1e3:20.1f} {wall[-1] * 1e3:6.1f} {cpu_s * 1e3:9.1f}"
    )


async def under_load(running: Sidecar, path: str | None, seconds: float) -> Seen:
    """Load the gateway as fast as it goes, and ask the admin listener all the time."""
    assert isinstance(running.listen, tuple)
    pid = running.process.pid
    job = load.Job(running.listen[1], "repeated", CONNECTIONS, 0, 0.5, seconds, pid, pid)
    loading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert loading.stdin is not None
        loading.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        done = asyncio.ensure_future(loading.stdout.read())
        await asyncio.sleep(1.0)  # it starts and warms up
        since_s = time.monotonic()
        asked, longest_s, size = 0, 0.0, 0
        while time.monotonic() - since_s < seconds - 1:
            began_s = time.monotonic()
            if path is not None:
                answer = await get(running.admin, path)
                assert answer.status == 200
                asked, size = asked + 1, len(answer.content)
                longest_s = max(longest_s, time.monotonic() - began_s)
            await asyncio.sleep(max(0.0, began_s + SCRAPE_EVERY_S - time.monotonic()))
        until_s = time.monotonic()
        async with asyncio.timeout(LIMIT_S):
            figures = json.loads(await done)
            await loading.wait()
    finally:
        if loading.returncode is None:
            loading.kill()
            await loading.wait()
    return Seen(asked, longest_s, size, since_s, until_s, load.Figures(**figures))


async def settled(running: Sidecar) -> None:
    """Wait until the start is over: the rules' warnings are looked for while it serves already."""
    async with asyncio.timeout(4 * LIMIT_S):
        used_s = -1.0
        while (now_s := processes.cpu_time_s(running.process.pid)) - used_s > SETTLED_SHARE:
            used_s = now_s
            await asyncio.sleep(1.0)


async def hit_every_rule(running: Sidecar, count: int) -> None:
    """Ask for every rule with every method that clients may send, on one connection."""
    peer = await connect(running.listen)
    for method in sorted(METHODS - {"CONNECT", "HEAD"}):
        for number in range(count):
            target = f"/apps/{number}/views/x/last/y"
            peer.writer.write(f"{method} {target} HTTP/1.1\r\nHost: app\r\n{XHR}\r\n\r\n".encode())
            if number % 50 == 49:
                for _ in range(50):
                    answer = await peer.read_response()
                    assert answer.status in {404, 501}, answer.head
    peer.close()


@asynccontextmanager
async def serving(beats: Path, url: str, rules: Path) -> AsyncIterator[Sidecar]:
    """Run `serve` with a heart."""
    words = (str(beats), *serve_command(url, rules))
    async with command(*words, module="tests.admin.heartbeat", env={"PYTHONPATH": str(ROOT)}) as running:
        yield await running.started()


@asynccontextmanager
async def upstream(directory: Path) -> AsyncIterator[int]:
    """Run the fast app of the benchmarks."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.upstream", str(port)]
    cores = frozenset(os.sched_getaffinity(0))
    with processes.running(command, cores, directory / "upstream.log", cwd=ROOT) as child:
        processes.first_response_s(child, port, time.perf_counter())
        yield port
