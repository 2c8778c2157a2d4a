"""The difference between two versions of the rules, as the log of a reload tells it."""

from __future__ import annotations

import pytest

from proxy.rules.loading import loader
from proxy.rules.tools.difference import compare

RULES = {
    "a": "{name: a, match: {paths: [/a]}}",
    "b": "{name: b, match: {x_requested_with: XMLHttpRequest}}",
    "c": "{name: c, match: {headers: {Accept: '*json*'}, response: {status: [200]}}, unless: {paths: [/c]}}",
    "own": "{name: own, match: {path_regexes: ['/x.*']}, policy: mine}",
}


def rules(*texts: str, etag: str = "keep"):
    listed = ", ".join(RULES.get(text, text) for text in texts)
    policies = f"policies: {{mine: {{extends: strict, etag: {etag}}}}}"
    return loader.loads(f"version: 1\nrules: [{listed}]\n{policies}\n".encode(), "rules.yaml").rules


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (rules("a", "b", "c", "own"), rules("a", "b", "c", "own"), "no rule changed"),
        (rules("a"), rules("a", "b", "c"), "added b c"),
        (rules("a", "b", "c"), rules("b"), "removed a c"),
        (rules("a", "b"), rules("b", "a"), "order changed"),
        (rules("a", "b"), rules("{name: a, match: {paths: [/b]}}", "b"), "changed a"),
        (rules("a"), rules("{name: a, match: {paths: [/a]}, because: of it}"), "changed a"),
        (rules("a"), rules("{name: a, match: {paths: [/a]}, mode: observe}"), "changed a"),
        (rules("a", "own"), rules("a", "own", etag="remove"), "changed own"),
        (rules("a", "b"), rules("c", "{name: b}"), "added c, changed b, removed a"),
        (rules(), rules(*(f"{{name: r{n}}}" for n in range(22))), "added " + " ".join(f"r{n}" for n in range(20)) + " and 2 more"),
    ],
)  # fmt: skip
def test_rules_are_told_by_name(before, after, text):
    assert str(compare(before, after)) == text
