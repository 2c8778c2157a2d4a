"""An explanation as text for a person, and as JSON for a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from proxy.message.fields import Field
from proxy.rules.tools.explain import Change, Explanation, RuleReport

_LONGEST_CELL = 48
_SHOWN_PATHS = 8
_RESULT = "=> "

PlaceOf = Callable[[int], str]
"""Where a rule stands in its file, by its index, such as `rules.yaml:12`."""


Caches = Mapping[str, Mapping[str, str]]
"""What each kind of cache may do with the response, `before` and `after` the rules."""


def to_text(explanation: Explanation, place_of: PlaceOf, caches: Caches | None = None) -> str:
    """Write an explanation for a person: the table of rules, the decision, the fields before and after, the caches."""
    return "\n".join(lines(explanation, place_of, caches))


def to_json(explanation: Explanation, place_of: PlaceOf, caches: Caches | None = None) -> dict[str, Any]:
    """Return an explanation as values for `json.dumps`."""
    trial, resolution = explanation.trial, explanation.trial.resolution
    return {
        "request": {
            "method": explanation.request.method,
            "target": _text(explanation.request.target),
            "headers": _pairs(explanation.request.fields),
            "paths": list(explanation.paths),
        },
        "rules": [rule_to_json(report, place_of) for report in explanation.rules],
        "decision": {
            "rule": None if resolution.rule is None else resolution.rule.name,
            "policy": trial.policy.name,
            "observed": None if resolution.observed is None else resolution.observed.name,
            "vary": list(trial.verdict.vary),
            "stripped": list(trial.stripped),
        },
        "response": {
            "status": explanation.response.status,
            "status_sent": trial.status,
            "fault": trial.fault or None,
            "before": _pairs(explanation.response.fields),
            "after": _pairs(trial.fields),
            "changes": [
                {"name": c.name, "before": list(c.before), "after": list(c.after), "reason": c.reason}
                for c in explanation.changes
            ],
        },
        "caches": caches,
    }


def rule_to_json(report: RuleReport, place_of: PlaceOf) -> dict[str, Any]:
    """Return one member of `rules` of `to_json`."""
    return {
        "name": report.rule.name,
        "place": place_of(report.index),
        "policy": report.rule.policy.name,
        "mode": report.rule.mode,
        "result": report.result,
        "conditions": [
            {"key": c.key, "wanted": c.wanted, "holds": c.holds, "seen": c.seen, "note": c.note or None}
            for c in report.conditions
        ],
    }


def _pairs(fields: Iterable[Field]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in fields]


def lines(explanation: Explanation, place_of: PlaceOf, caches: Caches | None = None) -> Iterator[str]:
    """Write the lines of `to_text`, lazily."""
    yield f"{explanation.request.method} {_text(explanation.request.target)}"
    if len(explanation.paths) > 1:
        hidden = len(explanation.paths) - _SHOWN_PATHS
        more = f" and {hidden} more" if hidden > 0 else ""
        yield f"spellings of the path: {', '.join(explanation.paths[:_SHOWN_PATHS])}{more}"
    yield ""
    yield from _table(explanation)
    yield ""
    yield from _decision(explanation, place_of)
    yield ""
    yield from _fields(explanation)
    if caches:
        yield ""
        yield "Caches:"
        yield from _caches(caches)


def _table(explanation: Explanation) -> Iterator[str]:
    rows: list[tuple[str, str, str, str, str]] = [("rule", "condition", "wanted", "holds", "seen")]
    for report in explanation.rules:
        rows += _rows(report)
    if len(rows) == 1:
        yield "There are no rules."
        return
    widths = [
        min(max(len(row[column]) for row in rows if not row[1].startswith(_RESULT)), _LONGEST_CELL)
        for column in range(4)
    ]
    for row in rows:
        if row[1].startswith(_RESULT):
            yield " " * (widths[0] + 2) + row[1]
            continue
        cells = [_cut(cell).ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        yield "  ".join((*cells, row[4])).rstrip()


def _rows(report: RuleReport) -> Iterator[tuple[str, str, str, str, str]]:
    name = report.rule.name
    for condition in report.conditions:
        seen = f"{condition.seen} ({condition.note})" if condition.note else condition.seen
        yield name, condition.key, condition.wanted, "true" if condition.holds else "false", seen
        name = ""
    if not report.conditions:
        yield name, "(every request)", "", "true", ""
    yield "", _RESULT + _result(report), "", "", ""


def _result(report: RuleReport) -> str:
    match report.result:
        case "decides":
            return f"DECIDES: policy {report.rule.policy.name}"
        case "observed":
            return f"would decide, but mode is observe: policy {report.rule.policy.name} is only counted"
        case "excepted":
            return "skipped: all of 'unless' holds"
        case "no":
            return "does not match"
        case "not asked":
            return "matches too, but another rule comes first"


def _cut(cell: str) -> str:
    return cell if len(cell) <= _LONGEST_CELL else cell[: _LONGEST_CELL - 3] + "..."


def _decision(explanation: Explanation, place_of: PlaceOf) -> Iterator[str]:
    trial, resolution = explanation.trial, explanation.trial.resolution
    if resolution.rule is None:
        yield "Decision: no rule matches; the response is passed through."
    else:
        index = next(report.index for report in explanation.rules if report.result == "decides")
        yield f"Decision: rule {resolution.rule.name} ({place_of(index)}), policy {resolution.policy.name}."
        if resolution.rule.because:
            yield f"Because:  {resolution.rule.because}"
    if resolution.observed is not None:
        watched = resolution.observed
        yield f"Observed: rule {watched.name} would have decided, with policy {watched.policy.name}."
    if trial.stripped:
        yield f"Request:  the app does not get {', '.join(trial.stripped)}, so that it must answer in full."


def _fields(explanation: Explanation) -> Iterator[str]:
    trial = explanation.trial
    if trial.fault:
        yield f"Response: {trial.status} instead of the app's {explanation.response.status}: {trial.fault}"
    else:
        yield f"Response: {trial.status}"
    for change in explanation.changes:
        yield from _change(change)
    changed = {change.name.lower() for change in explanation.changes}
    kept = dict.fromkeys(_text(name) for name, _ in trial.fields if _text(name).lower() not in changed)
    if kept:
        yield f"  unchanged: {', '.join(kept)}"
    elif not explanation.changes:
        yield "  no fields"


def _change(change: Change) -> Iterator[str]:
    yield f"  {change.name}: {change.reason}"
    yield from (f"    - {line}" for line in change.before)
    yield from (f"    + {line}" for line in change.after)


def _caches(caches: Caches) -> Iterator[str]:
    for name, says in caches.items():
        cache = _CACHES[name]
        if says["before"] == says["after"]:
            yield f"  {cache} {says['after']}"
        else:
            yield f"  {cache} {says['after']}; without the rules it {says['before']}"


_CACHES: Final = {
    "private": "a browser",
    "shared": "a shared cache",
    "internet_explorer": "Internet Explorer",
}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
