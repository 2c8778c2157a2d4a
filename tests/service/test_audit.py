"""The audit of a running sidecar: what passes is judged, whatever worker it passes; secrets stay where they are."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from proxy.audit.collector import Collector
from proxy.audit.evidence import Evidence
from proxy.service import audit_reports
from proxy.service.channel import Report
from tests.audit.answers import answer
from tests.service.workers import has_new_workers
from tests.support.apps import serving_app
from tests.support.peer import XHR
from tests.support.serving import RULES, Sidecar, command, connect, sidecar
from tests.support.waiting import until

SECRET = "s3cr3tZq9Zq9"
CREDENTIAL = f"{SECRET}-credential"
CONTENT = f"{SECRET}-content"
NONE = "version: 1\nrules: [{name: none, match: {paths: [/none]}}]\n"


@asynccontextmanager
async def changing_app():
    """Every answer is another one, but for `/constant`, and `/me`, which depends on who asks.

    `/large` is longer than what the audit compares.
    """
    numbers = itertools.count()

    async def answer(request: web.Request) -> web.StreamResponse:
        number = str(next(numbers))
        fields = {"Cache-Control": "max-age=600", "Set-Cookie": f"session={CREDENTIAL}"}
        if request.path == "/large":
            return web.Response(text=number + "x" * (300 << 10), headers=fields)
        if request.path == "/cut":
            response = web.StreamResponse(headers=fields)
            await response.prepare(request)
            await response.write(b"begun")
            await asyncio.Event().wait()  # until the proxy leaves
        if request.path == "/pieces":
            response = web.StreamResponse(headers=fields)
            await response.prepare(request)
            for piece in ("same ", "same ", number, CONTENT):
                await response.write(piece.encode())
            return response
        shown = {"/constant": "", "/me": request.headers.get("Cookie", "")}.get(request.path, number)
        text = f"{shown} {CONTENT}"
        return web.json_response({"said": text}, headers=fields)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serving_app(app, handler_cancellation=True, shutdown_timeout=1) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def upstream():
    async with changing_app() as url:
        yield url


@pytest.fixture
def no_rules(tmp_path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(NONE)
    return path


async def routes(running: Sidecar, answers: int) -> dict[str, dict]:
    """The routes of the audit, once it has looked at so many answers."""
    report: dict = {}

    async def has_seen() -> bool:
        nonlocal report
        report = await running.ask("/api/audit")
        assert "routes" in report, report
        return report["responses"] >= answers

    await until(has_seen)
    return {route["route"]: route for route in report["routes"]}


async def get_all(running: Sidecar, *targets: str, fields=(), times: int = 2) -> None:
    for _ in range(times):
        for target in targets:
            assert (await running.get(target, *fields)).status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_what_passes_is_judged_and_nothing_secret_is_told(upstream, no_rules, workers):
    async with sidecar(upstream, no_rules, "--workers", workers, "--access-log", "text") as running:
        await cut_short(running, "/cut")
        await get_all(running, f"/a?token={SECRET}", f"/pieces;jsessionid={SECRET}", fields=(XHR,), times=6)
        await get_all(running, "/constant", "/large", times=3)
        # Whoever gets its own again proves it, as the app sets another cookie each time. Between two ticks equal answers are one.
        for answers, user in enumerate("aba", 19):
            await running.get(
                "/me", f"Cookie: session={CREDENTIAL}{user}", f"Authorization: Bearer {CREDENTIAL}"
            )
            found = await routes(running, answers)
        assert {name: route["verdict"] for name, route in found.items()} == {
            "/me": "leak",
            "/a": "stale",
            "/pieces": "stale",
            "/constant": "possible",
            "/large": "possible",  # content of this length is not compared
        }
        assert {name: route["responses"] for name, route in found.items()} == {
            "/me": 3,
            "/a": 6,
            "/pieces": 6,
            "/constant": 3,
            "/large": 3,
        }
        assert found["/a"]["asked_by"] == {"xhr": 6, "fetch": 0, "page": 0, "other": 0}
        assert found["/a"]["lifetime_s"] == 600
        assert "script_request: true" in found["/a"]["rule"]
        assert SECRET not in json.dumps(await running.ask("/api/audit"))
        assert not any(SECRET in line for line in running.log.read)
        for flags in ((), ("--json",), ("--rules",)):
            code, printed = await output("audit", "--admin", f"http://127.0.0.1:{running.admin[1]}", *flags)
            assert (code, SECRET in printed, "/pieces" in printed) == (0, False, True)
        await running.out.matching(r"GET /me\b", 3)
        logged = "\n".join(running.out.read)
        assert f"token={SECRET}" in logged, "the target is logged as it was sent"
        assert CREDENTIAL not in logged
        assert CONTENT not in logged


async def cut_short(running: Sidecar, target: str) -> None:
    """A client that leaves before the answer is whole: it is no evidence."""
    peer = await connect(running.listen)
    await peer.send(f"GET {target} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
    await peer.read_until(b"begun")
    peer.close()


async def test_new_rule_turns_a_route_to_protected_with_the_next_answer(upstream, no_rules):
    async with sidecar(upstream, no_rules) as running:
        await get_all(running, "/a", fields=(XHR,))
        assert (await routes(running, 2))["/a"]["verdict"] == "stale"
        no_rules.write_text(RULES % "first")
        await running.log.matching("reloaded|rules ")

        async def is_protected() -> bool:
            return b"no-store" in (await running.get("/a", XHR)).head

        await until(is_protected)

        async def is_told() -> bool:
            return (await routes(running, 3))["/a"]["verdict"] == "protected"

        await until(is_told)
        route = (await routes(running, 3))["/a"]
        in_force = (await running.ask("/api/rules"))["digest"]
        assert f"before rules {in_force}, the content changed" in route["why"]
        assert route["rule"] is None


async def reset(running: Sidecar) -> None:
    peer = await connect(running.admin)
    await peer.send(b"POST /api/audit/reset HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in await peer.reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_reset_begins_anew(upstream, no_rules, workers):
    async with sidecar(upstream, no_rules, "--workers", workers) as running:
        await get_all(running, "/a")
        await routes(running, 2)
        await reset(running)
        assert await running.ask("/api/audit") == {
            "since": None,
            "responses": 0,
            "routes_dropped": 0,
            "notes": [],
            "routes": [],
            "rules": "",
        }


async def test_evidence_of_a_worker_that_dies_is_kept(upstream, no_rules):
    async with sidecar(upstream, no_rules, "--workers", "2") as running:
        await get_all(running, "/a", times=6)
        before = await routes(running, 6)
        workers = set(running.worker_pids())
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        await running.log.matching("worker . ended", 2)
        assert await routes(running, 6) == before
        await until(lambda: has_new_workers(running, workers))
        await get_all(running, "/a", times=2)
        assert (await routes(running, 8))["/a"]["stale"] == 1
        await reset(running)
        assert (await running.ask("/api/audit"))["responses"] == 0


async def test_evidence_is_handed_over_again_and_again_while_there_is_more(monkeypatch):
    """Without being asked: whoever is killed cannot be asked any more."""
    monkeypatch.setattr(audit_reports, "HAND_OVER_S", 0)
    sent: asyncio.Queue[Report] = asyncio.Queue()
    collector = Collector(b"secret")
    desk = audit_reports.Desk(collector, SimpleNamespace(send=sent.put_nowait))
    telling = asyncio.get_running_loop().create_task(desk.keep_telling())
    for number in (1, 2):
        collector.evidence.add(answer(number, "/a"))
        report = await asyncio.wait_for(sent.get(), 10)
        assert (Evidence.from_frames(report.audit).responses, report.resets) == (number, 0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert sent.empty(), "nothing new, nothing sent"
    desk.reset()
    collector.evidence.add(answer(3, "/a"))
    report = await asyncio.wait_for(sent.get(), 10)
    assert (Evidence.from_frames(report.audit).responses, report.resets) == (1, 1)
    telling.cancel()


async def test_audit_that_is_off_watches_nothing(upstream, no_rules):
    async with sidecar(upstream, no_rules, "--audit", "off") as running:
        await get_all(running, "/a")
        assert await running.ask("/api/audit") == {"error": "the audit is off: serve --audit on"}


async def test_commands_ask_the_running_proxy(upstream, no_rules, tmp_path):
    async with sidecar(upstream, no_rules) as running:
        await get_all(running, "/a", fields=(XHR,))
        await routes(running, 2)
        admin = f"http://127.0.0.1:{running.admin[1]}"
        code, out = await output("audit", "--admin", admin, "--fail-on", "stale")
        assert code == 1
        assert re.search(r"^STALE +GET /a +2 +600 s +private, shared +xhr 2$", out, re.MULTILINE)
        new = tmp_path / "new" / "rules.yaml"
        code, _ = await output("init", str(new), "--admin", admin)
        assert (code, "name: audit-a" in new.read_text()) == (0, True)
        proposed = tmp_path / "proposed.yaml"
        proposed.write_text((await output("audit", "--admin", admin, "--rules"))[1])
        code, out = await output("check", str(proposed), "--against", str(no_rules), "--admin", admin)
        assert code == 0
        assert "GET /a (X-Requested-With: XMLHttpRequest): no rule -> rule audit-a, policy strict" in out


async def output(*words: str) -> tuple[int, str]:
    async with command(*words) as running:
        code = await running.ended()
        await asyncio.sleep(0)
        return code, "\n".join([*running.out.read, *running.log.read])
