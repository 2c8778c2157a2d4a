"""The supervisor in the test's own process: a mistake of its own costs a worker, never the place of one."""

from __future__ import annotations

import asyncio
import re

import pytest

from proxy.service.rules_source import RulesSource
from proxy.service.supervisor import Processes
from proxy.settings import Address, Settings, Upstream
from tests.support.waiting import LIMIT_S


@pytest.mark.parametrize("where", ["_live", "_take"])
async def test_mistake_of_its_own_is_logged_and_the_place_is_filled_again(
    where, tmp_path, monkeypatch, caplog
):
    """It ended the task that keeps the place: one worker fewer until the end, without a line in the log."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\nrules: []\n")
    settings = Settings(
        listen=Address("127.0.0.1"),
        upstream=Upstream.parse("http://127.0.0.1:1"),
        rules=rules,
        workers=2,
        access_log="off",
    )
    failures = [RuntimeError("broken")]
    original = getattr(Processes, where)

    def broken_once(*arguments):
        if failures:
            raise failures.pop()
        return original(*arguments)

    monkeypatch.setattr(Processes, where, broken_once)
    processes = Processes(settings, RulesSource(rules))
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
