"""What all connections of a worker share. It knows none of them, so each of them may know it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from proxy.audit.collector import Collector
from proxy.gateway.audit_feed import AuditFeed
from proxy.gateway.clock import Clock
from proxy.gateway.peers import Endpoints, Peers
from proxy.gateway.read_buffer import Inbox
from proxy.gateway.recorder import Recorder, WatchedRecorder
from proxy.gateway.watch import Watch
from proxy.gateway.write_batch import Outbox
from proxy.message.request import KeepingTable, RequestTable
from proxy.message.response import ResponseTable
from proxy.rules.engine.matching import Ruleset
from proxy.settings import Settings
from proxy.stats import Stats

_MAX_TOLD: Final = 64  # names in the log; clients make them up

_log = logging.getLogger(__name__)


class Context:
    """Settings, clock, rules in force, and where things are counted.

    Args:
        settings: of this process.
        ruleset: in force for the first request.
        recorder: takes what has ended.
        clock: gives time and date.
        loop: the event loop that all connections run on.
        collector: of the audit; `None` while it is off.

    Attributes:
        audit: told what the app answers; `None` while it is off.
        stats: counted into.
        requests: reads request heads for the rules in force.
        responses: reads the heads of responses.
        outbox: writes what connections send, turn by turn.
        inbox: the buffer that large content is read into.
        own_endpoints: of connections to the app; a client's with the same ends is one of them.
        is_draining: no further request is taken from any connection.
        watch: told what has ended, while somebody watches; see `use_watch`.
        client_rest_s, upstream_rest_s: how long a connection may rest between requests; 0 for not at all.
    """

    __slots__ = (
        "_ruleset",
        "_told_dropped",
        "audit",
        "client_rest_s",
        "clock",
        "inbox",
        "is_draining",
        "loop",
        "outbox",
        "own_endpoints",
        "peers",
        "recorder",
        "requests",
        "responses",
        "settings",
        "stats",
        "upstream_rest_s",
        "watch",
    )

    def __init__(
        self,
        settings: Settings,
        ruleset: Ruleset,
        recorder: Recorder,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        collector: Collector | None = None,
    ) -> None:
        self.settings = settings
        self._told_dropped: set[bytes] = set()
        self.recorder = recorder
        self.watch: Watch | None = None
        self.stats: Stats = recorder.stats
        self.clock = clock
        self.loop = loop
        self.audit = None if collector is None else AuditFeed(collector, ruleset, loop, recorder)
        self._ruleset = ruleset
        self.requests = self._request_table()
        self.responses = ResponseTable()
        self.peers = Peers(settings.trusted_proxies, says_distrusted=settings.forwarded == "append")
        self.outbox = Outbox(loop)
        self.inbox = Inbox()
        self.own_endpoints: set[Endpoints] = set()
        self.is_draining = False
        self.client_rest_s = settings.keepalive_timeout_s
        self.upstream_rest_s = settings.upstream_keepalive_timeout_s

    def drain(self) -> None:
        """Take no further request from any connection."""
        self.is_draining = True
        self.client_rest_s = self.upstream_rest_s = 0.0

    @property
    def ruleset(self) -> Ruleset:
        """The rules in force; what is assigned applies from the next request head on."""
        return self._ruleset

    @ruleset.setter
    def ruleset(self, ruleset: Ruleset) -> None:
        before = self._ruleset
        self._ruleset = ruleset
        try:
            self._read_anew()
            if self.audit is not None:
                self.audit.use_rules(ruleset)
        except Exception:  # half of it must not stay: rules read fields by their places in the table
            self._ruleset = before
            self._read_anew()
            raise

    def use_watch(self, watch: Watch | None) -> None:
        """Tell a watch what ends from now on; `None` for nobody. Requests are read in another way meanwhile."""
        recorder = self.recorder
        self.recorder = (
            Recorder(recorder.stats, recorder.access_log)
            if watch is None
            else WatchedRecorder(recorder, watch)
        )
        self.watch = watch
        self._read_anew()

    def _read_anew(self) -> None:
        """Read requests in another way, after what the one before has counted is told."""
        self.tell_dropped()
        self.requests = self._request_table()

    def _request_table(self) -> RequestTable:
        settings = self.settings
        kind = RequestTable if self.watch is None else KeepingTable
        return kind(
            self._ruleset.field_names,
            settings.underscore_fields,
            settings.upstream.authority.encode(),
            settings.forwarded,
            settings.via,
            makes_ids=settings.request_id == "on",
        )

    def tell_dropped(self) -> None:
        """Count request fields that were dropped for the `_` in their names, and log each name once; on each tick."""
        dropped = self.requests.dropped
        if not dropped:
            return
        self.stats.underscore_fields_dropped_total += sum(dropped.values())
        for name in dropped:
            if name not in self._told_dropped and len(self._told_dropped) < _MAX_TOLD:
                self._told_dropped.add(name)
                _log.warning(
                    "dropped the request field %s: an app may take its _ for - (--underscore-fields)",
                    name.decode("ascii") or "(more names)",
                )
        dropped.clear()
