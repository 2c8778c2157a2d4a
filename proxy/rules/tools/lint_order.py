"""Warnings about the order of rules: a rule that an earlier one covers never applies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.rules.keys.fields import ASK_FOR_SCRIPTS, SEC_FETCH_DEST, X_REQUESTED_WITH, FieldKey, ScriptRequest
from proxy.rules.keys.key import Conditions, ResponseKey
from proxy.rules.keys.paths import PathKey
from proxy.rules.loading.diagnostics import Path
from proxy.rules.model import Rule
from proxy.rules.policies import protects
from proxy.rules.tools.cover_index import CoverIndex
from proxy.rules.tools.lint_policies import changes_nothing, enforces
from proxy.rules.tools.lint_rules import (
    asks_for_ajax,
    every_request,
    names_field,
    takes_every_path,
    takes_everything,
)

OrderDoubt = tuple[int, str, Path, str]
"""The index of a rule, a code of `lint.CODES` (empty: no doubt about this rule), where it stands, and what is said."""


def doubts_about_order(rules: Sequence[Rule]) -> Iterator[OrderDoubt]:
    """Find rules that keep others from applying. At least one item follows each rule, so that the caller may stop."""
    earlier = CoverIndex()
    earlier_paths = CoverIndex()
    fetch_paths = CoverIndex()
    for index, rule in enumerate(rules):
        if _sees_fetch(rule):
            fetch_paths.add(index, _without_fields(rule.match))
    for index, rule in enumerate(rules):
        if found := list(_about_unreachable(index, rules, earlier)):
            yield from found
        else:
            yield from _about_late_exception(index, rules, earlier_paths)
        yield from _about_fetch(index, rules, fetch_paths)
        yield from _about_plain_http(index, rules)
        yield from _about_idle_end(index, rules)
        yield index, "", (), ""
        earlier.add(index, rule.match)
        if _decides_alone(rule):
            earlier_paths.add(index, _paths(rule.match))


def _about_unreachable(index: int, rules: Sequence[Rule], earlier: CoverIndex) -> Iterator[OrderDoubt]:
    rule = rules[index]
    for at in earlier.candidates(rule.match):
        other = rules[at]
        if _shadows(other, rule):
            text = f"no request gets here: rules[{at}] ({other.name}) takes all of them before"
            if not enforces(rule.policy) and enforces(other.policy):
                text += ", and the first rule that matches decides; move this exception before it"
            else:
                text += "; move this rule before it, or delete one of the two"
            yield index, "unreachable-rule", ("name",), text
            return


def _shadows(earlier: Rule, later: Rule) -> bool:
    if earlier.mode == "observe" or (earlier.unless is not None and earlier.unless != later.unless):
        return False
    if not earlier.match.covers(later.match):
        return False
    # For an odd spelling of a path, a later enforcing rule may apply where a weakening rule does not.
    is_same_reading = enforces(earlier.policy) or not enforces(later.policy)
    if earlier.match.response:  # and of a 304, to one that protects
        is_same_reading = is_same_reading and (protects(earlier.policy) or not protects(later.policy))
    return is_same_reading


def _about_late_exception(index: int, rules: Sequence[Rule], earlier: CoverIndex) -> Iterator[OrderDoubt]:
    rule = rules[index]
    paths = _paths(rule.match)
    if not changes_nothing(rule.policy) or rule.mode == "observe" or not paths.keys:
        return
    for at in earlier.candidates(paths):
        if _comes_too_late(rule, paths, rules[at]):
            text = (
                f"this exception comes after rules[{at}] ({rules[at].name}), which decides first on the same "
                "paths; move it before that rule"
            )
            yield index, "late-exception", ("name",), text
            return


def _decides_alone(rule: Rule) -> bool:
    return rule.mode == "enforce" and enforces(rule.policy)


def _comes_too_late(exception: Rule, paths: Conditions, earlier: Rule) -> bool:
    return (
        not earlier.match.are_apart_from(exception.match)
        and _paths(earlier.match).covers(paths)
        and (earlier.unless is None or not _paths(earlier.unless).covers(paths))
    )


def _about_fetch(index: int, rules: Sequence[Rule], fetch_paths: CoverIndex) -> Iterator[OrderDoubt]:
    rule = rules[index]
    match = rule.match
    if not enforces(rule.policy) or match.get(ScriptRequest) is not None or not asks_for_ajax(match):
        return
    asked = _without_fields(match)
    for at in fetch_paths.candidates(asked):
        if at != index and _without_fields(rules[at].match).covers(asked):
            return
    text = (
        f"fetch() and axios send no {X_REQUESTED_WITH}, so their requests pass by this rule; ask for "
        f"{ASK_FOR_SCRIPTS} instead, here or in a second rule for the same paths"
    )
    key = "x_requested_with" if any(each.by_member for each in match.all(FieldKey)) else "headers"
    yield index, "x-requested-with-only", ("match", key), text


def _about_plain_http(index: int, rules: Sequence[Rule]) -> Iterator[OrderDoubt]:
    """Warn of rules that rely on what scripts send, where no other rule relies on path or response."""
    rule = rules[index]
    script = rule.match.get(ScriptRequest)
    if script is None or not script.is_wanted or not enforces(rule.policy):
        return
    if not takes_every_path(rule.match) or rule.match.response or any(map(_tells_data_without_fields, rules)):
        return
    text = (
        "over plain HTTP, but to localhost, browsers do not send Sec-Fetch-Dest, so a fetch() there passes by this "
        "rule; add a rule that goes by path or by response, such as content_types: [application/json]"
    )
    yield index, "script-request-only", ("match", "script_request"), text


def _tells_data_without_fields(rule: Rule) -> bool:
    match = rule.match
    if not _decides_alone(rule) or match.all(FieldKey) or match.get(ScriptRequest) is not None:
        return False
    return bool(match.response) or not takes_every_path(match)


def _sees_fetch(rule: Rule) -> bool:
    """Tell whether a rule protects `fetch()`: it names it, or it reads no request field."""
    if not enforces(rule.policy) or rule.mode == "observe":
        return False
    if names_field(rule.match, SEC_FETCH_DEST):
        return True
    script = rule.match.get(ScriptRequest)
    return not rule.match.all(FieldKey) and (script is None or script.is_wanted)


def _without_fields(conditions: Conditions) -> Conditions:
    return conditions.without(FieldKey, ScriptRequest, ResponseKey)


def _paths(conditions: Conditions) -> Conditions:
    return conditions.only(PathKey)


def _about_idle_end(index: int, rules: Sequence[Rule]) -> Iterator[OrderDoubt]:
    rule = rules[index]
    if rule is rules[-1] and takes_everything(rule) and changes_nothing(rule.policy):
        text = (
            f"takes {every_request(rule)} and changes nothing: what no rule matches is passed through anyway; "
            "delete this rule"
        )
        yield index, "matches-everything", ("match",), text
