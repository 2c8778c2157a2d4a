"""The figures as Markdown: a table of medians, and the ratios that the project promises.

A ratio is the median of those within each round: the machine may be slower in one round than in another, but is
the same for what is measured in one.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.benchmarks import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.benchmarks.load import Figures
    from tests.benchmarks.measure import Samples

    Series = Callable[[Samples], list[float]]
    """A figure of each round; none when it was not measured."""

BEGIN: Final = "<!-- benchmark:begin -->"
END: Final = "<!-- benchmark:end -->"
METHOD: Final = (
    "Each proxy on one core, where the others rest meanwhile, load and upstream together on another; in every "
    "round two workloads at a time are put to one proxy after the other, {:g} s each; every answer checked. CPU is user and system time of the proxy's "
    "processes. All set the same fields by `X-Requested-With` and write an access log to a file. Latency at "
    "a fixed rate counts from when a request was due."
)


@dataclass(frozen=True, slots=True)
class Described:
    """Under what circumstances the figures came about; titles and versions by a peer's name, in order."""

    date: str
    machine: str
    rounds: int
    seconds: float
    idle_connections: int
    titles: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure of every peer."""

    title: str
    series: Series
    format: str


def cpu(workload: str) -> Series:
    """Return how to find a workload's CPU time per request, in microseconds."""
    return lambda samples: samples.each(workload, lambda of: of.proxy_cpu_s / of.requests * 1e6)


def rate(workload: str) -> Series:
    """Return how to find a workload's requests per second."""
    return lambda samples: samples.each(workload, lambda of: of.requests / of.seconds)


def milliseconds(workload: str, quantile: Callable[[Figures], float]) -> Series:
    """Return how to find a quantile of a workload's latency, in milliseconds."""
    return lambda samples: samples.each(workload, lambda of: quantile(of) * 1e3)


def start_s(samples: Samples) -> list[float]:
    """Return the seconds from start to the first response."""
    return samples.start_s


def idle_mib(samples: Samples) -> list[float]:
    """Return the resident memory before the first request but one, in MiB."""
    return [of.rss_bytes / messages.MIB for of in samples.idle_memory]


def connection_kib(samples: Samples) -> list[float]:
    """Return the resident memory of an idle connection, in KiB."""
    return [size / messages.KIB for size in samples.connection_bytes]


def median(figures: list[float]) -> float | None:
    """Return the median of a series, `None` when nothing was measured."""
    return statistics.median(figures) if figures else None


