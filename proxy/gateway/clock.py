"""One clock a worker: coarse time for deadlines, the `Date` of the current second, and a tick to sweep by.

A timer for each event of each exchange would cost more than the exchange's own bookkeeping; a number
compared on a tick costs an assignment (gateway time-outs need no better than a quarter of a second).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

TICK_S: Final = 0.25


class Clock:
    """Ticks while it is started.

    Attributes:
        now_s: monotonic seconds at the last tick.
        date: the IMF-fixdate of the last tick.
    """

    __slots__ = ("_handle", "_loop", "_on_tick", "date", "now_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_tick: Callable[[], None]) -> None:
        self._loop = loop
        self._on_tick = on_tick
        self._handle: asyncio.TimerHandle | None = None
        self._read()

    def start(self) -> None:
        """Begin to tick."""
        self._read()
        self._handle = self._loop.call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """End it; `now_s` stands still."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self._handle = self._loop.call_later(TICK_S, self._tick)
        self._read()
        self._on_tick()

    def _read(self) -> None:
        self.now_s = time.monotonic()
        self.date = formatdate(usegmt=True).encode()
