"""`serve`: runs the workers, the rules watcher and the admin listener, and handles signals."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import time
from typing import TYPE_CHECKING, Final

import uvloop

from proxy import __version__
from proxy.gateway.access_log import open_access_log
from proxy.service import descriptors, runtime
from proxy.service.audit_reports import AuditReports
from proxy.service.fleet import Fleet, InProcess
from proxy.service.recent import RecentExchanges
from proxy.service.rules_source import RulesSource, RulesStatus
from proxy.service.rules_watcher import RulesWatcher
from proxy.service.sockets import Listening, bind, reaches
from proxy.settings import SettingsError

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.rules.loading.loader import RulesFile
    from proxy.settings import Address, Settings
    from proxy.stats import Snapshot

_log = logging.getLogger(__name__)

_PROBE_FRESH_S: Final = 1.0  # readiness checks within this time share one probe of the app


def serve(settings: Settings) -> int:
    """Run the sidecar until a signal ends it; return the exit code.

    Raises:
        RulesError: the rules file is invalid; nothing was bound.
        SettingsError: a file that the settings name cannot be used.
        ListenError: an address cannot be listened on.
    """
    settings = descriptors.fit_connections(settings, descriptors.raise_limit())
    source = RulesSource(settings.rules)
    _check(settings)
    admin = bind(settings.admin) if settings.admin is not None else None
    try:
        fleet = _fleet(settings, source)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Service(settings, source, fleet).run(admin))
    finally:
        if admin is not None:
            admin.remove_file()


class Service:
    """The running service; implements `proxy.admin.state.AdminState`.

    Attributes:
        settings: of this process.
        started_at_s: seconds since the epoch.
    """

    def __init__(self, settings: Settings, source: RulesSource, fleet: Fleet) -> None:
        self.settings = settings
        self.started_at_s = time.time()
        self._source = source
        self._fleet = fleet
        self._audit = AuditReports(fleet.audit)
        self._recent = RecentExchanges(fleet.recent)
        self._ending = asyncio.Event()
        self._ending_at_once = asyncio.Event()
        self._watcher = RulesWatcher(source, fleet.use_rules)
        self._probe: tuple[float, str | None] = (float("-inf"), None)

    # For the admin listener

    @property
    def rules_file(self) -> RulesFile:
        """The rules in force."""
        return self._source.rules_file

    @property
    def rules_status(self) -> RulesStatus:
        """The result of the latest reload."""
        return self._source.status

    async def snapshot(self) -> Snapshot:
        """Return the sum of the workers' counters."""
        return await self._fleet.snapshot()

    async def audit_report(self) -> bytes:
        """Return what the audit has found, as JSON.

        Raises:
            ReportError: it could not be made.
        """
        return await self._audit.report()

    def reset_audit(self) -> None:
        """Forget what the audit has seen."""
        self._fleet.reset_audit()
        self._audit.forget()

    async def recent(self, after: int) -> bytes:
        """Return the exchanges with ids above a number, as JSON; they are kept while this is called again and again."""
        return await self._recent.after(after)

    async def reasons_not_ready(self) -> list[str]:
        """Return why this instance should get no traffic; empty when it is ready."""
        if self._ending.is_set():
            return ["draining"]
        probed_at_s, reason = self._probe
        if time.monotonic() - probed_at_s > _PROBE_FRESH_S:
            reason = await self._fleet.probe_upstream()
            self._probe = time.monotonic(), reason
        return [*self._fleet.reasons_not_ready(), *([f"upstream: {reason}"] if reason else [])]

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._fleet.pids()

    # Running

    async def run(self, admin_listening: Listening | None) -> int:
        """Serve until a signal arrives; return the exit code."""
        loop = asyncio.get_running_loop()
        runtime.share_fairly()
        runtime.keep_buffers()
        for number, act in (
            (signal.SIGTERM, self._end),
            (signal.SIGINT, self._end),
            (signal.SIGHUP, self._watcher.reload),
            (signal.SIGUSR1, self._fleet.reopen_log),
        ):
            loop.add_signal_handler(number, act)
        await self._fleet.start()
        admin = None if admin_listening is None else await self._start_admin(admin_listening)
        runtime.settle()
        self._announce(None if admin_listening is None else admin_listening.address)
        watching = loop.create_task(self._watcher.run())
        await self._ending.wait()
        watching.cancel()
        await self._drain()
        self._fleet.close()
        if admin is not None:
            await admin.cleanup()
        return 0

    def _announce(self, admin: Address | None) -> None:
        rules_file = self.rules_file
        _log.info(
            "nocache-proxy %s: listening on %s for %s, rules %s (%d, digest %s), admin on %s, workers %d",
            __version__,
            self._fleet.address,
            self.settings.upstream,
            rules_file.source,
            len(rules_file.rules),
            rules_file.digest,
            admin or "off",
            self.settings.workers,
        )

    def _end(self) -> None:
        if self._ending.is_set():
            _log.warning("second signal: ending at once")
            self._ending_at_once.set()
        self._ending.set()

    async def _drain(self) -> None:
        _log.info("draining, at most %gs", self.settings.drain_delay_s + self.settings.drain_timeout_s)
        draining = asyncio.ensure_future(self._drain_in_time())
        at_once = asyncio.ensure_future(self._ending_at_once.wait())
        await asyncio.wait({draining, at_once}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not draining.done():
            draining.cancel()
        elif aborted := draining.result():
            _log.warning("%d exchanges did not end in time and were broken off", aborted)
        else:
            _log.info("drained")

    async def _drain_in_time(self) -> int:
        await asyncio.sleep(self.settings.drain_delay_s)
        return await self._fleet.drain(self.settings.drain_timeout_s)

    async def _start_admin(self, listening: Listening) -> web.ServerRunner:
        from proxy.admin import listener  # noqa: PLC0415 - not needed with `--admin off`

        return await listener.start(self, listening.sockets)


def _check(settings: Settings) -> None:
    """Check at the start what would fail later in each worker or request."""
    if reaches(settings.upstream, settings.listen):
        raise SettingsError(
            f"--upstream {settings.upstream} is --listen {settings.listen} itself: requests would loop"
        )
    try:
        open_access_log(settings).close()
    except OSError as error:
        raise SettingsError(f"--access-log-file {settings.access_log_file}: {error.strerror}") from error
    if settings.upstream_ca is not None:
        try:
            ssl.create_default_context(cafile=settings.upstream_ca)
        except OSError as error:
            raise SettingsError(f"--upstream-ca {settings.upstream_ca}: {error.strerror or error}") from error


def _fleet(settings: Settings, source: RulesSource) -> Fleet:
    if settings.workers == 1:
        return InProcess(settings, source)
    from proxy.service.supervisor import Processes  # noqa: PLC0415 - only for several workers

    return Processes(settings, source)
