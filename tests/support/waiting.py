"""Waiting for what must come; what does not come fails the test instead of hanging it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

LIMIT_S = 30.0  # how long anything may take before a test calls it hung


async def until(holds: Callable[[], Any]) -> None:
    """Wait for a condition: a function, or a coroutine function."""
    async with asyncio.timeout(LIMIT_S):
        while not (await held if inspect.isawaitable(held := holds()) else held):
            await asyncio.sleep(0.005)


def wait_until(holds: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition where no event loop runs."""
    deadline_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.05)
