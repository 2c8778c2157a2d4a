"""`serve` in one process: a gateway, the rules it watches, the admin listener, and the signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Final

import uvloop

from proxy import __version__
from proxy.gateway.access_log import AccessLog
from proxy.gateway.worker import Gateway
from proxy.service.rules_source import RulesSource, RulesStatus, mount_that_never_changes
from proxy.service.sockets import bind, remove
from proxy.stats import Snapshot, Stats, merge

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from aiohttp import web

    from proxy.rules.loading import RulesFile
    from proxy.settings import Settings

_log = logging.getLogger(__name__)

_WATCH_S: Final = 1.0
_PROBE_FRESH_S: Final = 1.0  # probes of the app are shared by readiness checks that come closer than this


def serve(settings: Settings) -> int:
    """Run the sidecar until it is told to end; return the exit code.

    Raises:
        RulesError: the rules cannot be used; nothing was listened on.
        ListenError: an address cannot be listened on.
    """
    source = RulesSource(settings.rules)
    sockets = [bind(settings.listen)]
    admin_sockets = [bind(settings.admin)] if settings.admin is not None else []
    try:
        announce(settings, source)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Service(settings, source).run(sockets, admin_sockets))
    finally:
        remove(settings.listen)


def announce(settings: Settings, source: RulesSource) -> None:
    """Say at the start what runs, and every warning about its rules."""
    from proxy.rules.lint import lint  # noqa: PLC0415 - only here

    rules_file = source.rules_file
    _log.info(
        "nocache-proxy %s: listening on %s for %s, rules %s (%d, digest %s), admin on %s, workers %d",
        __version__,
        settings.listen,
        settings.upstream,
        rules_file.source,
        len(rules_file.rules),
        rules_file.digest,
        settings.admin or "off",
        settings.workers,
    )
    for warning in lint(rules_file):
        _log.warning("%s", warning)
    if mount_that_never_changes(settings.rules):
        _log.warning(
            "%s is itself a mount (a subPath, or a single bind-mounted file) and will not show changes; "
            "mount its directory instead",
            settings.rules,
        )


class Service:
    """A gateway in this process. Implements `proxy.admin.state.AdminState`.

    Attributes:
        settings: of this process.
        started_at_s: seconds since the epoch.
        is_draining: a signal to end was received.
    """

    def __init__(self, settings: Settings, source: RulesSource) -> None:
        self.settings = settings
        self.started_at_s = time.time()
        self.is_draining = False
        self._source = source
        self._stats = Stats()
        self._access_log = AccessLog(settings.access_log, settings.access_log_file)
        self._gateway: Gateway
        self._ending = asyncio.Event()
        self._ended_at_once = asyncio.Event()
        self._probe: tuple[float, str | None] = (0.0, None)

    # What the admin listener asks

    @property
    def rules_file(self) -> RulesFile:
        """The rules in force."""
        return self._source.rules_file

    @property
    def rules_status(self) -> RulesStatus:
        """What became of the newest content of the rules file."""
        return self._source.status

    async def snapshot(self) -> Snapshot:
        """What was counted so far."""
        return merge([self._stats.snapshot()])

    async def reasons_not_ready(self) -> list[str]:
        """Why no traffic should be sent here; none when it should."""
        if self.is_draining:
            return ["draining"]
        probed_at_s, reason = self._probe
        if time.monotonic() - probed_at_s > _PROBE_FRESH_S:
            reason = await self._gateway.probe_upstream()
            self._probe = time.monotonic(), reason
        return [f"upstream: {reason}"] if reason else []

    def pids(self) -> list[int]:
        """Of the processes that serve."""
        return [os.getpid()]

    # Running

    async def run(self, sockets: Sequence[socket.socket], admin_sockets: Sequence[socket.socket]) -> int:
        """Serve until a signal ends it."""
        loop = asyncio.get_running_loop()
        self._gateway = Gateway(self.settings, self.rules_file.ruleset, self._stats, self._access_log, loop)
        for number, act in (
            (signal.SIGTERM, self._end),
            (signal.SIGINT, self._end),
            (signal.SIGHUP, self._reload_now),
            (signal.SIGUSR1, self._access_log.reopen),
        ):
            loop.add_signal_handler(number, act)
        admin = await self._start_admin(admin_sockets)
        await self._gateway.start(sockets)
        watching = loop.create_task(self._watch())
        await self._ending.wait()
        watching.cancel()
        await self._drain()
        if admin is not None:
            await admin.cleanup()
        self._access_log.close()
        return 0

    def _end(self) -> None:
        if self._ending.is_set():
            _log.warning("second signal: ending at once")
            self._ended_at_once.set()
        self.is_draining = True
        self._ending.set()

    async def _drain(self) -> None:
        settings = self.settings
        _log.info("draining: %d connections open", len(self._gateway.clients))
        draining = asyncio.ensure_future(self._drain_in_time())
        at_once = asyncio.ensure_future(self._ended_at_once.wait())
        await asyncio.wait({draining, at_once}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not draining.done():
            draining.cancel()
            self._gateway.close()
        elif aborted := draining.result():
            _log.warning("drained: %d exchanges did not end within %gs", aborted, settings.drain_timeout_s)
        else:
            _log.info("drained")

    async def _drain_in_time(self) -> int:
        await asyncio.sleep(self.settings.drain_delay_s)
        return await self._gateway.drain(self.settings.drain_timeout_s)

    async def _start_admin(self, sockets: Sequence[socket.socket]) -> web.AppRunner | None:
        if not sockets:
            return None
        from aiohttp import web  # noqa: PLC0415 - not needed with `--admin off`

        from proxy.admin.app import build_app  # noqa: PLC0415

        runner = web.AppRunner(build_app(self), access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        for listening in sockets:
            await web.SockSite(runner, listening).start()
        return runner

    # The rules

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_WATCH_S)
            data = self._source.has_changed()
            # In a thread: a thousand rules take longer to compile than a request may wait.
            if data is not None and await loop.run_in_executor(None, self._source.reload, data):
                self._gateway.ruleset = self.rules_file.ruleset

    def _reload_now(self) -> None:
        _log.info("SIGHUP: reloading the rules")
        if self._source.reload():
            self._gateway.ruleset = self.rules_file.ruleset
