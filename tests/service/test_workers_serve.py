"""The contract of `--workers` while all live: they share the port, the rules, the log and the figures."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.service.workers import (
    MANY,
    ask_each,
    open_files,
    open_many,
    owners,
    replace_all,
    responses,
    sum_of,
    two_workers,
)
from tests.support.peer import XHR
from tests.support.serving import RULES, Sidecar, is_running, sidecar
from tests.support.waiting import LIMIT_S, until


async def test_both_workers_serve(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", XHR)
        assert all(answer.status == 200 and answer.is_protected for answer in await responses(peers))
        assert set(owners(running, peers)) == set(running.worker_pids())
        assert len(running.worker_pids()) == 2
        assert running.process.pid not in running.worker_pids()


async def test_what_they_count_is_added_up(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", XHR)
        await responses(peers)
        samples = await running.metrics()
        assert sum_of(samples, "nocache_proxy_requests_total") == MANY
        assert samples["nocache_proxy_client_connections_open"] == MANY
        assert (await running.ask("/api/rules"))["rules"][0]["hits"] == MANY


async def test_workers_run_the_code_of_their_supervisor_whatever_lies_in_the_current_directory(
    app, rules, tmp_path
):
    """An app's own directory may well have a `proxy` in it."""
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "__init__.py").write_text("raise SystemExit('somebody else')")
    async with sidecar(app.url, rules, "--workers", "2", cwd=tmp_path) as running:
        assert (await running.get("/")).status == 200


async def test_workers_share_a_unix_socket_too(app, rules, tmp_path):
    listen = tmp_path / "s"
    async with sidecar(app.url, rules, "--workers", "2", "--listen", f"unix:{listen}") as running:
        first, second = running.worker_pids()
        for victim in (first, second):
            os.kill(victim, signal.SIGKILL)
            await running.log.matching("worker . ended")
            assert (await running.get("/", XHR)).is_protected
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    assert not listen.exists()


async def test_new_rules_reach_all_of_them_and_none_goes_back(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", XHR)
        assert {answer.field("X-Rules")[0] for answer in await responses(peers)} == {b"first"}
        rules.write_text(RULES % "second")
        running.send(signal.SIGHUP)
        seen: list[list[bytes]] = []
        async with asyncio.timeout(LIMIT_S):
            while not seen or set(seen[-1]) != {b"second"}:
                seen.append([answer.field("X-Rules")[0] for answer in await ask_each(peers, XHR)])
        for versions in zip(*seen, strict=True):
            assert list(versions) == sorted(versions), "first before second, on each connection"


async def test_rules_that_cannot_be_used_reach_none_of_them(app, rules):
    async with two_workers(app, rules) as running:
        peers = await open_many(running, "/", XHR)
        await responses(peers)
        rules.write_text("version: 1\nrules: [{nam: a}]\n")
        running.send(signal.SIGHUP)
        await running.log.matching("rules not reloaded")
        answers = await ask_each(peers, XHR)
        assert {answer.field("X-Rules")[0] for answer in answers} == {b"first"}
        assert all(is_running(pid) for pid in running.worker_pids())


async def test_worker_that_comes_later_has_the_rules_of_now(app, rules):
    async with two_workers(app, rules) as running:
        rules.write_text(RULES % "second")
        await running.log.matching("rules reloaded")
        await replace_all(running)
        peers = await open_many(running, "/", XHR)
        assert {answer.field("X-Rules")[0] for answer in await responses(peers)} == {b"second"}


async def test_each_opens_the_access_log_again_on_a_signal(app, rules, tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    flags = ("--access-log", "json", "--access-log-file", str(path))
    async with two_workers(app, rules, *flags) as running:
        peers = await open_many(running)
        await responses(peers)
        await until(lambda: has_lines(path, MANY))
        path.rename(old)
        running.send(signal.SIGUSR1)
        await until(lambda: nobody_holds(running, old))
        await ask_each(peers)
        await until(lambda: has_lines(path, MANY))
        assert await has_lines(old, MANY)


async def has_lines(path: Path, count: int) -> bool:
    return path.exists() and len(path.read_bytes().splitlines()) == count


async def nobody_holds(running: Sidecar, path: Path) -> bool:
    return not any(str(path) in open_files(pid) for pid in running.worker_pids())
