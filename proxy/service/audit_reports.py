"""Makes the reports of the audit in a process of their own, so that requests do not wait for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from proxy.audit.collector import Collector
from proxy.audit.report_call import ReportError, encode
from proxy.service.channel import Channel, Report
from proxy.service.runtime import start_process
from proxy.settings import Settings

_log = logging.getLogger(__name__)

SECRET_BYTES: Final = 32

HAND_OVER_S: Final = 5.0
"""How often a worker hands over its evidence; a worker that dies loses what is newer. 500 routes take 20 ms, in 51 steps."""

_FRESH_S: Final = 1.0  # whoever asks again within this time gets the same report
_MAX_REPORT_S: Final = 60.0

Frames = Sequence[bytes]
"""What `Evidence.frames` writes."""


def collector_for(settings: Settings, secret: bytes) -> Collector | None:
    """Return a worker's collector; `None` if the audit is off, or there is no admin listener to read it from."""
    return None if settings.audit == "off" or settings.admin is None else Collector(secret)


class AuditReports:
    """Makes reports, one at a time.

    Args:
        gather: asks every worker for its evidence.
    """

    def __init__(self, gather: Callable[[], Awaitable[Sequence[Frames]]]) -> None:
        self._gather = gather
        self._turn = asyncio.Lock()
        self._latest = b""
        self._made_at_s = float("-inf")

    async def report(self) -> bytes:
        """Return the report as JSON.

        Raises:
            ReportError: it could not be made.
        """
        async with self._turn:
            if time.monotonic() - self._made_at_s > _FRESH_S:
                self._latest = await _make(await self._gather())
                self._made_at_s = time.monotonic()
            return self._latest

    def forget(self) -> None:
        """Drop the latest report, because its evidence was reset."""
        self._made_at_s = float("-inf")


class Desk:
    """Tells the supervisor what a worker's audit has found: when asked, and every few seconds in case the worker dies.

    Args:
        collector: `None` where the audit is off.
        channel: to the supervisor.
    """

    def __init__(self, collector: Collector | None, channel: Channel) -> None:
        self._collector = collector
        self._channel = channel
        self._resets = 0
        self._told = 0

    async def tell(self) -> None:
        """Send the evidence."""
        resets = self._resets
        frames: Frames = ()
        if self._collector is not None:
            self._told = self._collector.evidence.responses
            frames = await frames_of(self._collector)
        self._channel.send(Report("audit", audit=frames, resets=resets))

    def reset(self) -> None:
        """Forget all evidence."""
        self._resets += 1
        self._told = 0
        if self._collector is not None:
            self._collector.reset()

    async def keep_telling(self) -> None:
        """Send the evidence again and again, whenever there is more."""
        while True:
            await asyncio.sleep(HAND_OVER_S)
            try:
                if self._collector is not None and self._collector.evidence.responses != self._told:
                    await self.tell()
            except Exception:  # noqa: BLE001 - a mistake of this program; the next attempt may succeed
                _log.exception("handing over what the audit has seen failed")


async def frames_of(collector: Collector) -> Frames:
    """Write a worker's evidence down; requests are served between the frames."""
    frames = []
    for frame in collector.evidence.frames():
        frames.append(frame)
        await asyncio.sleep(0)
    return frames


async def _make(workers: Sequence[Frames]) -> bytes:
    pipe = asyncio.subprocess.PIPE
    process = await start_process("proxy.audit.reporting", stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(_MAX_REPORT_S):
            report, errors = await process.communicate(encode(workers))
    except TimeoutError as error:
        raise ReportError(f"no report after {_MAX_REPORT_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise ReportError(f"the report failed: {''.join(last) or process.returncode}")
    return report
