"""Where every exchange ends, and every refusal: it is counted and logged here, and nowhere else."""

from __future__ import annotations

import logging
import time

from proxy.gateway.access_log import AccessLog
from proxy.gateway.failures import CLIENT_LEFT, INTERNAL, Failure
from proxy.gateway.record import Record
from proxy.gateway.watch import Watch
from proxy.message.methods import METHODS
from proxy.stats import Stats

_log = logging.getLogger(__name__)


class Recorder:
    """Takes the records of a worker.

    Args:
        stats: counted into.
        access_log: written to.
    """

    __slots__ = ("access_log", "stats")

    def __init__(self, stats: Stats, access_log: AccessLog) -> None:
        self.stats = stats
        self.access_log = access_log

    def finish(self, record: Record, failure: Failure | None) -> None:
        """Take the record of an exchange that ends now."""
        record.duration_s = time.perf_counter() - record.started_s
        record.ended_s = time.time()
        if failure is not None:
            record.failure = failure
        stats = self.stats
        stats.in_flight -= 1
        if record.is_tunnel:
            stats.tunnels -= 1
        self.add(record)

    def add(self, record: Record) -> None:
        """Count and log what has ended: an exchange, or a request that was refused before it became one."""
        stats = self.stats
        stats.request_bytes_total += record.bytes_in
        stats.response_bytes_total += record.bytes_out
        stats.count_exchange(
            record.rule,
            record.method if record.method in METHODS else _method_label(record),
            record.status,
            # A tunnel may be open for days: among durations, its answer counts.
            record.upstream_s if record.is_tunnel else record.duration_s,
        )
        failure = record.failure
        if failure is not None:
            if failure is CLIENT_LEFT:
                stats.client_aborts_total += 1
            else:
                stats.count_failure(failure.source, failure.reason)
        record.let_go()
        try:
            self.access_log.write(record)
        except Exception:  # noqa: BLE001 - a line that cannot be written must not break the exchange that it is about
            self.own_mistake("writing the access log")

    def own_mistake(self, what: str, error: BaseException | None = None, *, is_told: bool = True) -> None:
        """Count a mistake of this program that ends no exchange, and log it.

        Args:
            what: has failed.
            error: `None` for the exception that is being handled.
            is_told: whether to log it.
        """
        if is_told:
            _log.error("%s failed", what, exc_info=error or True)
        self.stats.count_failure(INTERNAL.source, INTERNAL.reason)

    def flush(self) -> None:
        """Write what is pending; on each tick."""
        self.access_log.flush()
        self.stats.access_log_lines_dropped_total = self.access_log.dropped


class WatchedRecorder(Recorder):
    """Tells a watch of each record, too.

    Args:
        recorder: whose place it takes.
        watch: told.
    """

    __slots__ = ("_watch",)

    def __init__(self, recorder: Recorder, watch: Watch) -> None:
        super().__init__(recorder.stats, recorder.access_log)
        self._watch = watch

    def add(self, record: Record) -> None:
        try:
            self._watch.take(record)
        except Exception:  # noqa: BLE001 - whoever watches must not break what is watched
            self.own_mistake("watching an exchange")
        super().add(record)


def _method_label(record: Record) -> str:
    """Label a method of no standard: clients make methods up, not labels. Of a refused request it may be none."""
    return "" if record.request is None else "other"
