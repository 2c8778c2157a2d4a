"""The key `query`, in both readings."""

from __future__ import annotations

import pytest

from proxy.rules.engine.matching import Ruleset
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.query import Parameter
from proxy.rules.loading.loader import loads
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from tests.rules.making import conditions

BOTH, ONE, NONE = (True, True), (True, False), (False, False)


def readings(key: Parameter, target: bytes) -> tuple[bool, bool]:
    facts = Ruleset([Rule("r", STRICT, Conditions([key]))]).examine("GET", target, ())
    return key.holds(facts, "any"), key.holds(facts, "every")


@pytest.mark.parametrize(
    ("wanted", "query", "expected"),
    [
        (("list*",), b"a=list", BOTH),
        (("list*",), b"a=listing&b=x", BOTH),
        (("list*",), b"a=l%69st", BOTH),
        (("list*",), b"%61=list", BOTH),
        (("list*",), b"A=list", NONE),
        (("list*",), b"a=List", NONE),
        (("list*",), b"a=list&a=x", ONE),
        (("list*",), b"a=list&a=listing", BOTH),
        (("list*",), b"b=1;a=list", ONE),
        (("a b",), b"a=a+b", ONE),
        (("a+b",), b"a=a+b", ONE),
        (("a b",), b"a=a%20b", BOTH),
        (("a+b",), b"a=a%2Bb", BOTH),
        (("%zz",), b"a=%zz", BOTH),
        (("\xf6",), b"a=%C3%B6", ONE),  # an app may be set to latin-1
        (("\xf6",), b"a=%F6", ONE),
        (("%F6",), b"a=%F6", ONE),
        (("\ufffd",), b"a=%F6", ONE),
        (("",), b"a", BOTH),
        (("",), b"a=", BOTH),
        (("",), b"", NONE),
        (True, b"a", BOTH),
        (True, b"b=1;a", ONE),
        (True, b"", NONE),
        (False, b"", BOTH),
        (False, b"b=1;a", ONE),
        (False, b"a", NONE),
        (("list",), b"a=list#x", ONE),
        (("list",), b"a=list\xa0", ONE),
        (("list*",), b"a=list&b=" + b"x" * 9000, ONE),
        (False, b"b=" + b"x" * 9000, ONE),
        (("list",), b"b&" * 300 + b"a=list", ONE),
    ],
)
def test_parameter_holds_as_apps_read_it(wanted, query, expected):
    assert readings(Parameter("a", wanted), b"/p?" + query) == expected


def test_target_without_a_query_has_no_parameters():
    assert readings(Parameter("a", wanted=False), b"/p") == BOTH
    assert readings(Parameter("a", wanted=True), b"/p?") == NONE


def test_fragment_before_the_query_may_hide_it():
    assert readings(Parameter("a", wanted=True), b"/p#?a=1") == ONE


def test_rules_file_names_parameters():
    text = """
version: 1
rules:
  - name: a
    match: {query: {action: "list*", ajax: true, n: [1, 2], old: false, none: []}}
"""
    (rule,) = loads(text.encode(), "rules.yaml").rules
    assert rule.match == Conditions(
        [
            Parameter("action", ("list*",)),
            Parameter("ajax", wanted=True),
            Parameter("n", ("1", "2")),
            Parameter("old", wanted=False),
        ]
    )


def test_parameters_cover_each_other_as_fields_do():
    wide, narrow = Conditions([Parameter("a", ("x*",))]), Conditions([Parameter("a", ("xy",))])
    assert wide.covers(narrow)
    assert not wide.covers(Conditions([Parameter("A", ("xy",))]))
    assert not wide.covers(Conditions([Parameter("a", ("XY",))]))
    assert conditions().covers(narrow)
    assert not wide.covers(conditions())


def test_queries_do_not_flood_what_is_remembered():
    """Verdicts are remembered by what matches, so ever new queries push nothing else out."""
    ruleset = Ruleset([Rule("r", STRICT, Conditions([Parameter("action", ("list*",))]))])
    kept = ruleset.decide("GET", b"/p?action=list", ())
    for number in range(20_000):
        ruleset.decide("GET", b"/p?action=other%d&n=%d" % (number, number), ())
        ruleset.decide("GET", b"/p?action=list%d" % number, ())
    assert ruleset._verdicts == 2
    assert ruleset.decide("GET", b"/p?action=list", ()) is kept


def test_rules_that_do_not_ask_pay_nothing_for_queries():
    ruleset = Ruleset(
        [
            Rule("r", STRICT, conditions(paths=["/a"])),
            Rule("q", STRICT, Conditions([Parameter("x", wanted=True)])),
        ]
    )
    only_path = Ruleset([Rule("r", STRICT, conditions(paths=["/a"]))])
    assert only_path.decide("GET", b"/a?x=1", (None,) * len(only_path.field_names)).rule.name == "r"
    assert ruleset.decide("GET", b"/b?x=1", (None,) * len(ruleset.field_names)).rule.name == "q"


def test_explain_shows_the_query():
    key = Parameter("a", ("list*",))
    facts = Ruleset([Rule("r", STRICT, Conditions([key]))]).examine("GET", b"/p?a=list", ())
    assert (key.name, key.wanted, key.seen(facts)) == ("query.a", "list*", "a=list")
