"""What a worker counts: plain integers on the hot path, added up over workers, rendered elsewhere on a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Metric:
    """How a number appears in `/metrics`.

    Attributes:
        name: without prefix, and without the `_total` of a counter.
        text: its help.
    """

    name: str
    text: str


# By the name of the attribute of `Stats`. Labels are bounded: none comes from a client.
GAUGES: Final = {
    "in_flight": Metric("requests_in_flight", "Requests being answered."),
    "client_connections": Metric("client_connections_open", "Client connections that are open."),
    "upstream_connections": Metric("upstream_connections_open", "Connections to the app that are open."),
    "tunnels": Metric("tunnels_open", "Upgraded connections (WebSocket and others) that are open."),
}
COUNTERS: Final = {
    "client_connections_total": Metric("client_connections", "Client connections accepted."),
    "upstream_connections_total": Metric("upstream_connections", "Connections to the app opened."),
    "upstream_reused_total": Metric(
        "upstream_connections_reused", "Requests that found an open connection to the app."
    ),
    "request_bytes_total": Metric("request_content_bytes", "Bytes of request content read from clients."),
    "response_bytes_total": Metric("response_content_bytes", "Bytes of response content sent to clients."),
    "client_aborts_total": Metric(
        "client_aborts", "Requests whose client left before the response was complete."
    ),
    "retries_total": Metric(
        "upstream_retries", "Connection attempts or requests that were tried a second time."
    ),
    "upstream_cache_hits_total": Metric(
        "upstream_cache_hits",
        "Matching responses that came with an Age: a cache between this proxy and the app answered.",
    ),
    "decision_failures_total": Metric(
        "decision_failures", "Requests on which the rules failed; they were protected by the strict policy."
    ),
    "tunnels_total": Metric("tunnels", "Connections upgraded."),
    "underscore_fields_dropped_total": Metric(
        "underscore_fields_dropped", "Request field lines dropped for the _ in their names."
    ),
    "access_log_lines_dropped_total": Metric(
        "access_log_lines_dropped", "Lines of the access log given up because its reader was too slow."
    ),
}
BY_REASON: Final = {
    "client_errors": Metric("client_errors", "Requests refused or given up because of their client."),
    "upstream_errors": Metric("upstream_errors", "Failures of the app or of the way to it."),
    "proxy_errors": Metric("proxy_errors", "Requests refused or broken off because of the proxy itself."),
}
BY_RULE: Final = {
    "fields_changed": Metric("fields_changed", "Response field lines taken away, rewritten or written."),
    "conditionals_stripped": Metric("conditionals_stripped", "Conditional request field lines taken away."),
    "observed": Metric("observed", "Responses that a rule in observe mode would have decided."),
}
_NUMBERS: Final = (*GAUGES, *COUNTERS)
_TABLES: Final = (*BY_REASON, *BY_RULE)


class Stats:
    """Counters of one worker: a number or table for each entry above, and what follows.

    Attributes:
        requests: finished exchanges by (rule or `""`, known method, status // 100).
        duration_buckets, duration_sum_s: a histogram of their durations.
    """

    # The types are written out, as each is an attribute of a compiled class.
    __slots__ = (*_NUMBERS, *_TABLES, "duration_buckets", "duration_sum_s", "requests")

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
    underscore_fields_dropped_total: int
    access_log_lines_dropped_total: int
    client_errors: Counter[str]
    upstream_errors: Counter[str]
    proxy_errors: Counter[str]
    fields_changed: Counter[str]
    conditionals_stripped: Counter[str]
    observed: Counter[str]

    def __init__(self) -> None:
        for name in _NUMBERS:
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
        """Count a failure by who caused it."""
        if source == "client":
            self.client_errors[reason] += 1
        elif source == "upstream":
            self.upstream_errors[reason] += 1
        else:
            self.proxy_errors[reason] += 1

    def snapshot(self) -> Snapshot:
        """Copy everything at once. No request is served meanwhile, so this does no work for single rows."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            **{name: dict(getattr(self, name)) for name in _TABLES},
            "requests": dict(self.requests),
            "duration_buckets": list(self.duration_buckets),
            "duration_sum_s": self.duration_sum_s,
        }


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Add up the snapshots of several workers; return a single one as it is, and zeros for none."""
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
