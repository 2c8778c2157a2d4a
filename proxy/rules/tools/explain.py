"""Which rule decides a request, and why: every condition with what it saw, and every field before and after.

The decision is the live one (`trial`); each condition is asked by compiling it alone, so that nothing here
can know better than `matching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from proxy.message.fields import HOP_BY_HOP, Field, values_of
from proxy.message.methods import OVERRIDES
from proxy.rules.engine.conditions import ResponseFacts
from proxy.rules.engine.globs import full_match, path_glob
from proxy.rules.engine.matching import SEC_FETCH_DEST, X_REQUESTED_WITH, Ruleset, Values
from proxy.rules.engine.spellings import spellings, with_other_end
from proxy.rules.model import Conditions, FieldCondition, Policy, ResponseConditions, Rule
from proxy.rules.policies import PASS, STRICT, enforces, protects
from proxy.rules.tools.dry_run import SOME_DATE, Trial, TrialRequest, TrialResponse, run_trial

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
    """One rule: what each of its conditions says, and what follows.

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
    """What became of one response field: its lines before and after, and why."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All there is to say about one request and its response."""

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
    """Explain like `explain`, but for the rules: their reports come one by one, each takes about a millisecond."""
    trial = run_trial(ruleset, request, response, now=now)
    head = trial.head
    paths = tuple(
        sorted(spellings(head.path), key=lambda path: (path != head.path.decode("utf-8", "replace"), path))
    )
    question = _Question(
        head.method, head.path, dict(zip(ruleset.field_names, head.values, strict=True)), response
    )
    explanation = Explanation(
        request=request,
        response=response,
        trial=trial,
        paths=paths,
        rules=(),
        changes=tuple(_changes(response.fields, trial)),
    )
    return explanation, _report_rules(ruleset, trial, question, paths)


@dataclass(frozen=True, slots=True)
class _Question:
    """What rules are asked about."""

    method: str
    path: bytes
    fields: dict[bytes, bytes | None]
    response: TrialResponse

    def holds(self, rule: Rule) -> bool:
        """Ask one rule alone, by the code that decides live."""
        alone = Ruleset([replace(rule, mode="enforce")])
        values: Values = tuple(self.fields.get(name) for name in alone.field_names)
        verdict = alone.decide(self.method, self.path, values)
        return verdict.resolve(self.response.status, self.response.fields).rule is not None


def _report_rules(
    ruleset: Ruleset, trial: Trial, question: _Question, paths: Sequence[str]
) -> Iterator[RuleReport]:
    resolution = trial.resolution
    for index, rule in enumerate(ruleset.rules):
        result: Result
        if rule is resolution.rule:
            result = "decides"
        elif not question.holds(rule):
            result = (
                "excepted" if rule.unless is not None and question.holds(replace(rule, unless=None)) else "no"
            )
        elif rule is resolution.observed:
            result = "observed"
        else:
            result = "not asked"
        yield RuleReport(index, rule, result, tuple(_report_conditions(rule, question, paths)))


def _report_conditions(rule: Rule, question: _Question, paths: Sequence[str]) -> Iterator[ConditionReport]:
    is_broad = protects(rule.policy)
    yield from _report_part("match", rule.match, rule.policy, question, paths)
    if rule.match.response is not None:
        yield from _report_response("match", rule.match.response, question.response, is_broad=is_broad)
    if rule.unless is not None:
        # The exception of an enforcing rule is read as strictly as a weakening rule, and the other way round.
        opposite = PASS if enforces(rule.policy) else STRICT
        yield from _report_part("unless", rule.unless, opposite, question, paths)
        if rule.unless.response is not None:
            yield from _report_response(
                "unless", rule.unless.response, question.response, is_broad=not is_broad
            )


