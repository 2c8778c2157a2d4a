"""Where every exchange ends, and every refusal: it is counted and logged here, and nowhere else."""

from __future__ import annotations

from proxy.gateway.access_log import AccessLog
from proxy.gateway.failures import CLIENT_LEFT
from proxy.gateway.record import Record
from proxy.message.methods import METHODS
from proxy.stats import Stats


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

    def add(self, record: Record) -> None:
        """Count and log an exchange, or a refusal, that has ended."""
        stats = self.stats
        stats.request_bytes_total += record.bytes_in
        stats.response_bytes_total += record.bytes_out
        stats.count_exchange(
            record.rule,
            _method_label(record),
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
        record.request = record.response = None
        self.access_log.write(record)

    def flush(self) -> None:
        """Write what is pending; on each tick."""
        self.access_log.flush()
        self.stats.access_log_lines_dropped_total = self.access_log.dropped


def _method_label(record: Record) -> str:
    """Any client may make up methods, and none may make up labels; of a refused request, it need not be a method."""
    if record.method in METHODS:
        return record.method
    return "" if record.request is None else "other"
