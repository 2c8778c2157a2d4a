"""Open files: the soft limit is raised, and clients are refused before descriptors run out."""

from __future__ import annotations

import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.service.descriptors import fit_connections
from proxy.settings import Settings, Upstream
from tests.support.peer import request
from tests.support.serving import Sidecar, command, connect, serve_command

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


@asynccontextmanager
async def limited(upstream: str, rules: Path, hard: int, *flags: str) -> AsyncIterator[Sidecar]:
    """Run `serve` with low limits of open files."""
    limits = ("sh", "-c", f'ulimit -Sn 100 && ulimit -Hn {hard} && exec "$@"', "sh")
    async with command(*serve_command(upstream, rules, *flags), under=limits) as running:
        yield await running.started()