def _report_part(
    part: Part, conditions: Conditions, policy: Policy, question: _Question, paths: Sequence[str]
) -> Iterator[ConditionReport]:
    def holds(single: Conditions) -> bool:
        return question.holds(Rule("alone", policy, match=single))

    is_broad = enforces(policy)
    if conditions.methods is not None:
        single = Conditions(methods=conditions.methods)
        yield ConditionReport(
            f"{part}.methods", _join(sorted(conditions.methods)), holds(single), _methods(question)
        )
    if conditions.paths is not None:
        note = _path_note([(glob, path_glob(glob)) for glob in conditions.paths], paths, is_broad=is_broad)
        single = Conditions(paths=conditions.paths)
        yield ConditionReport(f"{part}.paths", _join(conditions.paths), holds(single), _path(question), note)
    if conditions.path_regexes is not None:
        note = _path_note([(regex, regex) for regex in conditions.path_regexes], paths, is_broad=is_broad)
        single = Conditions(path_regexes=conditions.path_regexes)
        yield ConditionReport(
            f"{part}.path_regexes", _join(conditions.path_regexes), holds(single), _path(question), note
        )
    for condition in conditions.fields:
        key = "x_requested_with" if condition.by_member else f"headers.{condition.name}"
        single = Conditions(fields=(condition,))
        yield ConditionReport(
            f"{part}.{key}", _wanted(condition), holds(single), _seen(question, condition.name)
        )
    if conditions.script_request is not None:
        seen = "; ".join(f"{name}: {_seen(question, name)}" for name in (X_REQUESTED_WITH, SEC_FETCH_DEST))
        single = Conditions(script_request=conditions.script_request)
        yield ConditionReport(f"{part}.script_request", _bool(conditions.script_request), holds(single), seen)


def _report_response(
    part: Part, conditions: ResponseConditions, response: TrialResponse, *, is_broad: bool
) -> Iterator[ConditionReport]:
    key = f"{part}.response"
    facts = ResponseFacts(response.status, response.fields)
    for name, wanted, single, seen in (
        (
            "status",
            _join(conditions.statuses),
            ResponseConditions(statuses=conditions.statuses),
            str(response.status),
        ),
        (
            "content_types",
            _join(conditions.content_types),
            ResponseConditions(content_types=conditions.content_types),
            _first_line(response.fields, b"content-type"),
        ),
        (
            "attachment",
            "" if conditions.attachment is None else _bool(conditions.attachment),
            ResponseConditions(attachment=conditions.attachment),
            _first_line(response.fields, b"content-disposition"),
        ),
    ):
        if wanted:
            holds = facts.hold(single, is_broad=is_broad)
            is_known = holds is facts.hold(single, is_broad=not is_broad)
            note = "" if is_known else "the response leaves this open: what protects it counts"
            yield ConditionReport(f"{key}.{name}", wanted, holds, seen, note)


def _path_note(patterns: Sequence[tuple[str, str]], paths: Sequence[str], *, is_broad: bool) -> str:
    """Say which spelling of the path decided, where the one that was sent does not show it."""
    if is_broad:
        hits = [
            (text, path)
            for path in paths
            for text, expression in patterns
            if _matches(expression, path, is_broad=True)
        ]
        if hits and hits[0][1] != paths[0]:
            return f"{hits[0][0]} matches the spelling {hits[0][1]}"
        return ""
    misses = [
        path
        for path in paths
        if not any(_matches(expression, path, is_broad=False) for _, expression in patterns)
    ]
    if misses and misses[0] != paths[0]:
        return f"not for the spelling {misses[0]}, and it must hold for all"
    return ""


def _matches(expression: str, path: str, *, is_broad: bool) -> bool:
    return full_match(expression, path) or (is_broad and full_match(expression, with_other_end(path)))


def _methods(question: _Question) -> str:
    overrides = [
        f"{name.decode('latin-1')}: {value.decode('latin-1')}"
        for name in OVERRIDES
        if (value := question.fields.get(name))
    ]
    return "; ".join((question.method, *overrides))


def _path(question: _Question) -> str:
    return question.path.decode("utf-8", "backslashreplace")


def _wanted(condition: FieldCondition) -> str:
    if condition.present is not None:
        return "present" if condition.present else "absent"
    return _join(condition.globs)


def _seen(question: _Question, name: str) -> str:
    value = question.fields.get(name.lower().encode("latin-1"))
    return "absent" if value is None else value.decode("latin-1") or "empty"


def _first_line(fields: Sequence[Field], name: bytes) -> str:
    values = values_of(fields, name)
    return values[0].decode("latin-1") if values else "absent"


def _join(values: Sequence[str]) -> str:
    return ", ".join(values)


def _bool(value: bool) -> str:  # noqa: FBT001
    return "true" if value else "false"


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
        return "the gateway's own response, under the strict policy"
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
            return "belongs to the connection between app and gateway"
        case "content-length":
            return "a 204 has no content"
        case _:
            return "named in Connection: belongs to the connection between app and gateway"


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
