"""Patterns on values: all at once, whatever their number, and bounded whatever is sent."""

from __future__ import annotations

import pytest

from proxy.rules.engine import value_sets
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.value_sets import MAX_COMPARED, MAX_MEMBERS, ValueSet
from proxy.rules.keys.facts import ABSENT, PRESENT
from proxy.rules.keys.globs import ValueGlob
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from tests.rules.making import conditions, decide, field_key


def test_thousand_literals_are_looked_up_and_not_compared():
    values = ValueSet()
    for number in range(1000):
        values.add(f"value v{number}")
        values.add(f"member m{number}")
    values.add("value v7")
    assert values.match("V7") == (frozenset((PRESENT, "value v7")),) * 2
    assert values.match("a, M9") == (frozenset((PRESENT, "member m9")),) * 2
    assert values.match(None) == (frozenset((ABSENT,)),) * 2
    assert not values._values._others


@pytest.mark.interpreted
def test_value_is_compared_with_what_rules_for_its_path_ask_only(monkeypatch):
    """A new value cost 28 ms with a thousand rules, as each of their expressions was compiled anew."""
    compared = []

    class Counted(ValueGlob):
        def matches_folded(self, value):
            compared.append(value)
            return super().matches_folded(value)

    monkeypatch.setattr(value_sets, "ValueGlob", Counted)
    rules = [
        Rule(f"r{n}", STRICT, conditions(paths=[f"/{n}/**"], fields=[field_key("X-T", [f"*v{n}*"])]))
        for n in range(1000)
    ]
    ruleset = Ruleset(rules)
    assert decide(ruleset, "GET", b"/7/x", {b"x-t": b"av7b"}).rule.name == "r7"
    assert len(compared) == 1


@pytest.mark.parametrize(
    "value", ["a" * (MAX_COMPARED + 1), "a," * MAX_MEMBERS], ids=["long", "many members"]
)
def test_what_is_too_much_is_not_compared(value):
    values = ValueSet()
    values.add("member a")
    sure, possible = values.match(value)
    assert "member a" in possible
    assert "member a" not in sure
