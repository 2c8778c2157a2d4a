"""The workers that serve: one gateway in this process, or several processes (`supervisor`)."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from proxy.gateway.access_log import open_access_log
from proxy.gateway.server import Gateway
from proxy.service.audit_reports import SECRET_BYTES, Frames, collector_for, frames_of
from proxy.service.sockets import bind
from proxy.stats import Snapshot, Stats

if TYPE_CHECKING:
    from proxy.service.rules_source import RulesSource
    from proxy.settings import Address, Settings


class Fleet(Protocol):
    """The workers, one or many."""

    @property
    def address(self) -> Address:
        """The address that they listen on; for port 0, with the port that the kernel chose."""

    async def start(self) -> None:
        """Begin to serve."""

    def use_rules(self) -> None:
        """Apply the rules that the source holds to the next requests."""

    async def snapshot(self) -> Snapshot:
        """Return the sum of the workers' counters."""

    async def probe_upstream(self) -> str | None:
        """Connect to the app once; return `None`, or why it cannot be reached."""

    def reasons_not_ready(self) -> list[str]:
        """Why the workers cannot serve; empty when they can."""

    def pids(self) -> list[int]:
        """Process ids of the workers."""

    def reopen_log(self) -> None:
        """Reopen the access log file."""

    async def audit(self) -> Sequence[Frames]:
        """Return the evidence of each worker's audit; none where the audit is off."""

    def reset_audit(self) -> None:
        """Make every worker's audit forget its evidence."""

    async def recent(self) -> Sequence[bytes]:
        """Return the exchanges that have ended since the last call, as JSON; see `proxy.gateway.watch`."""

    async def drain(self, timeout_s: float) -> int:
        """Let exchanges in flight finish; return how many had to be aborted."""

    def close(self) -> None:
        """Stop at once. Also required after `drain`."""


class InProcess:
    """One gateway in this process.

    Raises:
        ListenError: the address cannot be listened on.
    """

    def __init__(self, settings: Settings, source: RulesSource) -> None:
        self._settings = settings
        self._source = source
        self._listening = bind(settings.listen)
        self._stats = Stats()
        self._access_log = open_access_log(settings)
        self._gateway: Gateway
        self._collector = collector_for(settings, secrets.token_bytes(SECRET_BYTES))

    @property
    def address(self) -> Address:
        return self._listening.address

    async def start(self) -> None:
        ruleset = self._source.rules_file.ruleset
        loop = asyncio.get_running_loop()
        self._gateway = Gateway(
            self._settings, ruleset, self._stats, self._access_log, loop, audit=self._collector
        )
        await self._gateway.start(self._listening.sockets)

    def use_rules(self) -> None:
        self._gateway.ruleset = self._source.rules_file.ruleset

    async def snapshot(self) -> Snapshot:
        return self._stats.snapshot()

    async def probe_upstream(self) -> str | None:
        return await self._gateway.probe_upstream()

    def reasons_not_ready(self) -> list[str]:
        return []

    def pids(self) -> list[int]:
        return [os.getpid()]

    def reopen_log(self) -> None:
        self._access_log.reopen()

    async def audit(self) -> Sequence[Frames]:
        return [] if self._collector is None else [await frames_of(self._collector)]

    def reset_audit(self) -> None:
        if self._collector is not None:
            self._collector.reset()

    async def recent(self) -> Sequence[bytes]:
        return await self._gateway.watch()

    async def drain(self, timeout_s: float) -> int:
        return await self._gateway.drain(timeout_s)

    def close(self) -> None:
        self._gateway.close()
        self._access_log.close()
        self._listening.remove_file()
