"""What a worker counts: plain integers on the hot path, added up over workers, rendered elsewhere on a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

# Not a tuple to mypyc, which would make it anew for each exchange.
DURATION_BOUNDS_S: Final[Sequence[float]] = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of the histogram's buckets, in seconds; one more bucket has no bound."""

Snapshot = dict[str, Any]
"""Numbers, lists of numbers and dictionaries of numbers, by the names that `Stats` has for them."""

# Request bodies of hours and a rule for each: no label comes from a client, so nothing here grows without bound.
_COUNTERS: Final = (
    "in_flight",
    "client_connections",
    "client_connections_total",
    "upstream_connections",
    "upstream_connections_total",
    "upstream_reused_total",
    "request_bytes_total",
    "response_bytes_total",
    "client_aborts_total",
    "retries_total",
    "upstream_cache_hits_total",
    "decision_failures_total",
    "tunnels",
    "tunnels_total",
    "access_log_lines_dropped_total",
)
_TABLES: Final = (
    "client_errors",
    "upstream_errors",
    "proxy_errors",
    "fields_changed",
    "conditionals_stripped",
    "observed",
)


class Stats:
    """Counters of one worker.

    Attributes:
        requests: finished exchanges by (rule or `""`, known method, status // 100).
        client_errors, upstream_errors, proxy_errors: failures by reason; whose they are is the failure's `source`.
        fields_changed, conditionals_stripped, observed: by rule.
        in_flight, client_connections, upstream_connections, tunnels: gauges; what ends in `_total` only rises.
    """

    __slots__ = (*_COUNTERS, *_TABLES, "duration_buckets", "duration_sum_s", "requests")

    in_flight: int
    client_connections: int
    client_connections_total: int
    upstream_connections: int
    upstream_connections_total: int
    upstream_reused_total: int
    request_bytes_total: int
    response_bytes_total: int
    client_aborts_total: int
    retries_total: int
    upstream_cache_hits_total: int
    decision_failures_total: int
    tunnels: int
    tunnels_total: int
    access_log_lines_dropped_total: int
    client_errors: Counter[str]
    upstream_errors: Counter[str]
    proxy_errors: Counter[str]
    fields_changed: Counter[str]
    conditionals_stripped: Counter[str]
    observed: Counter[str]

    def __init__(self) -> None:
        for name in _COUNTERS:
            setattr(self, name, 0)
        for name in _TABLES:
            setattr(self, name, Counter())
        self.requests: dict[tuple[str, str, int], int] = {}
        self.duration_buckets = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.duration_sum_s = 0.0

    def count_exchange(self, rule: str, method: str, status: int, duration_s: float) -> None:
        """Count a finished exchange."""
        key = (rule, method, status // 100)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.duration_buckets[bisect_left(DURATION_BOUNDS_S, duration_s)] += 1
        self.duration_sum_s += duration_s

    def count_failure(self, source: Literal["client", "upstream", "proxy"], reason: str) -> None:
        """Count a failure against whom it is to be blamed on."""
        if source == "client":
            self.client_errors[reason] += 1
        elif source == "upstream":
            self.upstream_errors[reason] += 1
        else:
            self.proxy_errors[reason] += 1

    def snapshot(self) -> Snapshot:
        """Copy everything, at once: no request is served meanwhile, so nothing is done for each of its rows."""
        return {
            **{name: getattr(self, name) for name in _COUNTERS},
            **{name: dict(getattr(self, name)) for name in _TABLES},
            "requests": dict(self.requests),
            "duration_buckets": list(self.duration_buckets),
            "duration_sum_s": self.duration_sum_s,
        }


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Add up snapshots of several workers: the only one as it is, and of none a snapshot of zeros."""
    total: Snapshot | None = None
    for snapshot in snapshots:
        total = snapshot if total is None else {name: _add(total[name], snapshot[name]) for name in total}
    return Stats().snapshot() if total is None else total


def _add(left: Any, right: Any) -> Any:  # noqa: ANN401 - the three shapes of a Snapshot
    if isinstance(left, dict):
        return {key: left.get(key, 0) + right.get(key, 0) for key in left | right}
    if isinstance(left, list):
        return [a + b for a, b in zip(left, right, strict=True)]
    return left + right
