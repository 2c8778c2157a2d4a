"""/metrics: renders the counters in Prometheus' exposition format on each scrape.

Names follow Prometheus' conventions and what Envoy and Traefik count. Labels are bounded: a rule's name,
a method, a class of status codes, a reason from the code; never a path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, get_args

from aiohttp import web
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
from proxy.admin import process_metrics
from proxy.admin.slices import in_slices
from proxy.admin.state import AdminState
from proxy.gateway import failures
from proxy.stats import BY_REASON, BY_RULE, COUNTERS, DURATION_BOUNDS_S, GAUGES, Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX: Final = "nocache_proxy_"
# An app that takes longer to accept counts as not ready; the scrape must not time out.
_PATIENCE_S: Final = 1.0

_FAILURES: Final = [known for known in vars(failures).values() if isinstance(known, failures.Failure)]
_REASONS: Final = {
    f"{source}_errors": [
        known.reason for known in _FAILURES if known.source == source and known is not failures.CLIENT_LEFT
    ]
    for source in get_args(failures.Source)
}


async def answer(state: AdminState, _: web.BaseRequest) -> web.Response:
    """Answer a scrape."""
    return web.Response(body=await render(state), headers={"Content-Type": CONTENT_TYPE})


async def render(state: AdminState) -> bytes:
    """Render all metrics in the text format.

    With 1,000 rules there are 28,000 lines, and `prometheus_client` takes 9 us for each: what is counted by
    rule is written here, in slices between which requests are served; it writes the rest.
    """
    rules = [rule.name for rule in state.rules_file.rules]
    snapshot = await state.snapshot()
    ready = await _is_ready(state)
    await asyncio.sleep(0)  # after a snapshot, which takes its own time
    families = chain(
        of_service(state, ready=ready), of_workers(snapshot), process_metrics.collect(state.pids())
    )
    small = generate_latest(_registry(list(families)))
    large = ["".join(lines).encode() async for lines in in_slices(by_rule(snapshot, rules))]
    return b"".join((small, *large))


def of_workers(snapshot: Snapshot) -> Iterator[Metric]:
    """The workers' counters, except those by rule."""
    yield _durations(snapshot)
    for key, metric in GAUGES.items():
        yield GaugeMetricFamily(_PREFIX + metric.name, metric.text, value=snapshot[key])
    for key, metric in COUNTERS.items():
        yield CounterMetricFamily(_PREFIX + metric.name, metric.text, value=snapshot[key])
    for key, metric in BY_REASON.items():
        family = CounterMetricFamily(_PREFIX + metric.name, metric.text, labels=("reason",))
        # Every series exists from the start, at 0: rate() does not see a series that begins at 1.
        for reason, number in {**dict.fromkeys(_REASONS[key], 0), **snapshot[key]}.items():
            family.add_metric((reason,), number)
        yield family


def of_service(state: AdminState, *, ready: bool) -> Iterator[Metric]:
    """Metrics of the service as a whole."""
    status = state.rules_status
    yield InfoMetricFamily(_PREFIX + "build", "What runs.", value={"version": __version__})
    yield GaugeMetricFamily(
        _PREFIX + "ready", "1 when traffic may be sent here, as /readyz says; else 0.", value=ready
    )
    yield GaugeMetricFamily(_PREFIX + "workers", "Workers that should run.", value=state.settings.workers)
    yield GaugeMetricFamily(_PREFIX + "workers_running", "Workers that do.", value=len(state.pids()))
    yield GaugeMetricFamily(
        _PREFIX + "client_connections_limit",
        "Client connections that may be open, of all workers together.",
        value=state.settings.max_connections * state.settings.workers,
    )
    yield GaugeMetricFamily(_PREFIX + "rules", "Rules in force.", value=len(state.rules_file.rules))
    yield InfoMetricFamily(
        _PREFIX + "rules", "Which version of the rules is in force.", value={"digest": status.digest}
    )
    reloads = CounterMetricFamily(
        _PREFIX + "rules_reloads", "Attempts to reload the rules.", labels=("result",)
    )
    reloads.add_metric(("success",), status.reloads)
    reloads.add_metric(("failure",), status.failed_reloads)
    yield reloads
    yield GaugeMetricFamily(
        _PREFIX + "rules_last_reload_successful",
        "1 when the newest content of the rules file is in force, 0 when it cannot be used.",
        value=status.last_reload_ok,
    )
    yield GaugeMetricFamily(
        _PREFIX + "rules_last_reload_success_timestamp_seconds",
        "When the rules in force took effect, since the epoch.",
        value=status.loaded_at_s,
    )


def by_rule(snapshot: Snapshot, rules: Sequence[str]) -> Iterator[str]:
    """Write the lines of counters by rule, lazily; every rule is there from the start.

    A rule's name has no character that a label's value must escape, see `proxy.rules.loading.kinds`.
    """
    name = f"{_PREFIX}requests_total"
    yield _head(name, "Requests answered: the rule that decided (empty: none), method and class of status.")
    unseen = dict.fromkeys(("", *rules))
    for (rule, method, status_class), number in snapshot["requests"].items():
        unseen.pop(rule, None)
        yield f'{name}{{rule="{rule}",method="{method}",code="{status_class}xx"}} {number}\n'
    for rule in unseen:
        yield f'{name}{{rule="{rule}",method="GET",code="2xx"}} 0\n'
    for key, metric in BY_RULE.items():
        yield from _counter(
            f"{_PREFIX}{metric.name}_total", metric.text, {**dict.fromkeys(rules, 0), **snapshot[key]}
        )


def _counter(name: str, text: str, numbers: dict[str, int]) -> Iterator[str]:
    yield _head(name, text)
    for rule, number in numbers.items():
        yield f'{name}{{rule="{rule}"}} {number}\n'


def _head(name: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} counter\n"


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
        "From the end of a request's head to the end of its response; of a tunnel, to its beginning.",
        buckets=buckets,
        sum_value=snapshot["duration_sum_s"],
    )


async def _is_ready(state: AdminState) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return not await state.reasons_not_ready()
    except TimeoutError:
        return False


def _registry(families: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return registry


class _Collected:
    """A collector that returns metric families made beforehand."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
