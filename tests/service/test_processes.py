"""The contract of `--workers`: they share the port, one supervisor keeps them alive, and they end together.

A worker that dies takes its own requests with it and nothing else; connections that come meanwhile wait for
the next one. What was counted stays counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.service.serving import (
    LIMIT_S,
    RULES,
    XHR,
    App,
    Sidecar,
    connect,
    get,
    is_running,
    request,
    sidecar,
)
from tests.wire.harness import Answer, Peer

MANY = (
    30  # connections: that the kernel gives all of them to one of two workers happens once in 2 ** 29 times
)
DROPPED = "nocache_proxy_access_log_lines_dropped_total"
COUNTERS = re.compile(r"\w+_(?:total|bucket|count|sum)(?:\{|$)")


@pytest.fixture
async def app():
    async with App().running() as running:
        yield running


@pytest.fixture
def rules(tmp_path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES % "first")
    return path


@asynccontextmanager
async def two_workers(app: App, rules: Path, *flags: str):
    async with sidecar(app.url, rules, "--workers", "2", *flags) as running:
        await running.until(lambda: both_listen(running))
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


# Serving


async def test_both_workers_serve(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", *XHR)
        assert all(answer.status == 200 and answer.is_protected for answer in await responses(peers))
        assert set(owners(running, peers)) == set(running.worker_pids())
        assert len(running.worker_pids()) == 2
        assert running.process.pid not in running.worker_pids()


async def test_what_they_count_is_added_up(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", *XHR)
        await responses(peers)
        samples = await running.metrics()
        assert sum_of(samples, "nocache_proxy_requests_total") == MANY
        assert samples["nocache_proxy_client_connections_open"] == MANY
        assert (await running.ask("/api/rules"))["rules"][0]["hits"] == MANY


async def test_workers_share_a_unix_socket_too(app, rules, tmp_path):
    listen = tmp_path / "s"
    async with sidecar(app.url, rules, "--workers", "2", "--listen", f"unix:{listen}") as running:
        first, second = running.worker_pids()
        for victim in (first, second):
            os.kill(victim, signal.SIGKILL)
            await running.log.matching("worker . ended")
            assert (await running.get("/", *XHR)).is_protected
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    assert not listen.exists()


async def test_new_rules_reach_all_of_them_and_none_goes_back(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", *XHR)
        assert {answer.field("X-Rules")[0] for answer in await responses(peers)} == {b"first"}
        rules.write_text(RULES % "second")
        running.send(signal.SIGHUP)
        seen: list[list[bytes]] = []
        async with asyncio.timeout(LIMIT_S):
            while not seen or set(seen[-1]) != {b"second"}:
                seen.append([answer.field("X-Rules")[0] for answer in await ask_each(peers, *XHR)])
        for versions in zip(*seen, strict=True):
            assert list(versions) == sorted(versions), "first before second, on each connection"


async def test_rules_that_cannot_be_used_reach_none_of_them(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", *XHR)
        await responses(peers)
        rules.write_text("version: 1\nrules: [{nam: a}]\n")
        running.send(signal.SIGHUP)
        await running.log.matching("rules not reloaded")
        answers = await ask_each(peers, *XHR)
        assert {answer.field("X-Rules")[0] for answer in answers} == {b"first"}
        assert all(is_running(pid) for pid in running.worker_pids())


async def test_worker_that_comes_later_has_the_rules_of_now(app, rules):
    async with two_workers(app, rules) as running:
        rules.write_text(RULES % "second")
        await running.log.matching("rules reloaded")
        await replace_all(running)
        peers = await open_many(running, "/", *XHR)
        assert {answer.field("X-Rules")[0] for answer in await responses(peers)} == {b"second"}


async def test_each_opens_the_access_log_again_on_a_signal(app, rules, tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    flags = ("--access-log", "json", "--access-log-file", str(path))
    async with two_workers(app, rules, *flags) as running:
        peers = await open_many(running)
        await responses(peers)
        await running.until(lambda: has_lines(path, MANY))
        path.rename(old)
        running.send(signal.SIGUSR1)
        await running.until(lambda: nobody_holds(running, old))
        await ask_each(peers)
        await running.until(lambda: has_lines(path, MANY))
        assert await has_lines(old, MANY)


async def has_lines(path: Path, count: int) -> bool:
    return path.exists() and len(path.read_bytes().splitlines()) == count


async def nobody_holds(running: Sidecar, path: Path) -> bool:
    return not any(str(path) in open_files(pid) for pid in running.worker_pids())


def sum_of(samples: dict[str, float], name: str) -> float:
    return sum(value for sample, value in samples.items() if sample.partition("{")[0] == name)


# A worker that dies


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
        peers = await open_many(running, "/", *XHR)
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
        await running.until(lambda: all_gone([victim]))
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
            answers = await asyncio.gather(*(running.get("/", *XHR) for _ in range(8)))
            assert {(answer.status, answer.is_protected) for answer in answers} == {(200, True)}


async def test_when_all_are_dead_it_is_not_ready_until_one_is_back(app, rules):
    async with two_workers(app, rules) as running:
        await replace_all(running)
        assert (await running.get("/")).status == 200
        await running.until(running.is_ready)


async def replace_all(running: Sidecar) -> None:
    """Kill both workers; wait until readiness has said so, or until both have followers."""
    before = set(running.worker_pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await running.log.matching("worker . ended", 2)
    await running.until(lambda: has_new_workers(running, before))


async def has_new_workers(running: Sidecar, before: set[int]) -> bool:
    now = set(running.worker_pids())
    return len(now) == 2 and not now & before


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
        peers = await open_many(running, "/", *XHR)
        await responses(peers)
        scrapes = [await running.metrics()]
        held_by = owners(running, peers)
        os.kill(held_by[0], signal.SIGKILL)
        while not any("worker" in line and "ended" in line for line in running.log.read):
            scrapes.append(await running.metrics())
        alive = [peer for peer, pid in zip(peers, held_by, strict=True) if pid != held_by[0]]
        scrapes.append(await running.metrics())
        assert scrapes[-1]["nocache_proxy_client_connections_open"] == len(alive)
        await ask_each(alive, *XHR)
        for _ in range(10):
            await running.get("/", *XHR)
        scrapes.append(await running.metrics())
        assert sum_of(scrapes[-1], "nocache_proxy_requests_total") == MANY + len(alive) + 10
        for earlier, later in pairwise(scrapes):
            fallen = {name for name in earlier if COUNTERS.match(name) and later[name] < earlier[name]}
            assert not fallen


async def test_lines_that_their_access_logs_gave_up_are_added_up_and_stay_counted(app, rules):
    """A disk that is full: each worker keeps 4 MiB for it, of 18 MB here."""
    async with two_workers(app, rules, "--access-log", "json", "--access-log-file", "/dev/full") as running:
        peers = await open_many(running, "/" + "a" * 60_000)
        await responses(peers)
        for _ in range(9):
            await asyncio.gather(*(peer.send(request("/" + "a" * 60_000)) for peer in peers))
            await responses(peers)
        kept = 2 * (4 << 20) // 60_000
        await running.until(lambda: has_dropped(running, 10 * MANY - kept))
        before = (await running.metrics())[DROPPED]
        assert before < 10 * MANY
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
        await running.until(lambda: has_new_workers(running, {first}))
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


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_finish_what_they_have_begun(app, rules, number):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/slow")
        for peer in peers:
            await peer.read_until(b"we")
        workers = set(owners(running, peers))
        assert len(workers) == 2
        running.send(number)
        await running.log.matching("draining")
        await running.until(lambda: is_refused(running))
        app.finish.set()
        for peer in peers:
            assert (await peer.read_to_end()) == Answer(b"ll", "closed")
        assert await running.ended() == 0
        await running.log.matching('"message": "drained"')
        assert not any(is_running(pid) for pid in workers)


async def test_exchanges_that_outlast_the_drain_are_broken_off_and_counted_over_all(app, rules):
    async with two_workers(app, rules, "--drain-timeout", "0.2") as running:
        peers = await open_many(running, "/slow")
        for peer in peers:
            await peer.read_until(b"we")
        running.send(signal.SIGTERM)
        assert {(await peer.read_to_end()).end for peer in peers} == {"reset"}
        assert await running.ended() == 0
        await running.log.matching(f"{MANY} exchanges did not end in time and were broken off")


async def test_second_signal_ends_all_at_once(app, rules):
    async with two_workers(app, rules, "--drain-timeout", "600") as running:
        peers = await open_many(running, "/slow")
        for peer in peers:
            await peer.read_until(b"we")
        workers = running.worker_pids()
        running.send(signal.SIGTERM)
        await running.log.matching("draining")
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
        await running.until(lambda: all_gone(workers))
        for peer in peers:
            assert b"ll" not in (await peer.read_to_end()).data


async def test_workers_whose_supervisor_is_killed_finish_and_end_by_themselves(app, rules):
    """Nobody would restart or stop them; the port is free for the next sidecar."""
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/slow")
        for peer in peers:
            await peer.read_until(b"we")
        workers = running.worker_pids()
        running.send(signal.SIGKILL)
        assert await running.ended() == -signal.SIGKILL
        await running.until(lambda: is_refused(running))
        app.finish.set()
        for peer in peers:
            assert (await peer.read_to_end()) == Answer(b"ll", "closed")
        await running.until(lambda: all_gone(workers))
        address = "{}:{}".format(*running.listen)
        async with sidecar(app.url, rules, "--listen", address) as next_one:
            assert (await get(next_one.listen, "/")).status == 200


async def is_refused(running: Sidecar) -> bool:
    try:
        await connect(running.listen)
    except ConnectionError:
        return True
    return False


async def all_gone(pids: list[int]) -> bool:
    return not any(map(is_running, pids))
