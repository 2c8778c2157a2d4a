"""Fixtures of the wire tests."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from proxy.gateway import clock
from tests.support.gateway import Bench
from tests.support.waiting import until


class Hands:
    """The hands of the gateway's clock: time passes when a test says so, and no machine is too slow for it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    async def forward(self, b: Bench, seconds: float) -> None:
        """Let time pass, and wait until the gateway has swept by it and what it wrote is with its peers."""
        self.now_s += seconds
        await until(lambda: b.gateway.context.clock.now_s == self.now_s)
        await asyncio.sleep(0.002)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """Take the clock of the gateways made after it in hand."""
    moved = Hands()
    monkeypatch.setattr(clock, "TICK_S", 0.002)
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: moved.now_s))
    return moved
