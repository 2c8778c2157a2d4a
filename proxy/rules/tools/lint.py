"""Warnings: what a rules file may say, and its author probably did not mean. Each says why and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from proxy.message.directives import parse_directives
from proxy.rules.engine.matching import SEC_FETCH_DEST, X_REQUESTED_WITH
from proxy.rules.loading.diagnostics import Mistake, Path, show_text
from proxy.rules.loading.loader import RulesFile
from proxy.rules.model import Conditions, FieldCondition, Policy, Rule
from proxy.rules.policies import PASS, cache_control, protects
from proxy.rules.tools.containment import are_apart, covers, covers_paths
from proxy.rules.tools.lint_paths import doubts_about_paths
from proxy.rules.tools.lint_policies import doubts_about, enforces

CODES: Final = {
    "no-rules": "the file has no rule",
    "unreachable-rule": "a rule that an earlier rule leaves nothing to",
    "never-applies": "a rule whose `unless` takes all that its `match` gives",
    "late-exception": "a `pass` rule after the rule that it is to be an exception of",
    "matches-everything": "a rule that takes every request, or every GET",
    "x-requested-with-only": "a rule that does not see fetch(), which sends no X-Requested-With",
    "post-navigation": "no-store on the answer to a form",
    "pass-by-field": "a client can turn protection off with a request field",
    "costly-vary": "a field in Vary that differs from client to client",
    "classic-for-shared-caches": "a Cache-Control that some CDNs do not honour",
    "unused-policy": "a policy of your own that no rule uses",
    "malformed-directive": "a Cache-Control directive that many caches cannot read",
    "weakened-policy": "a policy that extends an enforcing one and lets caches store",
    "unknown-directive": "a Cache-Control directive that no cache knows",
    "undone-no-store": "a Cache-Control directive that takes no-store back",
    "validators-kept": "a policy that forbids storing and lets caches revalidate",
    "bypasses-kept": "a policy that forbids storing and passes fields that some caches obey before",
    "idle-observer": "a rule that observes a policy which changes nothing",
    "encoded-path": "a path with percent-encoding, where paths are compared decoded",
    "query-in-path": "a path with a query, which is no part of what paths are compared with",
    "foreign-pattern": "a glob in the language of routes or regular expressions",
    "regex-without-slash": "a regular expression that matches no path",
    "unfinished-regex": "a regular expression that matches one path, and looks like the beginning of many",
    "glob-in-regex": "a glob where a regular expression is asked for",
    "apart": "globs and regular expressions of one rule that no path matches both of",
    "part-of-a-value": "a part of a field's value where the whole is compared",
    "status-304": "a condition on a status that this rule's policy prevents",
    "lost-304": "a condition on responses that costs every other response on these paths its 304",
}
"""Every code, with what it stands for."""

_NAVIGATION_FIELDS: Final = frozenset(("sec-fetch-dest", "sec-fetch-mode", "accept", "x-requested-with"))
_DIFFERS_PER_CLIENT: Final = {
    "cookie": "every user, often every request, has its own",
    "user-agent": "there are thousands of them",
    "authorization": "every user has its own",
    "referer": "every page has its own",
    "x-forwarded-for": "every client has its own",
}


def lint(rules_file: RulesFile) -> list[Mistake]:
    """Find what is doubtful in a rules file that can be used.

    Returns:
        Warnings in the order of the file, each with a `code` of `CODES`.
    """
    checks = (_lint_file, _lint_rules, _lint_scripts, _lint_policies)
    return sorted({mistake for check in checks for mistake in check(rules_file)})


def _lint_file(rules_file: RulesFile) -> Iterator[Mistake]:
    if not rules_file.rules:
        text = "there are no rules, so every response is passed through as it is; write at least one rule"
        yield rules_file.document.mistake(("rules",), text, code="no-rules")


def _lint_rules(rules_file: RulesFile) -> Iterator[Mistake]:
    for index, rule in enumerate(rules_file.rules):

        def warn(code: str, text: str, *steps: str | int, at: int = index) -> Mistake:
            path: Path = ("rules", at, *steps)
            return rules_file.document.mistake(path, text, code=code)

        earlier = rules_file.rules[:index]
        for check in _RULE_CHECKS:
            yield from check(rule, rules_file.rules, earlier, warn)


Warn = Callable[..., Mistake]
_RuleCheck = Callable[[Rule, Sequence[Rule], Sequence[Rule], Warn], Iterator[Mistake]]


def _order(rule: Rule, _rules: Sequence[Rule], earlier: Sequence[Rule], warn: Warn) -> Iterator[Mistake]:
    for index, other in enumerate(earlier):
        if _shadows(other, rule):
            text = f"no request gets here: rules[{index}] ({other.name}) takes all of them before"
            if not enforces(rule.policy) and enforces(other.policy):
                text += ", and the first rule that matches decides; move this exception before it"
            else:
                text += "; move this rule before it, or delete one of the two"
            yield warn("unreachable-rule", text, "name")
            return
    for index, other in enumerate(earlier):
        if _is_pass(rule.policy) and _comes_too_late(rule, other):
            text = (
                f"this exception comes after rules[{index}] ({other.name}), which decides first on the same "
                "paths; move it before that rule"
            )
            yield warn("late-exception", text, "name")
            return


def _shadows(earlier: Rule, later: Rule) -> bool:
    if earlier.mode == "observe" or (earlier.unless is not None and earlier.unless != later.unless):
        return False
    # Of an odd spelling of a path a weakening rule may leave something to an enforcing one.
    is_same_reading = enforces(earlier.policy) or not enforces(later.policy)
    if earlier.match.response is not None:  # and of a 304, to one that protects
        is_same_reading = is_same_reading and (protects(earlier.policy) or not protects(later.policy))
    return is_same_reading and covers(earlier.match, later.match)


def _comes_too_late(exception: Rule, earlier: Rule) -> bool:
    if earlier.mode == "observe" or exception.mode == "observe" or not enforces(earlier.policy):
        return False
    excepted = earlier.unless
    is_excepted_there = excepted is not None and covers_paths(excepted, exception.match)
    named_paths = exception.match.paths is not None or exception.match.path_regexes is not None
    return (
        named_paths
        and not is_excepted_there
        and not are_apart(earlier.match, exception.match)
        and covers_paths(earlier.match, exception.match)
    )


def _applies(rule: Rule, _rules: Sequence[Rule], _earlier: Sequence[Rule], warn: Warn) -> Iterator[Mistake]:
    if rule.unless is not None and covers(rule.unless, rule.match):
        what = "applies to nothing but odd spellings" if enforces(rule.policy) else "never applies"
        text = (
            f"'unless' holds for all that 'match' holds for, so this rule {what}; make one of them narrower"
        )
        yield warn("never-applies", text, "unless")
    if rule.mode == "observe" and _is_pass(rule.policy):
        text = (
            f"policy {rule.policy.name} changes nothing, so there is nothing to observe; name the policy to "
            "try out"
        )
        yield warn("idle-observer", text, "mode")


def _breadth(rule: Rule, _rules: Sequence[Rule], _earlier: Sequence[Rule], warn: Warn) -> Iterator[Mistake]:
    match = rule.match
    is_broad = covers_paths(match, Conditions()) and not _reads_fields(match) and match.response is None
    if rule.unless is not None or not is_broad or not (match.methods is None or "GET" in match.methods):
        return
    what = "every request" if match.methods is None else "every GET"
    if _is_pass(rule.policy):
        text = (
            f"takes {what} and changes nothing: what no rule matches is passed through anyway; delete this "
            "rule"
        )
        if _earlier_is_last(rule, _rules):
            yield warn("matches-everything", text, "match")
    elif enforces(rule.policy):
        text = (
            f"takes {what}, static files and pages too, so that nothing of this app is cached any more and "
            "Back gets slower; name paths, or ask for script_request: true"
        )
        yield warn("matches-everything", text, "match")


def _earlier_is_last(rule: Rule, rules: Sequence[Rule]) -> bool:
    return rules[-1] is rule


def _lint_scripts(rules_file: RulesFile) -> Iterator[Mistake]:
    for_fetch = [rule for rule in rules_file.rules if _takes_fetch(rule)]
    for index, rule in enumerate(rules_file.rules):
        match = rule.match
        if not enforces(rule.policy) or match.script_request is not None or not _asks_for_ajax(match):
            continue
        if any(_takes_at_least(other.match, match) for other in for_fetch if other is not rule):
            continue
        text = (
            "fetch() and axios send no X-Requested-With, so their requests pass by this rule; ask for "
            "script_request: true instead, here or in a second rule for the same paths"
        )
        key = "x_requested_with" if any(condition.by_member for condition in match.fields) else "headers"
        yield rules_file.document.mistake(("rules", index, "match", key), text, code="x-requested-with-only")


def _takes_fetch(rule: Rule) -> bool:
    """Whether a rule protects `fetch()`: by script_request, or by asking no field."""
    match = rule.match
    if not enforces(rule.policy) or rule.mode == "observe":
        return False
    if _names(match.fields, SEC_FETCH_DEST):
        return True
    return not match.fields and match.script_request is not False


def _takes_at_least(wide: Conditions, narrow: Conditions) -> bool:
    """Whether one takes the methods and paths of the other."""
    is_same_methods = wide.methods is None or (narrow.methods is not None and narrow.methods <= wide.methods)
    return is_same_methods and covers_paths(wide, narrow)


def _asks_for_ajax(match: Conditions) -> bool:
    return any(c.name.lower() == X_REQUESTED_WITH.lower() and c.present is not False for c in match.fields)


def _forms(rule: Rule, _rules: Sequence[Rule], _earlier: Sequence[Rule], warn: Warn) -> Iterator[Mistake]:
    match = rule.match
    if (
        not enforces(rule.policy)
        or _tells_navigations(match)
        or (rule.unless and _tells_navigations(rule.unless))
    ):
        return
    is_named = match.methods is not None and "POST" in match.methods
    is_broad = match.methods is None and covers_paths(match, Conditions())
    types = match.response.content_types if match.response else ()
    if (is_named or is_broad) and not (
        types and not any("html" in glob or glob.startswith("*") for glob in types)
    ):
        text = (
            "takes the answers to forms (POST) too: with no-store, Back says that the page has expired and "
            "asks to send the form again; name methods without POST, or ask for script_request: true"
        )
        yield warn("post-navigation", text, "match", *(("methods",) if is_named else ()))


def _tells_navigations(conditions: Conditions) -> bool:
    return conditions.script_request is not None or any(
        condition.name.lower() in _NAVIGATION_FIELDS for condition in conditions.fields
    )


def _fields(rule: Rule, _rules: Sequence[Rule], _earlier: Sequence[Rule], warn: Warn) -> Iterator[Mistake]:
    if not enforces(rule.policy) and rule.mode == "enforce":
        decisive = [c for c in rule.match.fields if c.present is not False]
        if decisive or rule.match.script_request:
            name = decisive[0].name if decisive else X_REQUESTED_WITH
            text = (
                f"any client can turn protection off by sending {name}, and a cache that does not heed Vary "
                "mixes both; name paths, or response conditions"
            )
            yield warn("pass-by-field", text, "match")
    for part, conditions in (("match", rule.match), ("unless", rule.unless)):
        for condition in conditions.fields if conditions else ():
            glob = next((glob for glob in condition.globs if _is_part(condition.name, glob)), None)
            if glob is not None:
                text = (
                    f"{show_text(glob)} is compared with the whole of {condition.name}, which is longer; write "
                    f"{show_text(f'*{glob}*')}"
                )
                yield warn("part-of-a-value", text, part, "headers", condition.name)
            why = _DIFFERS_PER_CLIENT.get(condition.name.lower())
            if why is not None:
                text = (
                    f"{condition.name} goes into Vary on these paths, and {why}: shared caches can keep "
                    "nothing there; ask for another field"
                )
                yield warn("costly-vary", text, part, "headers", condition.name)


def _is_part(name: str, glob: str) -> bool:
    """Whether no client sends this and nothing more."""
    if "*" in glob or "?" in glob:
        return False
    return (name.lower() == "cookie" and "=" not in glob) or (
        name.lower() == "user-agent" and "/" not in glob
    )


def _shared_caches(
    rule: Rule, _rules: Sequence[Rule], _earlier: Sequence[Rule], warn: Warn
) -> Iterator[Mistake]:
    if not enforces(rule.policy) or _asks_for_ajax(rule.match):
        return
    directives = {
        directive.name: directive.argument for directive in parse_directives(cache_control(rule.policy))
    }
    if "private" not in directives and directives.get("max-age") != "0":
        text = (
            f"the Cache-Control of policy {rule.policy.name} has neither private nor max-age=0, which is "
            "what Fastly and others go by; use strict for responses that a CDN may see"
        )
        yield warn("classic-for-shared-caches", text, "policy")


def _paths(rule: Rule, _rules: Sequence[Rule], _earlier: Sequence[Rule], warn: Warn) -> Iterator[Mistake]:
    for part, conditions in (("match", rule.match), ("unless", rule.unless)):
        for code, steps, text in doubts_about_paths(conditions) if conditions else ():
            yield warn(code, text, part, *steps)


def _not_modified(
    rule: Rule, rules: Sequence[Rule], earlier: Sequence[Rule], warn: Warn
) -> Iterator[Mistake]:
    match, unless = rule.match, rule.unless
    if match.response and "304" in match.response.statuses and rule.policy.conditionals == "strip":
        text = f"policy {rule.policy.name} strips the conditions off requests, so no 304 comes back; leave 304 out"
        yield warn("status-304", text, "match", "response", "status")
    if match.response is not None and _is_pass(rule.policy) and rule.mode == "enforce":
        for index, later in enumerate(rules[len(earlier) + 1 :], len(earlier) + 1):
            if _strips_everything(later) and not are_apart(later.match, match):
                text = (
                    "which responses are excepted is known too late to leave the conditions on requests, which "
                    f"rules[{index}] ({later.name}) strips: these are not answered 304 either; name paths"
                )
                yield warn("lost-304", text, "match", "response")
                return
    if not _strips_everything(rule):
        return
    if match.response is not None:
        text = (
            "which responses match is known too late to leave the conditions on requests, so nothing on "
            "these paths is answered 304 any more; name paths, or use a policy with conditionals: keep if "
            "no 200 can match"
        )
        yield warn("lost-304", text, "match", "response")
    elif unless is not None and unless.response is not None and unless.paths is unless.path_regexes is None:
        text = (
            "which responses are excepted is known too late to leave the conditions on requests, so these are "
            "not answered 304 either; name paths"
        )
        yield warn("lost-304", text, "unless", "response")


def _strips_everything(rule: Rule) -> bool:
    is_broad = covers_paths(rule.match, Conditions()) and not _reads_fields(rule.match)
    return is_broad and rule.policy.conditionals == "strip" and rule.mode == "enforce"


_RULE_CHECKS: Final[tuple[_RuleCheck, ...]] = (
    _order,
    _applies,
    _breadth,
    _forms,
    _fields,
    _shared_caches,
    _paths,
    _not_modified,
)


def _lint_policies(rules_file: RulesFile) -> Iterator[Mistake]:
    bases = rules_file.bases
    used = {rule.policy.name for rule in rules_file.rules}
    for name in tuple(used):
        while name in bases:
            name = bases[name]  # noqa: PLW2901 - walks down the chain
            used.add(name)
    for name in bases:
        policy, base = rules_file.policies[name], rules_file.policies[bases[name]]
        if name not in used:
            text = "no rule uses this policy; name it under 'policy' of a rule, or delete it"
            yield rules_file.document.mistake(("policies", name), text, key=True, code="unused-policy")
        reuses = any(_may_enforce_success(rule) for rule in rules_file.rules if rule.policy.name == name)
        for code, steps, text in doubts_about(policy, base):
            if code == "validators-kept" and not reuses:
                continue
            yield rules_file.document.mistake(("policies", name, *steps), text, code=code)


def _may_enforce_success(rule: Rule) -> bool:
    """Whether a rule can apply to a response that a later 304 could bring back."""
    statuses = rule.match.response.statuses if rule.match.response else ()
    return not statuses or any(status[0] in "23" for status in statuses)


def _is_pass(policy: Policy) -> bool:
    """Whether a policy changes nothing, by whatever name."""
    return (policy.set_fields, policy.remove, policy.etag, policy.last_modified, policy.conditionals) == (
        (PASS.set_fields, PASS.remove, PASS.etag, PASS.last_modified, PASS.conditionals)
    )


def _reads_fields(conditions: Conditions) -> bool:
    return bool(conditions.fields) or conditions.script_request is not None


def _names(conditions: Sequence[FieldCondition], name: str) -> bool:
    return any(
        condition.name.lower() == name.lower() and condition.present is not False for condition in conditions
    )