ROWS: Final = (
    Row("**CPU per request, small JSON, µs**", cpu("json"), "{:,.1f}"),
    Row("the same, every path and cookie different, µs", cpu("distinct"), "{:,.1f}"),
    Row("the same, 256 connections, µs", cpu("json-256"), "{:,.1f}"),
    Row("the same, 1,000 connections, µs", cpu("json-1000"), "{:,.1f}"),
    Row("CPU per 64 KiB download, µs", cpu("download-64k"), "{:,.0f}"),
    Row("CPU per 1 MiB download, µs", cpu("download-1m"), "{:,.0f}"),
    Row("CPU per 1 MiB upload, µs", cpu("upload-1m"), "{:,.0f}"),
    Row("CPU per chunked response of 20 pieces, µs", cpu("pieces"), "{:,.0f}"),
    Row("requests/s, 32 connections", rate("json"), "{:,.0f}"),
    Row("requests/s, 256 connections", rate("json-256"), "{:,.0f}"),
    Row("requests/s, 1,000 connections", rate("json-1000"), "{:,.0f}"),
    Row("64 KiB downloads/s", rate("download-64k"), "{:,.0f}"),
    Row("1 MiB downloads/s", rate("download-1m"), "{:,.0f}"),
    Row("1 MiB uploads/s", rate("upload-1m"), "{:,.0f}"),
    Row("20 pieces, responses/s", rate("pieces"), "{:,.0f}"),
    Row("p50 at saturation, 32 connections, ms", milliseconds("json", lambda of: of.p50_s), "{:.2f}"),
    Row("p99 at saturation, 32 connections, ms", milliseconds("json", lambda of: of.p99_s), "{:.2f}"),
    Row("p50 at 1,000 requests/s, ms", milliseconds("rate-1000", lambda of: of.p50_s), "{:.2f}"),
    Row("p99 at 1,000 requests/s, ms", milliseconds("rate-1000", lambda of: of.p99_s), "{:.2f}"),
    Row("memory when idle, MiB", idle_mib, "{:.1f}"),
    Row("memory of an idle connection, KiB", connection_kib, "{:.1f}"),
    Row("start to first response, s", start_s, "{:.2f}"),
    Row("CPU per request, 1 rule, µs", cpu("rules-1"), "{:,.1f}"),
    Row("CPU per request, 1,000 rules, µs", cpu("rules-1000"), "{:,.1f}"),
    Row("CPU per request, all different, 1 rule, µs", cpu("rules-1-distinct"), "{:,.1f}"),
    Row("CPU per request, all different, 1,000 rules, µs", cpu("rules-1000-distinct"), "{:,.1f}"),
    Row("requests/s, 256 connections, `--workers 1`", rate("workers-1"), "{:,.0f}"),
    Row("requests/s, 256 connections, `--workers 2`", rate("workers-2"), "{:,.0f}"),
    Row("CPU per request, `--workers 1`, µs", cpu("workers-1"), "{:,.1f}"),
    Row("CPU per request, `--workers 2`, µs", cpu("workers-2"), "{:,.1f}"),
)


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure of ours, in relation to one of a peer (or of ours: `own`), and its bound."""

    title: str
    series: Series
    bound: float
    peer: str | None = None
    reference: Series | None = None
    is_at_least: bool = False


def _p99_at_rate(samples: Samples) -> list[float]:
    return milliseconds("rate-1000", lambda of: of.p99_s)(samples)


PROMISES: Final = (
    Promise("CPU per request, of nginx's", cpu("json"), 2.5, "nginx", cpu("json")),
    Promise("CPU per request, of idiomatic aiohttp's", cpu("json"), 0.30, "idiomatic", cpu("json")),
    Promise("CPU per request, of Caddy's", cpu("json"), 0.36, "caddy", cpu("json")),
    Promise("CPU per request, of before", cpu("json"), 1.02, "before", cpu("json")),
    Promise("the same, all different", cpu("distinct"), 1.02, "before", cpu("distinct")),
    Promise("CPU per request, all different, of repeated", cpu("distinct"), 1.15, "own", cpu("json")),
    Promise(
        "requests/s at 256 connections, of nginx's",
        rate("json-256"),
        0.4,
        "nginx",
        rate("json-256"),
        is_at_least=True,
    ),
    Promise(
        "1 MiB downloads/s, of nginx's",
        rate("download-1m"),
        1.0,
        "nginx",
        rate("download-1m"),
        is_at_least=True,
    ),
    Promise(
        "1 MiB uploads/s, of nginx's", rate("upload-1m"), 1.0, "nginx", rate("upload-1m"), is_at_least=True
    ),
    Promise("p99 at 1,000 requests/s, of nginx's", _p99_at_rate, 2.0, "nginx", _p99_at_rate),
    Promise("CPU per request, 1,000 rules, of 1 rule", cpu("rules-1000"), 1.05, "own", cpu("rules-1")),
    Promise("the same, all different", cpu("rules-1000-distinct"), 1.05, "own", cpu("rules-1-distinct")),
    Promise("memory when idle, MiB", idle_mib, 56),
    Promise("memory of an idle connection, KiB", connection_kib, 16),
    Promise("start to first response, s", start_s, 0.8),
    Promise(
        "requests/s, two workers, of one", rate("workers-2"), 1.7, "own", rate("workers-1"), is_at_least=True
    ),
)


def render(described: Described, samples: Mapping[str, Samples]) -> str:
    """Return the table, the promises, and how it was measured."""
    titles = described.titles
    lines = [
        f"| medians of {described.rounds} rounds, one core | {' | '.join(titles.values())} |",
        f"| --- |{' ---: |' * len(titles)}",
    ]
    for row in ROWS:
        values = [median(row.series(samples[name])) for name in titles]
        if any(value is not None for value in values):
            cells = ("" if value is None else row.format.format(value) for value in values)
            lines.append(f"| {row.title} | {' | '.join(cells)} |")
    promises = [line for promise in PROMISES if (line := _promise(promise, samples))]
    if promises:
        lines += [
            "",
            "| promised (ratios: medians of those within a round) | bound | measured | |",
            "| --- | ---: | ---: | --- |",
            *promises,
        ]
    versions = "; ".join(f"{titles[name]}: {version}" for name, version in described.versions.items())
    lines += [
        "",
        f"{described.date}, {described.machine}. {versions}. {METHOD.format(described.seconds)}",
    ]
    return "\n".join(lines) + "\n"


def inserted(text: str, markdown: str, picture: str) -> str:
    """Return a document with the section between its two markers replaced."""
    image = f"![CPU per request, throughput and latency beside other proxies]({picture})"
    section = f"{BEGIN}\n{image}\n\n{markdown}{END}"
    changed, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: section, text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{count} sections between {BEGIN} and {END}, instead of one")
    return changed


def _promise(promise: Promise, samples: Mapping[str, Samples]) -> str | None:
    if "own" not in samples:
        return None
    figures = promise.series(samples["own"])
    if promise.peer and promise.reference:
        references = promise.reference(samples[promise.peer]) if promise.peer in samples else []
        figures = [figure / reference for figure, reference in zip(figures, references, strict=False)]
    value = median(figures)
    if value is None:
        return None
    is_kept = value >= promise.bound if promise.is_at_least else value <= promise.bound
    relation, verdict = "at least" if promise.is_at_least else "at most", "yes" if is_kept else "**no**"
    return f"| {promise.title} | {relation} {promise.bound:g} | {value:.2f} | {verdict} |"
