"""What is written of the figures: the table, the verdicts, the section of a document, the picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import chart, report
from tests.benchmarks.load import Figures
from tests.benchmarks.measure import Samples
from tests.benchmarks.processes import Memory

TITLES = {"own": "nocache-proxy", "nginx": "nginx"}
DESCRIBED = report.Described("2026-01-01", "a machine", 1, 1.0, 5000, TITLES, {"own": "1", "nginx": "2"})


def samples(cpu_us: float) -> Samples:
    figures = Figures(1000, 1.0, cpu_us * 1000 / 1e6, 0.0, 0.0, 0.001, 0.002, 0.003, 0.004, None)
    return Samples(
        workloads={"json": [figures] * 3, "json-256": [figures]}, idle_memory=[Memory(50 << 20, 40 << 20)]
    )


def test_table_has_a_row_for_each_measured_figure_and_none_for_others():
    markdown = report.render(DESCRIBED, {"own": samples(50), "nginx": samples(20)})
    assert "| **CPU per request, small JSON, µs** | 50.0 | 20.0 |" in markdown
    assert "downloads" not in markdown.partition("promised")[0]


def test_promise_that_is_broken_is_said_to_be():
    """2.5 x nginx at most: 50 of 20 keeps it, 51 of 20 does not."""
    kept = report.render(DESCRIBED, {"own": samples(50), "nginx": samples(20)})
    broken = report.render(DESCRIBED, {"own": samples(51), "nginx": samples(20)})
    assert "| CPU per request, of nginx's | at most 2.5 | 2.50 | yes |" in kept
    assert "| CPU per request, of nginx's | at most 2.5 | 2.55 | **no** |" in broken


def test_ratio_is_taken_within_each_round():
    """A round on a machine that was three times slower says the same as the others, not three times as much."""
    ours, theirs = Samples(), Samples()
    for slowness in (3, 1, 1):
        ours.workloads.setdefault("json", []).extend(samples(50 * slowness).workloads["json-256"])
    for slowness in (3, 3, 1):
        theirs.workloads.setdefault("json", []).extend(samples(20 * slowness).workloads["json-256"])
    markdown = report.render(DESCRIBED, {"own": ours, "nginx": theirs})
    assert "| CPU per request, of nginx's | at most 2.5 | 2.50 | yes |" in markdown


def test_section_of_a_document_is_replaced_and_nothing_else():
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    changed = report.inserted(text, "new\n", "picture.svg")
    assert changed.startswith(f"before\n{report.BEGIN}\n")
    assert changed.endswith(f"new\n{report.END}\nafter\n")
    assert "(picture.svg)" in changed
    assert "old" not in changed


def test_document_without_the_section_is_refused():
    with pytest.raises(ValueError, match="0 sections"):
        report.inserted("no markers", "new\n", "picture.svg")


def test_picture_is_well_formed_and_cuts_a_bar_that_would_hide_the_others():
    picture = chart.render(TITLES, {"own": samples(2000), "nginx": samples(20)})
    root = ET.fromstring(picture)
    namespace = {"svg": "http://www.w3.org/2000/svg"}
    widths = [float(bar.get("width")) for bar in root.findall("svg:rect", namespace)]
    assert widths[:2] == [500.0, 200.0]
    assert len(root.findall("svg:path", namespace)) == 1
    assert "prefers-color-scheme: dark" in picture
