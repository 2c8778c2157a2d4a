"""A service for the admin listener to stand before: what `AdminState` asks for, held in a test's hands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from proxy.admin.app import Admin
from proxy.admin.listener import AdminServer
from proxy.rules.loading import loader
from proxy.rules.loading.loader import RulesFile
from proxy.service.rules_source import RulesStatus
from proxy.settings import Settings, Upstream
from proxy.stats import Snapshot, Stats, merge

RULES = """\
version: 1
rules:
  - {name: downloads, because: they must be saved, match: {paths: ["/file/**"]}, policy: pass}
  - {name: tried-out, match: {paths: ["/api/**"]}, mode: observe}
  - {name: ajax, match: {x_requested_with: XMLHttpRequest}, policy: classic}
"""
PATHS = ("/", "/page.css", "/page.js", "/livez", "/readyz", "/metrics", "/api/rules", "/api/config")
EXPLAIN = "/api/explain?target=/api/items&header=X-Requested-With:%20XMLHttpRequest"


@dataclass
class Service:
    """Implements `AdminState`.

    Attributes:
        workers: what each of them counted.
    """

    rules_file: RulesFile = field(default_factory=lambda: loader.loads(RULES.encode(), "rules.yaml"))
    settings: Settings = field(default_factory=lambda: Settings(upstream=Upstream.parse("http://app:5000")))
    rules_status: RulesStatus = field(default_factory=lambda: RulesStatus("rules.yaml", "0123456789ab", 1e9))
    workers: list[Stats] = field(default_factory=lambda: [Stats()])
    reasons: list[str] = field(default_factory=list)
    started_at_s: float = 0.0
    report: bytes | Exception = b"{}"
    resets: int = 0
    asked_after: list[int] = field(default_factory=list)

    async def snapshot(self) -> Snapshot:
        return merge([stats.snapshot() for stats in self.workers])

    async def audit_report(self) -> bytes:
        if isinstance(self.report, Exception):
            raise self.report
        return self.report

    async def recent(self, after: int) -> bytes:
        self.asked_after.append(after)
        return b'{"watching_since": "2026-11-26T12:00:00Z", "requests": []}'

    def reset_audit(self) -> None:
        self.resets += 1

    async def reasons_not_ready(self) -> list[str]:
        return self.reasons

    def pids(self) -> list[int]:
        return [os.getpid()]


class AdminTestServer(BaseTestServer):
    """The listener as `serve` runs it."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    async def _make_runner(self, **_: object) -> web.ServerRunner:
        return web.ServerRunner(AdminServer(Admin(self._service)), handle_signals=False, shutdown_timeout=1)


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """What has risen between two scrapes, `process_*` left out."""
    risen = {name: round(value - before.get(name, 0), 9) for name, value in after.items()}
    return {name: value for name, value in risen.items() if value and not name.startswith("process_")}
