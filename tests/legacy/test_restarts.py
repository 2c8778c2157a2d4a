"""No request is lost while a real app server is restarted under load."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.legacy.servers import serving
from tests.support.serving import sidecar
from tests.support.steady_load import asking
from tests.support.waiting import LIMIT_S

RULES = 'version: 1\nrules:\n  - {name: all, match: {paths: ["/**"]}, policy: strict}\n'


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(180)])])
async def test_gunicorn_that_is_reloaded_under_load_loses_no_request(tmp_path, times):
    """HUP: new workers take over, old ones close the connections that they have kept."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    with serving("gunicorn", tmp_path / "log", "tests.legacy.careless:app") as app:
        async with sidecar(f"http://127.0.0.1:{app.port}", rules) as running:
            assert isinstance(running.listen, tuple)
            async with asking(running.listen, "/late/1") as asked:
                for _ in range(times):
                    old = workers_of(app.pid)
                    await asyncio.sleep(0.5)
                    os.kill(app.pid, signal.SIGHUP)
                    async with asyncio.timeout(LIMIT_S):
                        while workers_of(app.pid) & old or not workers_of(app.pid):
                            await asyncio.sleep(0.02)
    print(f"\n{times} reloads: {asked}")
    assert asked.answered > 50 * times
    assert not asked.lost


def workers_of(pid: int) -> set[str]:
    with suppress(OSError):
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return set()
