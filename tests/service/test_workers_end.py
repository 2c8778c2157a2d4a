"""The contract of `--workers` at the end: all finish what they have begun, and end together."""

from __future__ import annotations

import signal

import pytest

from tests.service.workers import (
    MANY,
    all_gone,
    is_refused,
    open_many,
    owners,
    two_workers,
)
from tests.support.peer import Answer
from tests.support.serving import get, is_running, sidecar
from tests.support.waiting import until


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
        await until(lambda: is_refused(running))
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
        await until(lambda: all_gone(workers))
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
        await until(lambda: is_refused(running))
        app.finish.set()
        for peer in peers:
            assert (await peer.read_to_end()) == Answer(b"ll", "closed")
        await until(lambda: all_gone(workers))
        address = "{}:{}".format(*running.listen)
        async with sidecar(app.url, rules, "--listen", address) as next_one:
            assert (await get(next_one.listen, "/")).status == 200
