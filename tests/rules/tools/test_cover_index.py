"""Lint compares few rules with each other, and misses none that covers another."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings

from proxy.rules.keys.key import Conditions
from proxy.rules.loading.loader import loads
from proxy.rules.tools import lint
from proxy.rules.tools.cover_index import CoverIndex
from tests.rules import strategies
from tests.rules.making import conditions, field_key


@settings(max_examples=300, deadline=None)
@given(strategies.rules_files(most=8))
def test_whatever_covers_is_among_the_candidates(tree):
    rules = loads(yaml.safe_dump(tree).encode(), "rules.yaml").rules
    index = CoverIndex()
    for number, wide in enumerate(rules):
        index.add(number, wide.match)
    for narrow in rules:
        covering = {n for n, wide in enumerate(rules) if wide.match.covers(narrow.match)}
        assert covering <= set(index.candidates(narrow.match))


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (conditions(paths=["/a/**/b"]), conditions(paths=["/a/b"])),
        (conditions(paths=["/a**"]), conditions(paths=["/a/**"])),
        (conditions(paths=["/a/**/b/*"]), conditions(paths=["/a/b/c"])),
        (conditions(paths=["/**/*.js"]), conditions(paths=["/static/app.js"])),
        (conditions(paths=["/x", "/a/*"]), conditions(paths=["/a/b", "/x"])),
        (
            conditions(fields=[field_key("A", ["v*", "x"])]),
            conditions(paths=["/a"], fields=[field_key("B", ["y"]), field_key("a", ["V1"])]),
        ),
        (conditions(fields=[field_key("A", present=True)]), conditions(fields=[field_key("A", ["v*"])])),
        (
            conditions(script_request=True),
            conditions(fields=[field_key("X-Requested-With", ["xmlhttprequest"], by_member=True)]),
        ),
    ],
)
def test_conditions_that_are_found_in_another_place(wide, narrow):
    index = CoverIndex()
    index.add(7, wide)
    assert wide.covers(narrow)
    assert index.candidates(narrow) == [7]


def rules_on_one_path(count: int, **match: object) -> bytes:
    """Rules of which none covers another."""
    rules = [
        {
            "name": f"r{n}",
            "match": json.loads(json.dumps({"paths": ["/api/**"], **match}).replace("{n}", str(n))),
        }
        for n in range(count)
    ]
    return json.dumps({"version": 1, "rules": rules}).encode()


@pytest.mark.interpreted
@pytest.mark.parametrize(
    "match",
    [
        {"headers": {"X-Tenant": "t{n}"}},
        {"headers": {"X-Tenant": "*t{n}*"}},
        {"path_regexes": ["/api/{n}/.*"]},
        {"response": {"content_types": ["a/{n}"]}},
    ],
    ids=lambda match: next(iter(match)),
)
def test_thousand_rules_on_one_path_are_not_compared_pair_by_pair(monkeypatch, match):
    """Half a million comparisons took 20 s, during which no other file was read and no signal heard."""
    compared = 0
    covers = Conditions.covers

    def counted(self, narrow):
        nonlocal compared
        compared += 1
        return covers(self, narrow)

    monkeypatch.setattr(Conditions, "covers", counted)
    lint.lint(loads(rules_on_one_path(1000, **match), "rules.yaml"))
    assert compared < 20_000


def test_lint_can_be_ended_after_each_rule():
    rules_file = loads(rules_on_one_path(200), "rules.yaml")
    steps = list(lint.steps(rules_file))
    assert len(steps) >= 400, "a look at each rule, and one at its place among the others"
    assert {mistake for found in steps for mistake in found} == set(lint.lint(rules_file))
