"""Warnings about a valid rules file: what its author probably did not mean, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.rules.keys.response import Statuses
from proxy.rules.loading.diagnostics import Mistake
from proxy.rules.loading.loader import RulesFile
from proxy.rules.model import Rule
from proxy.rules.tools.lint_order import doubts_about_order
from proxy.rules.tools.lint_paths import doubts_about_paths
from proxy.rules.tools.lint_policies import doubts_about
from proxy.rules.tools.lint_rules import RULE_CHECKS
from proxy.rules.tools.lint_values import doubts_about_values

CODES: Final = {
    "no-rules": "the file has no rule",
    "unreachable-rule": "a rule that an earlier rule leaves nothing to",
    "never-applies": "a rule whose `unless` takes all that its `match` gives",
    "late-exception": "a `pass` rule that stands after the rule it is meant to except from",
    "matches-everything": "a rule that takes every request, or every GET",
    "x-requested-with-only": "a rule that does not see fetch(), which sends no X-Requested-With",
    "script-request-only": "a rule that does not see fetch() over plain HTTP, where browsers do not say who asks",
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
    "unknown-value": "a field's value that no client sends",
    "unknown-media-type": "a media type that does not exist",
    "part-of-a-value": "a part of a field's value where the whole is compared",
    "unknown-method": "a method that is spelt nearly like a registered one",
    "fonts": "a rule that keeps Internet Explorer from showing web fonts",
    "status-304": "a condition on a status that this rule's policy prevents",
}
"""Every code, with what it stands for."""


def lint(rules_file: RulesFile) -> list[Mistake]:
    """Find what is doubtful in a valid rules file.

    Returns:
        Warnings in the order of the file, each with a `code` of `CODES`.
    """
    return sorted({mistake for found in steps(rules_file) for mistake in found})


def steps(rules_file: RulesFile) -> Iterator[list[Mistake]]:
    """Lint in small steps, about one for each rule, so that the caller may stop after each.

    Yields:
        The warnings of one step, in no order and some of them twice; mostly none.
    """
    if not rules_file.rules:
        text = "there are no rules, so every response is passed through as it is; write at least one rule"
        yield [rules_file.document.mistake(("rules",), text, code="no-rules")]
    for index, rule in enumerate(rules_file.rules):
        yield [
            rules_file.document.mistake(("rules", index, *path), text, code=code)
            for check in RULE_CHECKS
            for code, path, text in check(rule)
        ] + [
            rules_file.document.mistake(("rules", index, part, *path), text, code=code)
            for part, conditions in (("match", rule.match), ("unless", rule.unless))
            if conditions is not None
            for code, path, text in (*doubts_about_paths(conditions), *doubts_about_values(conditions))
        ]
    for index, code, path, text in doubts_about_order(rules_file.rules):
        yield [rules_file.document.mistake(("rules", index, *path), text, code=code)] if code else []
    for name in rules_file.bases:
        yield list(_lint_policy(rules_file, name))


def _lint_policy(rules_file: RulesFile, name: str) -> Iterator[Mistake]:
    bases = rules_file.bases
    if name not in _used_policies(rules_file):
        text = "no rule uses this policy; name it under 'policy' of a rule, or delete it"
        yield rules_file.document.mistake(("policies", name), text, key=True, code="unused-policy")
    may_renew = any(rule.policy.name == name and _may_take_success(rule) for rule in rules_file.rules)
    for code, steps_below, text in doubts_about(rules_file.policies[name], rules_file.policies[bases[name]]):
        if code != "validators-kept" or may_renew:
            yield rules_file.document.mistake(("policies", name, *steps_below), text, code=code)


def _used_policies(rules_file: RulesFile) -> set[str]:
    used = set()
    for rule in rules_file.rules:
        name: str | None = rule.policy.name
        while name is not None and name not in used:
            used.add(name)
            name = rules_file.bases.get(name)
    return used


def _may_take_success(rule: Rule) -> bool:
    """Tell whether a rule can apply to a response that a later 304 could bring back."""
    statuses = rule.match.get(Statuses)
    return statuses is None or any(status[0] in "23" for status in statuses.statuses)
