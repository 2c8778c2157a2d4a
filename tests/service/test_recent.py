"""`/api/recent` of a running sidecar: what passes is shown whatever worker it passes, and no secret ever is."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.gateway.watch import KEPT, WATCHED_S
from proxy.service import recent
from proxy.service.recent import RecentExchanges
from tests.service.workers import MANY, open_many, owners, replace_all, responses, two_workers
from tests.support.peer import XHR, request
from tests.support.serving import Sidecar, connect, sidecar
from tests.support.waiting import until

SECRET = "s3cr3tZq9Zq9"


async def shown(running: Sidecar, count: int, after: int = 0) -> list[dict]:
    """The exchanges after an id, once there are so many."""
    rows: list[dict] = []

    async def has_come() -> bool:
        nonlocal rows
        rows = (await running.ask(f"/api/recent?after={after}"))["requests"]
        return len(rows) >= count

    await until(has_come)
    return rows


async def watched(running: Sidecar) -> int:
    """Have every worker watch, and return the last id: a worker watches from the first time on that it is asked."""
    last = 0

    async def all_watch() -> bool:
        nonlocal last
        known = (await running.ask("/api/recent"))["requests"]
        peers = await open_many(running, "/known")
        await responses(peers)
        rows = (await running.ask(f"/api/recent?after={known[-1]['id'] if known else 0}"))["requests"]
        last = rows[-1]["id"] if rows else 0
        return len(rows) == MANY

    await until(all_watch)
    return last


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_exchange_is_shown_with_fields_before_and_after(app, rules, workers):
    async with sidecar(app.url, rules, "--workers", workers) as running:
        await running.get("/before")
        last = await watched(running)
        await running.get(f"/a?page=2&token={SECRET}", XHR, f"Cookie: session={SECRET}")
        await running.get("/b")
        first, second = await shown(running, 2, last)
        assert "/before" not in [row["target"] for row in await shown(running, 2)]
        assert [row["target"] for row in (first, second)] == ["/a?page=2&token=(hidden)", "/b"]
        assert (first["rule"], first["policy"], first["status"]) == ("ajax", "first", 200)
        assert second["rule"] is None
        assert "Cookie: (hidden)" in first["request"]["received"]
        assert "X-Forwarded-For: 127.0.0.1" in first["request"]["forwarded"]
        assert "Cache-Control: max-age=60" in first["response"]["received"]
        assert "X-Rules: first" in first["response"]["sent"]
        assert first["ts"] <= second["ts"]
        assert (await running.ask(f"/api/recent?after={first['id']}"))["requests"] == [second]
        assert (await running.ask(f"/api/recent?after={second['id']}"))["requests"] == []


async def test_two_workers_are_merged_by_time(app, rules):
    async with two_workers(app, rules) as running:
        last = await watched(running)
        peers = await open_many(running, "/a")
        await responses(peers)
        assert len(set(owners(running, peers))) == 2
        for number, peer in enumerate(peers):
            await peer.send(request(f"/{number}"))
            await responses([peer])
        rows = await shown(running, 2 * MANY, last)
        assert len(rows) == 2 * MANY
        in_turn = [row["target"] for row in rows if row["target"] != "/a"]
        assert in_turn == [f"/{number}" for number in range(MANY)]
        assert [row["ts"] for row in rows] == sorted(row["ts"] for row in rows)
        assert len({row["id"] for row in rows}) == 2 * MANY


async def test_worker_that_dies_takes_only_its_own_along(app, rules):
    async with two_workers(app, rules) as running:
        last = await watched(running)
        await replace_all(running)
        await until(running.is_ready)
        now = await watched(running)
        await running.get("/after")
        assert [row["target"] for row in await shown(running, 1, now)] == ["/after"]
        assert {row["target"] for row in await shown(running, 2)} == {"/known", "/after"}
        assert now > last


async def test_worker_that_hangs_holds_nobody_up_for_long(app, rules):
    async with two_workers(app, rules) as running:
        await running.ask("/api/recent")
        hanging = running.worker_pids()[0]
        os.kill(hanging, signal.SIGSTOP)
        try:
            assert "requests" in await running.ask("/api/recent")
        finally:
            os.kill(hanging, signal.SIGCONT)


NAMES = st.sampled_from(
    [
        "Cookie",
        "cookie",
        "Authorization",
        "Proxy-Authorization",
        "X-CSRF-Token",
        "X-Api-Key",
        "X-Auth-Request",
    ]
)
PARAMETERS = st.sampled_from(["token", "access_token", "code", "password", "JSESSIONID", "api_key"])
PADDING = st.text("abc/?&;,=:\"' ", max_size=20)


async def test_secrets_are_never_shown_whatever_holds_them(app, rules):
    """Many requests in one sidecar: marked secrets in fields, targets and referrers."""
    async with sidecar(app.url, rules) as running:
        await running.ask("/api/recent")
        sent: list[list[str]] = []

        @settings(max_examples=100, database=None, suppress_health_check=list(HealthCheck))
        @given(name=NAMES, parameter=PARAMETERS, before=PADDING, after=PADDING)
        def draw(name, parameter, before, after):
            path = f"/a?x={before.replace(' ', '+')}&{parameter}={SECRET}"
            sent.append(
                [
                    path,
                    f"{name}: {before}{SECRET}{after}",
                    f"Referer: http://app/b;{parameter}={SECRET}",
                    f"X-A: {before}",
                ]
            )

        draw()
        peer = await connect(running.listen)
        for target, *fields in sent:
            await peer.send(request(target, *fields))
            assert (await peer.read_response()).status == 200
        rows = await shown(running, min(KEPT, len(sent)))
        text = json.dumps(rows)
        assert len(rows) == min(KEPT, len(sent))
        assert SECRET not in text
        assert text.count("(hidden)") >= 6 * len(rows)


class TestStore:
    """Time is the test's: what would be called later is called by hand."""

    def store(self, *handed_over: list[bytes]) -> RecentExchanges:
        answers = list(handed_over)

        async def gather() -> list[bytes]:
            return answers.pop(0) if answers else []

        return RecentExchanges(gather)

    async def rows(self, store: RecentExchanges, after: int = 0) -> list[dict]:
        return json.loads(await store.after(after))["requests"]

    async def test_only_the_latest_are_kept_by_their_time(self):
        late = [b'{"ts":"1%04d"}' % number for number in range(150)]
        early = [b'{"ts":"0%04d"}' % number for number in range(150)]
        rows = await self.rows(self.store(late + early))
        assert len(rows) == KEPT
        assert [row["ts"] for row in rows] == sorted(row["ts"] for row in rows)
        assert rows[-1]["ts"] == "10149"

    async def test_ids_rise_so_that_only_what_is_new_is_asked_for(self):
        store = self.store([b'{"ts":"2"}'], [b'{"ts":"1"}'])
        (first,) = await self.rows(store)
        (second,) = await self.rows(store, first["id"])
        assert second["ts"] == "1"  # it came later, however early it ended
        assert second["id"] > first["id"]

    async def test_ids_go_on_after_a_restart(self):
        (before,) = await self.rows(self.store([b'{"ts":"1"}']))
        (after,) = await self.rows(self.store([b'{"ts":"2"}']))
        assert after["id"] > before["id"]

    async def test_all_is_dropped_so_long_after_the_last_call(self, monkeypatch):
        monkeypatch.setattr(recent, "WATCHED_S", 0.02)
        store = self.store([b'{"ts":"1"}'])
        assert len(await self.rows(store)) == 1
        since = json.loads(await store.after(0))["watching_since"]
        assert since
        async with asyncio.timeout(5):
            while store._rows:
                await asyncio.sleep(0.005)
        assert store._since == ""
        assert await self.rows(store) == []

    async def test_each_call_puts_the_end_off(self):
        loop = asyncio.get_running_loop()
        store = self.store()
        await store.after(0)
        first = store._ending
        await store.after(0)
        assert first.cancelled()
        assert store._ending.when() - loop.time() == pytest.approx(WATCHED_S, abs=1)
        store._ending.cancel()
