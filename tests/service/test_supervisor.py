"""The supervisor in the test's own process: a mistake of its own costs a worker, never the place of one."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from proxy.service import supervisor
from proxy.service.channel import Report
from proxy.service.rules_source import RulesSource
from proxy.service.supervisor import Processes
from proxy.settings import Address, Settings, Upstream
from proxy.stats import Stats
from tests.support.waiting import LIMIT_S


def two_processes(directory: Path) -> Processes:
    """They are not started."""
    rules = directory / "rules.yaml"
    rules.write_text("version: 1\nrules: []\n")
    settings = Settings(
        listen=Address("127.0.0.1"),
        upstream=Upstream.parse("http://127.0.0.1:1"),
        rules=rules,
        workers=2,
        access_log="off",
    )
    return Processes(settings, RulesSource(rules))


@pytest.mark.parametrize("where", ["_live", "_take"])
async def test_mistake_of_its_own_is_logged_and_the_place_is_filled_again(
    where, tmp_path, monkeypatch, caplog
):
    """It ended the task that keeps the place: one worker fewer until the end, without a line in the log."""
    failures = [RuntimeError("broken")]
    original = getattr(Processes, where)

    def broken_once(*arguments):
        if failures:
            raise failures.pop()
        return original(*arguments)

    monkeypatch.setattr(Processes, where, broken_once)
    processes = two_processes(tmp_path)
    try:
        async with asyncio.timeout(LIMIT_S):
            await processes.start()
            while sum(worker.is_serving for worker in processes._workers) < 2:
                await asyncio.sleep(0.01)
            assert await processes.drain(1) == 0
    finally:
        processes.close()
    told = [record for record in caplog.records if record.exc_info]
    assert len(told) == 1
    assert re.fullmatch("supervising worker [01] failed", told[0].getMessage())


class Channel:
    """Of a worker: keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, frame: object) -> None:
        self.sent.append(frame)


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """Two workers that serve and answer nothing by themselves."""
    monkeypatch.setattr(supervisor, "_ANSWER_S", 0.01)
    processes = two_processes(tmp_path)
    for worker in processes._workers:
        worker.channel = Channel()
        worker.is_serving = True
    yield processes
    processes.close()


async def test_worker_that_begins_while_somebody_watches_is_told_at_once(processes):
    """Not with the next question, seconds later."""
    worker = processes._workers[0]
    processes._take(Report("serving"), worker, worker.channel)
    assert "recent" not in worker.channel.sent
    await processes.recent()
    worker.channel.sent.clear()
    processes._take(Report("serving"), worker, worker.channel)
    assert "recent" in worker.channel.sent


async def test_recent_exchanges_are_those_of_workers_that_answer_in_time(processes):
    """What comes too late is not kept: by then nobody may be watching."""
    first, second = processes._workers
    asking = asyncio.ensure_future(processes.recent())
    await asyncio.sleep(0)
    processes._take(Report("recent", recent=[b"in time"]), first, first.channel)
    assert await asking == [b"in time"]
    processes._take(Report("recent", recent=[b"too late"]), second, second.channel)
    assert second.recent == ()
    assert await processes.recent() == []


async def test_counters_that_come_late_are_still_the_latest_that_are_known(processes):
    first, _ = processes._workers
    counted = Stats()
    counted.client_aborts_total = 7
    await processes.snapshot()
    processes._take(Report("snapshot", snapshot=counted.snapshot()), first, first.channel)
    assert (await processes.snapshot())["client_aborts_total"] == 7
