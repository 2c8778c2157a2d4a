"""`serve` with a heartbeat in its event loop, which tells how long anything held the loop.

Run as `python -m tests.admin.heartbeat FILE serve ...`. On its end it writes the beats into FILE as JSON: of
each its time (CLOCK_MONOTONIC, the same in all processes), the seconds since the one before, and the CPU seconds
that the loop's thread spent in them. The former counts what a request has to wait, and also what
a busy machine adds; the latter counts the work alone, but not what the thread waits for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.001


@dataclass(frozen=True)
class Beat:
    """See above."""

    at_s: float
    held_s: float
    cpu_s: float


class Heart:
    """Beats until the process ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._numbers = array("d")  # nothing for the garbage collector to look at
        self._last = time.monotonic(), time.thread_time()
        self._beat()

    def _beat(self) -> None:
        now_s, cpu_s = time.monotonic(), time.thread_time()
        last_s, last_cpu_s = self._last
        self._numbers.extend((now_s, now_s - last_s, cpu_s - last_cpu_s))
        self._last = now_s, cpu_s
        self._loop.call_later(EVERY_S, self._beat)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self._numbers.tolist()))


def read(path: Path) -> list[Beat]:
    """Read what a process wrote."""
    numbers = iter(json.loads(path.read_text()))
    return [Beat(*row) for row in zip(numbers, numbers, numbers, strict=True)]


def main() -> None:
    """Run the command line with a heart in it."""
    from proxy import cli
    from proxy.service.serve import Service

    path = Path(sys.argv.pop(1))
    run = Service.run

    async def run_with_heart(service: Service, *args: object) -> int:
        heart = Heart(asyncio.get_running_loop())
        try:
            return await run(service, *args)
        finally:
            heart.write(path)

    Service.run = run_with_heart
    cli.main()


if __name__ == "__main__":
    main()
