"""/metrics: a custom collector that turns plain integers into Prometheus' exposition format on each scrape.

Names follow Prometheus' conventions and what Envoy and Traefik count. Labels are bounded: a rule's name,
a method, a class of status codes, a reason from the code; never a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest

from proxy import __version__
from proxy.admin.state import AdminState, RulesStatus
from proxy.stats import DURATION_BOUNDS_S, Snapshot

_PREFIX: Final = "nocache_proxy_"

_GAUGES: Final = {
    "in_flight": ("requests_in_flight", "Requests being answered."),
    "client_connections": ("client_connections_open", "Client connections that are open."),
    "upstream_connections": ("upstream_connections_open", "Connections to the app that are open."),
    "tunnels": ("tunnels_open", "Upgraded connections (WebSocket and others) that are open."),
}
_COUNTERS: Final = {
    "client_connections_total": ("client_connections", "Client connections accepted."),
    "upstream_connections_total": ("upstream_connections", "Connections to the app opened."),
    "upstream_reused_total": (
        "upstream_connections_reused",
        "Requests that found an open connection to the app.",
    ),
    "request_bytes_total": ("request_content_bytes", "Bytes of request content read from clients."),
    "response_bytes_total": ("response_content_bytes", "Bytes of response content sent to clients."),
    "client_aborts_total": ("client_aborts", "Requests whose client left before the response was complete."),
    "retries_total": ("upstream_retries", "Connection attempts or requests that were tried a second time."),
    "upstream_cache_hits_total": (
        "upstream_cache_hits",
        "Matching responses that came with an Age: a cache between this proxy and the app answered.",
    ),
    "decision_failures_total": (
        "decision_failures",
        "Requests on which the rules failed; they were protected by the strict policy.",
    ),
    "tunnels_total": ("tunnels", "Connections upgraded."),
}
_BY_RULE: Final = {
    "fields_changed": ("fields_changed", "Response field lines taken away, rewritten or written."),
    "conditionals_stripped": ("conditionals_stripped", "Conditional request field lines taken away."),
    "observed": ("observed", "Responses that a rule in observe mode would have decided."),
}
_BY_REASON: Final = {
    "upstream_errors": ("upstream_errors", "Failures of the app or of the way to it."),
    "client_errors": ("client_errors", "Requests refused or given up because of their client."),
}

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def render(state: AdminState) -> bytes:
    """Render all metrics in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    rules = [rule.name for rule in state.rules_file.rules]
    families = [*collect(await state.snapshot(), rules), *_service(state), *processes(state.pids())]
    registry.register(_Collected(families))
    return generate_latest(registry)


def collect(snapshot: Snapshot, rules: Iterable[str]) -> Iterator[Metric]:
    """Turn what the workers counted into metric families; every rule is there from the start."""
    names = list(rules)
    yield _requests(snapshot, names)
    yield _durations(snapshot)
    for key, (name, text) in _GAUGES.items():
        yield GaugeMetricFamily(_PREFIX + name, text, value=snapshot[key])
    for key, (name, text) in _COUNTERS.items():
        yield CounterMetricFamily(_PREFIX + name, text, value=snapshot[key])
    for key, (name, text) in _BY_RULE.items():
        counted = {**dict.fromkeys(names, 0), **snapshot[key]}
        yield _labelled(name, text, "rule", counted)
    for key, (name, text) in _BY_REASON.items():
        yield _labelled(name, text, "reason", snapshot[key])


def processes(pids: Iterable[int], proc: Path = Path("/proc")) -> Iterator[Metric]:
    """`process_*` as Prometheus' client libraries name them, added up over the processes that serve."""
    ticks = os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    cpu_s = 0.0
    resident = virtual = descriptors = 0
    started: list[float] = []
    boot_s = _boot_time(proc)
    for pid in pids:
        try:
            stat = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
            descriptors += len(os.listdir(proc / str(pid) / "fd"))  # noqa: PTH208 - only their number
        except OSError:
            continue  # a worker that has just ended
        cpu_s += (int(stat[11]) + int(stat[12])) / ticks
        started.append(boot_s + int(stat[19]) / ticks)
        virtual += int(stat[20])
        resident += int(stat[21]) * page
    if not started:
        return
    yield CounterMetricFamily("process_cpu_seconds", "CPU time, user and system.", value=cpu_s)
    yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", value=resident)
    yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory.", value=virtual)
    yield GaugeMetricFamily("process_open_fds", "Open file descriptors.", value=descriptors)
    yield GaugeMetricFamily("process_start_time_seconds", "Start, since the epoch.", value=min(started))


class _Collected:
    """Hands ready families to a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _requests(snapshot: Snapshot, rules: list[str]) -> Metric:
    family = CounterMetricFamily(
        _PREFIX + "requests",
        "Requests answered, by the rule that decided (empty: none), method and class of status.",
        labels=("rule", "method", "code"),
    )
    counted = dict(snapshot["requests"])
    seen = {key.split("\t", 1)[0] for key in counted}
    counted.update({f"{rule}\tGET\t2xx": 0 for rule in rules if rule not in seen})
    for key, number in sorted(counted.items()):
        family.add_metric(key.split("\t"), number)
    return family


def _durations(snapshot: Snapshot) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, number in zip(
        (*map(str, DURATION_BOUNDS_S), "+Inf"), snapshot["duration_buckets"], strict=True
    ):
        total += number
        buckets.append((bound, total))
    return HistogramMetricFamily(
        _PREFIX + "request_duration_seconds",
        "From the end of a request's head to the end of its response.",
        buckets=buckets,
        sum_value=snapshot["duration_sum_s"],
    )


def _labelled(name: str, text: str, label: str, counted: dict[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=(label,))
    for value, number in sorted(counted.items()):
        family.add_metric((value,), number)
    return family


def _service(state: AdminState) -> Iterator[Metric]:
    status: RulesStatus = state.rules_status
    yield InfoMetricFamily(
        _PREFIX + "build", "What runs.", value={"version": __version__, "rules": status.digest}
    )
    reloads = CounterMetricFamily(
        _PREFIX + "rules_reloads", "Attempts to reload the rules.", labels=("result",)
    )
    reloads.add_metric(("success",), status.reloads)
    reloads.add_metric(("failure",), status.failed_reloads)
    yield reloads
    yield GaugeMetricFamily(
        _PREFIX + "rules_last_reload_successful",
        "1 when the newest content of the rules file is in force, 0 when it has mistakes.",
        value=status.last_reload_ok,
    )
    yield GaugeMetricFamily(
        _PREFIX + "rules_last_reload_success_timestamp_seconds",
        "When the rules in force took effect, since the epoch.",
        value=status.loaded_at_s,
    )
    yield GaugeMetricFamily(_PREFIX + "rules", "Rules in force.", value=len(state.rules_file.rules))


def _boot_time(proc: Path) -> float:
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
