"""Explains which rule decides a request: every condition with what it found, and every field before and after.

The decision is the live one (`dry_run`), and the same keys that decide live report on each condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from proxy.message.fields import HOP_BY_HOP, Field, values_of
from proxy.rules.engine.compiled import CompiledRule
from proxy.rules.engine.matching import Ruleset
from proxy.rules.keys.facts import Reading, RequestFacts, ResponseFacts, kind_of
from proxy.rules.keys.key import Conditions
from proxy.rules.loading.cases import TrialRequest, TrialResponse
from proxy.rules.model import Rule
from proxy.rules.tools.dry_run import SOME_DATE, Trial, run_trial

Part = Literal["match", "unless"]
Result = Literal["decides", "observed", "no", "excepted", "not asked"]


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """One condition of a rule.

    Attributes:
        key: as in the rules file: `match.paths`, `unless.headers.Accept`.
        wanted: what the rule asks for.
        seen: what the request or response has there.
        note: which spelling of the path decided, where there are several.
    """

    key: str
    wanted: str
    holds: bool
    seen: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One rule, its conditions, and the result.

    Attributes:
        result: `decides`; `observed` for a rule in mode observe that would; `no` when `match` does not
            hold; `excepted` when `unless` does; `not asked` when it would match, but an earlier rule does.
    """

    index: int
    rule: Rule
    result: Result
    conditions: tuple[ConditionReport, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One response field: its lines before and after, and the reason."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of one request and its response."""

    request: TrialRequest
    response: TrialResponse
    trial: Trial
    paths: tuple[str, ...]
    rules: tuple[RuleReport, ...]
    changes: tuple[Change, ...]


def explain(
    ruleset: Ruleset, request: TrialRequest, response: TrialResponse, *, now: bytes = SOME_DATE
) -> Explanation:
    """Explain what the gateway does with a request and the app's response.

    Args:
        now: an IMF-fixdate, for a response without `Date`.

    Raises:
        MessageError: the gateway would not forward this request.
    """
    explanation, reports = begin(ruleset, request, response, now=now)
    return replace(explanation, rules=tuple(reports))


def begin(
    ruleset: Ruleset, request: TrialRequest, response: TrialResponse, *, now: bytes = SOME_DATE
) -> tuple[Explanation, Iterator[RuleReport]]:
    """Explain like `explain`, but leave the reports of the rules to an iterator: a thousand take some 10 ms."""
    trial = run_trial(ruleset, request, response, now=now)
    facts = ruleset.examine(trial.head.method, trial.head.target, trial.head.values)
    explanation = Explanation(
        request=request,
        response=response,
        trial=trial,
        paths=tuple(spelling for spelling, _ in facts.spellings),
        rules=(),
        changes=tuple(_changes(response.fields, trial)),
    )
    return explanation, _report_rules(
        ruleset, trial, facts, ResponseFacts(kind_of(response.status, response.fields))
    )


def _report_rules(
    ruleset: Ruleset, trial: Trial, facts: RequestFacts, response: ResponseFacts
) -> Iterator[RuleReport]:
    resolution = trial.resolution
    for index, rule in enumerate(ruleset.compiled):
        result: Result
        if rule.source is resolution.rule:
            result = "decides"
        elif not rule.matches(facts, response):
            result = "no"
        elif rule.is_excepted(facts, response):
            result = "excepted"
        elif rule.source is resolution.observed:
            result = "observed"
        else:
            result = "not asked"
        yield RuleReport(index, rule.source, result, tuple(_report_keys(rule, facts, response)))


def _report_keys(
    rule: CompiledRule, facts: RequestFacts, response: ResponseFacts
) -> Iterator[ConditionReport]:
    yield from _report_part("match", rule.match, facts, rule.reading, response, rule.response_reading)
    if rule.unless is not None:
        yield from _report_part(
            "unless", rule.unless, facts, rule.opposite, response, rule.opposite_response_reading
        )


def _report_part(
    part: Part,
    conditions: Conditions,
    facts: RequestFacts,
    reading: Reading,
    response: ResponseFacts,
    response_reading: Reading,
) -> Iterator[ConditionReport]:
    for key in conditions.request:
        yield ConditionReport(
            f"{part}.{key.name}",
            key.wanted,
            key.holds(facts, reading),
            key.seen(facts),
            key.note(facts, reading),
        )
    for asked in conditions.response:
        holds = asked.holds(response, response_reading)
        is_known = asked.holds(response, "any") is asked.holds(response, "every")
        note = "" if is_known else "the response can be read either way: the reading that protects counts"
        yield ConditionReport(f"{part}.{asked.name}", asked.wanted, holds, asked.seen(response), note)


def _join(values: Sequence[str]) -> str:
    return ", ".join(values)


_WHY: Final = {
    "surrogate-control": "Varnish, Squid and Fastly let it beat Cache-Control",
    "edge-control": "Akamai lets it beat Cache-Control",
    "age": "nothing that a cache answered may look like the app's answer",
    "warning": "obsolete, RFC 9111 section 5.5",
    "no-vary-search": "it lets a stored response answer other queries",
    "x-accel-expires": "nginx lets it beat Cache-Control",
    "pragma": "for HTTP/1.0 caches and Internet Explorer",
    "expires": "a date that is past for every cache",
    "cache-control": "one line in place of all others",
}
_TARGETED: Final = "a cache that it is meant for lets it beat Cache-Control, RFC 9213"


def _changes(before: Sequence[Field], trial: Trial) -> Iterator[Change]:
    """Compare what came in with what goes out, name by name, in the order of the fields."""
    names = dict.fromkeys(name.lower() for name, _ in (*before, *trial.fields))
    for name in names:
        old, new = _lines(before, name), _lines(trial.fields, name)
        if old != new:
            spelt = next(key for key, _ in (*trial.fields, *before) if key.lower() == name).decode("latin-1")
            yield Change(spelt, old, new, _reason(name.decode("latin-1"), trial))


def _lines(fields: Sequence[Field], name: bytes) -> tuple[str, ...]:
    return tuple(value.decode("latin-1") for value in values_of(fields, name))


def _reason(name: str, trial: Trial) -> str:  # noqa: PLR0911 - one a case
    if trial.fault:
        return "the proxy's own response, under the strict policy"
    policy = trial.resolution.policy
    why = _WHY.get(name, _TARGETED if name.endswith("-cache-control") else "")
    if name in (field_name.lower() for field_name, _ in policy.set_fields):
        return _with(f"policy {policy.name} sets it", why)
    if any(
        name == removed or (removed.startswith("*") and name.endswith(removed[1:]))
        for removed in policy.remove
    ):
        return _with(f"policy {policy.name} removes it", why)
    match name:
        case "vary":
            return f"rules for this path read {_join(trial.verdict.vary)}"
        case "etag":
            return _of_validator(trial, _ETAG[policy.etag])
        case "last-modified":
            return _of_validator(trial, _LAST_MODIFIED[policy.last_modified])
        case "date":
            return "every response has one, RFC 9110 section 6.6.1"
        case _ if name.encode("latin-1") in HOP_BY_HOP:
            return "belongs to the connection between app and proxy"
        case "content-length":
            return "a 204 has no content"
        case _:
            return "named in Connection: belongs to the connection between app and proxy"


def _of_validator(trial: Trial, reason: str) -> str:
    if trial.head.matches_any:
        return "If-None-Match: * is met by any validator, and a cache on the way may answer 304 by it"
    return reason.format(trial.resolution.policy.name)


def _with(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


_ETAG: Final = {
    "mark": "policy {} marks it, so that no copy stored without it has the same; the app gets its own back in "
    "If-Match",
    "remove": "policy {} removes it",
    "keep": "",
}
_LAST_MODIFIED: Final = {
    "date": "policy {} sets it to the response's Date",
    "remove": "policy {} removes it: nothing to ask 'modified since?' with",
    "keep": "",
}
