"""The contract of `--workers` when one dies: it takes its own requests with it and nothing else.

Connections that come meanwhile wait for the next one. What was counted stays counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from itertools import pairwise

from tests.service.workers import (
    MANY,
    all_gone,
    ask_each,
    has_new_workers,
    is_refused,
    open_many,
    owners,
    replace_all,
    responses,
    sum_of,
    two_workers,
)
from tests.support.peer import XHR, Peer, request
from tests.support.serving import Sidecar, connect
from tests.support.waiting import until

DROPPED = "nocache_proxy_access_log_lines_dropped_total"
COUNTERS = re.compile(r"\w+_(?:total|bucket|count|sum)(?:\{|$)")


async def test_killed_worker_takes_only_its_own_requests_with_it(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/slow")
        for peer in peers:
            await peer.read_until(b"we")
        held_by = owners(running, peers)
        victim = held_by[0]
        os.kill(victim, signal.SIGKILL)
        await running.log.matching("worker . ended .SIGKILL.; the next one starts in 0s")
        app.finish.set()
        for peer, pid in zip(peers, held_by, strict=True):
            if pid == victim:
                assert (await peer.read_to_end()).data == b""
            else:
                assert await peer.read_exactly(2) == b"ll"
        assert 0 < held_by.count(victim) < MANY


async def test_connections_that_come_while_a_worker_is_dead_are_served_by_the_next(app, rules):
    """They wait in its listening socket, which the supervisor holds."""
    async with two_workers(app, rules) as running:
        before = running.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        peers = await open_many(running, "/", XHR)
        assert all(answer.status == 200 and answer.is_protected for answer in await responses(peers))
        after = running.worker_pids()
        assert set(owners(running, peers)) == set(after)
        assert set(before) & set(after) == {before[1]}


async def test_nobody_else_loses_a_request_while_a_worker_is_away(app, rules):
    """Not those whose connections others hold, nor who comes meanwhile. `-s` shows for how long it is away."""
    async with two_workers(app, rules) as running:
        peers = await open_many(running)
        await responses(peers)
        held_by = owners(running, peers)
        victim = held_by[0]
        is_back = asyncio.Event()
        going_on = [
            asyncio.create_task(ask_until(is_back, peer))
            for peer, pid in zip(peers, held_by, strict=True)
            if pid != victim
        ]
        began_s = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        await until(lambda: all_gone([victim]))
        answers = await responses(await open_many(running))
        away_s = time.monotonic() - began_s
        is_back.set()
        answered = await asyncio.gather(*going_on)
    print(
        f"\nkilled: back after {away_s:.2f} s; its own {held_by.count(victim)} connections were lost, none of "
        f"{sum(answered)} requests on {len(answered)} connections of the other, none of {MANY} that came"
    )
    assert {answer.status for answer in answers} == {200}
    assert min(answered) > 0


async def ask_until(is_over: asyncio.Event, peer: Peer) -> int:
    """Ask again and again; how often there was an answer."""
    answered = 0
    while not is_over.is_set():
        (answer,) = await ask_each([peer])
        assert answer.content == b"well"
        answered += 1
    return answered


async def test_it_stays_ready_and_nobody_is_refused_however_often_workers_die(app, rules):
    async with two_workers(app, rules) as running:
        for number in range(4):
            pids = running.worker_pids()
            os.kill(pids[number % len(pids)], signal.SIGKILL)
            assert await running.is_ready()
            answers = await asyncio.gather(*(running.get("/", XHR) for _ in range(8)))
            assert {(answer.status, answer.is_protected) for answer in answers} == {(200, True)}


async def test_when_all_are_dead_it_is_not_ready_until_one_is_back(app, rules):
    async with two_workers(app, rules) as running:
        await replace_all(running)
        assert (await running.get("/")).status == 200
        await until(running.is_ready)


async def test_worker_that_is_told_to_end_finishes_its_requests_and_is_replaced(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/slow")
        for peer in peers:
            await peer.read_until(b"we")
        told = running.worker_pids()[0]
        os.kill(told, signal.SIGTERM)
        app.finish.set()
        for peer in peers:
            assert await peer.read_exactly(2) == b"ll"
        await running.log.matching("worker . ended .exit code 0.; the next one starts in")
        answers = await asyncio.gather(*(running.get("/") for _ in range(8)))
        assert {answer.status for answer in answers} == {200}


async def test_counters_never_fall_and_gauges_forget_the_dead(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", XHR)
        await responses(peers)
        scrapes = [await running.metrics()]
        held_by = owners(running, peers)
        os.kill(held_by[0], signal.SIGKILL)
        while not any("worker" in line and "ended" in line for line in running.log.read):
            scrapes.append(await running.metrics())
        alive = [peer for peer, pid in zip(peers, held_by, strict=True) if pid != held_by[0]]
        scrapes.append(await running.metrics())
        assert scrapes[-1]["nocache_proxy_client_connections_open"] == len(alive)
        await ask_each(alive, XHR)
        for _ in range(10):
            await running.get("/", XHR)
        scrapes.append(await running.metrics())
        assert sum_of(scrapes[-1], "nocache_proxy_requests_total") == MANY + len(alive) + 10
        for earlier, later in pairwise(scrapes):
            fallen = {name for name in earlier if COUNTERS.match(name) and later[name] < earlier[name]}
            assert not fallen


async def test_lines_that_their_access_logs_gave_up_are_added_up_and_stay_counted(app, rules):
    """A disk that is full: each worker keeps 4 MiB for it, of 14 MB here."""
    rounds, at_once, least_line_bytes = 20, 10, 2200
    asked = rounds * at_once * MANY
    async with two_workers(app, rules, "--access-log", "json", "--access-log-file", "/dev/full") as running:
        peers = [await connect(running.listen) for _ in range(MANY)]
        for _ in range(rounds):
            for peer in peers:
                await peer.send(request("/?" + "a" * 2100) * at_once)
            for _ in range(at_once):
                await responses(peers)
        kept = 2 * (4 << 20) // least_line_bytes
        await until(lambda: has_dropped(running, asked - kept))
        before = (await running.metrics())[DROPPED]
        assert before < asked
        os.kill(running.worker_pids()[0], signal.SIGKILL)
        await running.log.matching("worker . ended")
        assert (await running.metrics())[DROPPED] == before


async def has_dropped(running: Sidecar, count: int) -> bool:
    return (await running.metrics())[DROPPED] >= count


async def test_worker_that_does_not_answer_holds_up_no_scrape(app, rules):
    """Its last answer counts."""
    async with two_workers(app, rules) as running:
        peers = await open_many(running)
        await responses(peers)
        before = await running.metrics()
        stopped = running.worker_pids()[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            samples = await running.metrics()
            assert sum_of(samples, "nocache_proxy_requests_total") == MANY
            assert (
                samples["nocache_proxy_client_connections_open"]
                == before["nocache_proxy_client_connections_open"]
            )
        finally:
            os.kill(stopped, signal.SIGCONT)


# Workers that cannot live


async def test_pauses_grow_while_workers_die_at_once_and_it_recovers_when_the_cause_is_gone(
    app, rules, tmp_path
):
    """Else a worker that cannot start would take a core, and fill the log, for ever."""
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    logs.mkdir()
    flags = ("--access-log", "json", "--access-log-file", str(logs / "access.log"))
    async with two_workers(app, rules, *flags) as running:
        logs.rename(elsewhere)
        first, second = running.worker_pids()
        os.kill(first, signal.SIGKILL)
        lines = await running.log.matching("worker 0 ended|worker 1 ended", 4)
        pauses = [float(re.search(r"starts in ([\d.]+)s", line)[1]) for line in lines]
        assert pauses == [0, 0.5, 1, 2]
        assert "SIGKILL" in lines[0]
        assert all("exit code 1" in line for line in lines[1:])
        assert await running.is_ready()
        assert running.worker_pids()[0] == second
        elsewhere.rename(logs)
        await until(lambda: has_new_workers(running, {first}))
        answers = await asyncio.gather(*(running.get("/") for _ in range(MANY)))
        assert {answer.status for answer in answers} == {200}


async def test_worker_that_cannot_start_gets_no_connections(app, rules, tmp_path):
    """They would wait for it, perhaps for ever: the other serves them all."""
    logs = tmp_path / "logs"
    logs.mkdir()
    flags = ("--access-log", "json", "--access-log-file", str(logs / "access.log"))
    async with two_workers(app, rules, *flags) as running:
        logs.rename(tmp_path / "elsewhere")
        first, second = running.worker_pids()
        os.kill(first, signal.SIGKILL)
        await running.log.matching("worker . ended .exit code 1.")
        peers = await open_many(running)
        assert {answer.status for answer in await responses(peers)} == {200}
        assert set(owners(running, peers)) == {second}
        os.kill(second, signal.SIGKILL)
        await running.log.matching("worker 0 ended .exit code 1.")
        await running.log.matching("worker 1 ended .exit code 1.")
        assert await is_refused(running)
        assert (await running.ask("/readyz"))["reasons"] == ["no worker is serving"]


async def test_end_does_not_wait_for_the_pause_of_a_worker_that_cannot_live(app, rules, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    flags = ("--access-log", "json", "--access-log-file", str(logs / "access.log"))
    async with two_workers(app, rules, *flags) as running:
        logs.rename(tmp_path / "elsewhere")
        os.kill(running.worker_pids()[0], signal.SIGKILL)
        await running.log.matching("worker . ended .exit code 1.; the next one starts in 1s")
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
        await running.log.matching('"message": "drained"')
