"""What the admin listener asks of the running service, whether that is one process or a supervisor of many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.rules.loading.loader import RulesFile
    from proxy.settings import Settings
    from proxy.stats import Snapshot


class RulesStatus(Protocol):
    """What became of the rules file; see `proxy.service.rules_source.RulesStatus`."""

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
        """Of the process."""

    @property
    def started_at_s(self) -> float:
        """Seconds since the epoch."""

    @property
    def rules_file(self) -> RulesFile:
        """In force."""

    @property
    def rules_status(self) -> RulesStatus:
        """What became of its newest content."""

    async def snapshot(self) -> Snapshot:
        """What all workers counted, added up: a copy, which nothing changes any more."""

    async def reasons_not_ready(self) -> list[str]:
        """Why no traffic should be sent here; none when it should."""

    def pids(self) -> list[int]:
        """Of the processes that serve, for `process_*` metrics."""
