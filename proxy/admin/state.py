"""What the admin listener needs to know of the running service, with one worker or many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.rules.loading.loader import RulesFile
    from proxy.settings import Settings
    from proxy.stats import Snapshot


class RulesStatus(Protocol):
    """The state of the rules file; see `proxy.service.rules_source.RulesStatus`."""

    @property
    def source(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def loaded_at_s(self) -> float: ...
    @property
    def last_reload_ok(self) -> bool: ...
    @property
    def last_error(self) -> str: ...
    @property
    def reloads(self) -> int: ...
    @property
    def failed_reloads(self) -> int: ...


class AdminState(Protocol):
    """The service behind the admin listener."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""

    @property
    def started_at_s(self) -> float:
        """When the service started, in seconds since the epoch."""

    @property
    def rules_file(self) -> RulesFile:
        """The rules in force."""

    @property
    def rules_status(self) -> RulesStatus:
        """The result of the latest reload."""

    async def snapshot(self) -> Snapshot:
        """Return the sum of the workers' counters, as a copy."""

    async def audit_report(self) -> bytes:
        """Return what the audit has found, as JSON.

        Raises:
            ReportError: it could not be made.
        """

    def reset_audit(self) -> None:
        """Forget what the audit has seen."""

    async def recent(self, after: int) -> bytes:
        """Return the exchanges with ids above a number, as JSON; they are kept while this is called again and again."""

    async def reasons_not_ready(self) -> list[str]:
        """Return why this instance should get no traffic; empty when it is ready."""

    def pids(self) -> list[int]:
        """Process ids of the workers, for `process_*` metrics."""
