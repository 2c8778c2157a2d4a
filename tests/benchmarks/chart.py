"""The figures as a picture: bars as SVG, drawn by hand, legible on light and on dark ground."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from tests.benchmarks import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.benchmarks.measure import Samples

WIDTH: Final = 760
NAME_WIDTH: Final = 150
BAR_WIDTH: Final = 500
LINE_HEIGHT: Final = 24
BAR_HEIGHT: Final = 15
TITLE_HEIGHT: Final = 34
CLIP: Final = 2.5
"""A bar longer than this many times the next one is cut and drawn with a gap: it would hide the others."""

STYLE: Final = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
.title { font-weight: 600 }
.bar { fill: #9aa7b4 }
.own { fill: #1a7f5a }
.gap { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #5b6875 }
  .own { fill: #3fb98a }
  .gap { fill: #0d1117 }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One group of bars."""

    title: str
    series: report.Series
    format: str


PANELS: Final = (
    Panel("CPU per request, µs (less is better)", report.cpu("json"), "{:,.0f}"),
    Panel("Requests/s on one core, 256 connections (more is better)", report.rate("json-256"), "{:,.0f}"),
    Panel(
        "p99 at 1,000 requests/s, ms (less is better)",
        report.milliseconds("rate-1000", lambda of: of.p99_s),
        "{:.2f}",
    ),
    Panel("Memory when idle, MiB (less is better)", report.idle_mib, "{:.0f}"),
)


def render(titles: Mapping[str, str], samples: Mapping[str, Samples]) -> str:
    """Return the picture; panels without figures are left out."""
    parts: list[str] = []
    top = 0
    for panel in PANELS:
        values = {
            name: value
            for name in titles
            if (value := report.median(panel.series(samples[name]))) is not None
        }
        if values:
            parts.append(_panel(panel, titles, values, top))
            top += TITLE_HEIGHT + LINE_HEIGHT * len(values) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" '
        f'width="{WIDTH}" height="{top}" role="img">\n'
        f"<title>nocache-proxy beside other proxies</title>\n<style>{STYLE}</style>\n{''.join(parts)}</svg>\n"
    )


def _panel(panel: Panel, titles: Mapping[str, str], values: Mapping[str, float], top: int) -> str:
    longest, *others = sorted(values.values(), reverse=True)
    full = min(longest, others[0] * CLIP) if others and others[0] else longest
    lines = [f'<text class="title" x="0" y="{top + 20}">{escape(panel.title)}</text>\n']
    for number, (name, value) in enumerate(values.items()):
        y = top + TITLE_HEIGHT + LINE_HEIGHT * number
        width = BAR_WIDTH * min(value, full) / full if full else 0.0
        style = "own" if name == "own" else "bar"
        lines.append(
            f'<text x="{NAME_WIDTH - 10}" y="{y + 12}" text-anchor="end">{escape(titles[name])}</text>'
            f'<rect class="{style}" x="{NAME_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}"/>'
            f'<text x="{NAME_WIDTH + width + 8:.1f}" y="{y + 12}">{panel.format.format(value)}</text>\n'
        )
        if value > full:
            gap = NAME_WIDTH + width * 0.8
            lines.append(
                f'<path class="gap" d="M{gap:.1f} {y + BAR_HEIGHT}l6 -{BAR_HEIGHT}h6l-6 {BAR_HEIGHT}z"/>\n'
            )
    return "".join(lines)
