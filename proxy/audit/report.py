"""The audit's report: one table for people, one object for programs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from proxy.audit.evidence import Evidence
from proxy.audit.observation import ASKERS
from proxy.audit.proposals import Proposals, propose
from proxy.audit.routes import example_of, to_path
from proxy.audit.verdicts import VERDICTS, Finding, Verdict, judge

_WIDTH: Final = 110
_ROUTE_WIDTH: Final = 44


@dataclass(frozen=True, slots=True)
class Report:
    """All that the audit has to say.

    Attributes:
        findings: worst first.
        notes: about how the evidence was gathered, one sentence each.
    """

    since_s: float
    responses: int
    dropped: int
    findings: tuple[Finding, ...]
    proposals: Proposals
    notes: tuple[str, ...] = ()


def report_on(evidence: Evidence, notes: Sequence[str] = ()) -> Report:
    """Judge the evidence and propose rules."""
    findings = judge(evidence)
    proposals = propose(findings)
    return Report(
        since_s=evidence.since_s,
        responses=evidence.responses,
        dropped=evidence.dropped,
        findings=tuple(findings),
        proposals=proposals,
        notes=(*notes, *_notes(evidence, proposals)),
    )


def _notes(evidence: Evidence, proposals: Proposals) -> Iterator[str]:
    if evidence.unexamined:
        yield f"Answers that were only counted, as there were too many in a second: {evidence.unexamined}."
    for (method, *segments), reason in proposals.refused:
        yield f"No rule could be made for {method} {to_path(tuple(segments))}: {reason}."


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as values for `json.dumps`; the shape of `/api/audit`."""
    rules = report.proposals.by_route()
    return {
        "since": None if math.isinf(report.since_s) else _time(report.since_s),
        "responses": report.responses,
        "routes_dropped": report.dropped,
        "notes": list(report.notes),
        "routes": [_route(finding, rules.get(finding.route)) for finding in report.findings],
        "rules": report.proposals.to_yaml(),
    }


def reaches(report: dict[str, Any], limit: Verdict) -> bool:
    """Tell whether a report, as JSON, has a route as bad as `limit` or worse."""
    bad = VERDICTS[: VERDICTS.index(limit) + 1]
    return any(route["verdict"] in bad for route in report["routes"])


def to_text(report: dict[str, Any]) -> str:
    """Write a report, as JSON, for a person."""
    return "\n".join(_lines(report))


def _route(finding: Finding, rule: str | None) -> dict[str, Any]:
    known = finding.evidence
    method, *segments = finding.route
    is_timed = known.reusable and not math.isinf(known.lifetime_s)
    caches = [name for name, count in (("private", known.private), ("shared", known.shared)) if count]
    freshness = "none" if not known.reusable else "explicit" if known.explicit else "heuristic"
    return {
        "method": method,
        "route": to_path(tuple(segments)),
        "verdict": finding.verdict,
        "responses": known.responses,
        "protected": known.protected,
        "stale": finding.stale,
        "leak": finding.leaks,
        "from_cache": known.from_cache,
        "freshness": freshness,
        "lifetime_s": int(known.lifetime_s) if is_timed else None,
        "caches": caches,
        "asked_by": {asker: known.askers[asker] for asker in ASKERS},
        "content_types": sorted(known.types),
        "example": example_of(tuple(segments)),
        "why": finding.why,
        "rule": rule,
    }


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(report: dict[str, Any]) -> Iterator[str]:
    routes = report["routes"]
    if not routes:
        yield "No answers were seen."
        return
    counts = [f"{number} {verdict}" for verdict in VERDICTS if (number := _number(routes, verdict))]
    yield f"{report['responses']} answers on {len(routes)} routes since {report['since']}: {', '.join(counts)}"
    yield ""
    width = min(_ROUTE_WIDTH, max(len(f"{route['method']} {route['route']}") for route in routes))
    yield f"{'verdict':<9}  {'route':<{width}}  {'answers':>7}  {'reusable for':<13}  {'by':<15}  asked by"
    for route, others in _by_rule(routes):
        yield from _row(route, width)
        if others:
            yield f"{' ' * 11}The same rule cures {others} more such routes."
    yield ""
    if report["routes_dropped"]:
        yield f"{report['routes_dropped']} answers of further routes were not examined: there is room for 500 routes."
    yield from report["notes"]
    if report["rules"]:
        yield "`--rules` prints the rules that cure this, with tests; `nocache-proxy check FILE` reads them."


def _by_rule(routes: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Put routes together that have one verdict and one rule, such as the files of a directory; count the others."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for route in routes:
        groups.setdefault(
            (route["verdict"], route["rule"] or f"{route['method']} {route['route']}"), []
        ).append(route)
    return [(group[0], len(group) - 1) for group in groups.values()]


def _row(route: dict[str, Any], width: int) -> Iterator[str]:
    name = f"{route['method']} {route['route']}"
    if len(name) > width:
        name = f"{name[: width - 3]}..."
    asked = ", ".join(f"{asker} {number}" for asker, number in route["asked_by"].items() if number)
    lifetime = {"none": "-", "heuristic": "caches choose", "explicit": ""}[route["freshness"]]
    if route["lifetime_s"] is not None:
        lifetime = f"{route['lifetime_s']} s"
    caches = ", ".join(route["caches"]) or "-"
    verdict = route["verdict"].upper() if route["verdict"] in ("leak", "stale") else route["verdict"]
    cells = f"{verdict:<9}  {name:<{width}}  {route['responses']:>7}  {lifetime:<13}  {caches:<15}  {asked}"
    yield cells.rstrip()
    if route["verdict"] != "fine":
        yield from textwrap.wrap(
            route["why"],
            _WIDTH - 11,
            initial_indent=" " * 11,
            subsequent_indent=" " * 11,
            break_long_words=False,
        )


def _number(routes: Sequence[dict[str, Any]], verdict: str) -> int:
    return sum(route["verdict"] == verdict for route in routes)
