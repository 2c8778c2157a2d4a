"""What a report of 500 routes costs the requests that are served meanwhile: nothing holds the loop for 20 ms."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time

import pytest
from aiohttp import web

from proxy.audit.routes import MAX_ROUTES
from tests.admin import heartbeat
from tests.support.apps import serving_app
from tests.support.peer import request
from tests.support.serving import ROOT, Sidecar, command, connect, serve_command

LONGEST_S = 0.020
WORDS = ["".join(letters) for letters in itertools.product("abcde", repeat=2)]
PATHS = [f"/{first}/{second}" for first in WORDS for second in WORDS]
NONE = "version: 1\nrules: [{name: none, match: {paths: [/none]}}]\n"


@pytest.mark.alone
@pytest.mark.parametrize("asked", [50, pytest.param(520, marks=[pytest.mark.slow, pytest.mark.timeout(240)])])
async def test_report_holds_no_request_for_20_ms(tmp_path, asked):
    rules, beats = tmp_path / "rules.yaml", tmp_path / "beats.json"
    rules.write_text(NONE)
    app = web.Application()
    numbers = itertools.count()

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(next(numbers), headers={"Cache-Control": "max-age=600"})

    app.router.add_get("/{path:.*}", answer)
    async with (
        serving_app(app) as port,
        command(
            *(str(beats), *serve_command(f"http://127.0.0.1:{port}", rules)),
            module="tests.admin.heartbeat",
            env={"PYTHONPATH": str(ROOT)},
        ) as running,
    ):
        await running.started()
        # Two answers of each route, not more in a second than the audit looks at.
        for start in range(0, asked, 50):
            for _ in range(2):
                await ask(running, PATHS[start : min(start + 50, asked)])
            await asyncio.sleep(1.1)
        since_s = time.monotonic()
        took_s, report = [], {}
        for _ in range(3):
            began_s = time.monotonic()
            report = await running.ask("/api/audit")
            took_s.append(time.monotonic() - began_s)
            await asyncio.sleep(1.1)
        until_s = time.monotonic()
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    assert len(report["routes"]) == min(asked, MAX_ROUTES)
    assert {route["verdict"] for route in report["routes"]} == {"stale"}
    assert all(route["rule"] for route in report["routes"])
    held = sorted(beat.cpu_s for beat in heartbeat.read(beats) if since_s < beat.at_s <= until_s)
    print(f"\nreports took {max(took_s):.1f} s; the loop was held {held[-1] * 1e3:.1f} ms of CPU at most")
    # The longest but one: a full garbage collection may fall into any time, it is not a report's.
    assert held[-2] < LONGEST_S


async def ask(running: Sidecar, paths: list[str]) -> None:
    peer = await connect(running.listen)
    for path in paths:
        await peer.send(request(path))
        assert (await peer.read_response()).status == 200
    peer.close()
