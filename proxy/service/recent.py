"""The latest exchanges of all workers while somebody watches, for `/api/recent`."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from proxy.gateway.watch import KEPT, WATCHED_S


class RecentExchanges:
    """Keeps what the workers hand over, and forgets it when nobody has asked for a while.

    Args:
        gather: asks every worker for the exchanges that have ended since the last call, each as a JSON object that
            begins with its time. A worker that is asked goes on watching.
    """

    def __init__(self, gather: Callable[[], Awaitable[Sequence[bytes]]]) -> None:
        self._gather = gather
        self._turn = asyncio.Lock()
        self._rows: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        # Ids go on rising after a restart, so that a page that is still open sees the new exchanges.
        self._last_id = time.time_ns() // 1000
        self._since = ""
        self._ending: asyncio.TimerHandle | None = None

    async def after(self, number: int) -> bytes:
        """Return as JSON the exchanges with an id above `number`, in the order of their arrival; 0 for all that are kept."""
        async with self._turn:
            if self._ending is not None:
                self._ending.cancel()
            self._ending = asyncio.get_running_loop().call_later(WATCHED_S, self.forget)
            self._since = self._since or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            for row in sorted(await self._gather()):
                self._last_id += 1
                self._rows.append((self._last_id, b'{"id":%d,' % self._last_id + row[1:]))
            rows = [row for row_id, row in self._rows if row_id > number]
        head = json.dumps({"watching_since": self._since})[:-1].encode()
        return head + b', "requests": [' + b",\n".join(rows) + b"]}"

    def forget(self) -> None:
        """Drop all that is kept."""
        self._rows.clear()
        self._since = ""
