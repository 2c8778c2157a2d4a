"""After mixed traffic at full speed nothing is left of it: no wrong answer, no descriptor, no memory.

Good clients, slow ones, such as leave, an app of many faults, tunnels, scrapes and reloads, against a real
`serve`. What the process holds at rest afterwards is compared with what it held at rest after a warm-up of
the same traffic. `SOAK_S` and `SOAK_REQUESTS` set the length of the slow form.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.serving import Sidecar, get, sidecar
from tests.support.waiting import until
from tests.wire import soak

SOAK_S = float(os.environ.get("SOAK_S", "300"))
SOAK_REQUESTS = int(os.environ.get("SOAK_REQUESTS", "300000"))
# What an allocator may keep for itself. Over the long form it is 20 bytes a request: less than any object.
MAX_GROWTH_KIB = 8 * 1024
RULES = """\
version: 1
rules:
  - {name: ajax, match: {x_requested_with: XMLHttpRequest}, policy: ours}
policies:
  ours: {extends: strict, set: {X-Version: "%d"}}
"""
BAD = "version: 1\nrules: [{nam: %d}]\n"


@dataclass(frozen=True)
class Held:
    """What a process holds at rest.

    Attributes:
        descriptors: how many of each kind.
    """

    descriptors: Counter[str]
    memory_kib: int


async def at_rest(running: Sidecar) -> None:
    """Wait until no connection is left, on either side."""
    gauges = ("requests_in_flight", "client_connections_open", "upstream_connections_open", "tunnels_open")

    left: dict[str, float] = {}

    async def is_at_rest() -> bool:
        samples = await running.metrics()
        left.update((name, samples[f"nocache_proxy_{name}"]) for name in gauges)
        return not any(left.values())

    try:
        await until(is_at_rest)
    except TimeoutError:
        raise AssertionError(f"never came to rest: {left}") from None


def held(pid: int) -> Held:
    kinds: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kinds[os.readlink(descriptor).partition(":[")[0]] += 1
        except OSError:
            continue  # closed just now
    status = Path(f"/proc/{pid}/status").read_text()
    return Held(kinds, int(status.partition("VmRSS:")[2].split()[0]))


async def soaked(
    running: Sidecar, rules: Path, length_s: float, seed: int, requests: int = 0
) -> Counter[str]:
    """Run the traffic, with reloads and scrapes; everything that was done is checked and counted."""
    assert isinstance(running.listen, tuple)
    traffic = soak.Traffic(running.listen, seed)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run())
        ends_at_s = loop.time() + length_s
        for number in itertools.count(seed * 1_000_000):
            rules.write_text((BAD if number % 5 == 4 else RULES) % number)
            await asyncio.sleep(min(0.35, length_s / 10))
            assert (await get(running.admin, "/metrics")).status == 200
            assert (await get(running.admin, "/readyz")).status == 200
            is_enough = loop.time() >= ends_at_s and traffic.done.total() >= requests
            if is_enough and set(traffic.done) >= soak.KINDS:
                break
        rules.write_text(RULES % number)
        traffic.is_over.set()
    return traffic.done


async def compare(rules: Path, *, warm_up_s: float, length_s: float, requests: int = 0) -> str:
    """Warm up, soak, and compare; return the figures in a line."""
    rules.write_text(RULES % 0)
    async with soak.app() as url, sidecar(url, rules) as running:
        await soaked(running, rules, warm_up_s, seed=1)
        await at_rest(running)
        pid = running.process.pid
        await until(lambda: _is_stable(pid))
        before = held(pid)
        done = await soaked(running, rules, length_s, seed=2, requests=requests)
        await at_rest(running)

        async def as_before() -> bool:
            return held(pid).descriptors == before.descriptors

        try:
            await until(as_before)
        except TimeoutError:
            assert held(pid).descriptors == before.descriptors
        after = held(pid)
        samples = await running.metrics()
        assert not any("Traceback" in line for line in running.log.read), running.log.read[-50:]
        assert samples["nocache_proxy_decision_failures_total"] == 0
        assert after.memory_kib - before.memory_kib < MAX_GROWTH_KIB
    return (
        f"{done.total()} checked, 0 wrong, 0 foreign, 0 unprotected; descriptors "
        f"{before.descriptors.total()} -> {after.descriptors.total()}, memory {before.memory_kib / 1024:.1f} -> "
        f"{after.memory_kib / 1024:.1f} MiB; {dict(done)}"
    )


async def _is_stable(pid: int) -> bool:
    """Whether nothing is being opened or closed: the admin listener's own connections end a little later."""
    first = held(pid).descriptors
    await asyncio.sleep(0.2)
    return held(pid).descriptors == first


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
class Test_After_mixed_traffic:
    @pytest.mark.parametrize(
        ("warm_up_s", "length_s", "requests"),
        [
            (2, 5, 0),
            pytest.param(
                *(30, SOAK_S, SOAK_REQUESTS),
                marks=[pytest.mark.slow, pytest.mark.timeout(2 * SOAK_S + SOAK_REQUESTS / 100 + 300)],
            ),
        ],
    )
    async def test_nothing_is_left(self, tmp_path, warm_up_s, length_s, requests):
        """The slow form takes five minutes, with 300,000 checked answers at the least; prints its figures."""
        rules = tmp_path / "rules.yaml"
        print("\n" + await compare(rules, warm_up_s=warm_up_s, length_s=length_s, requests=requests))
