"""The built-in policies are the table of `config/README.md`, and one's own are made from another."""

from __future__ import annotations

import pytest

from proxy.message.fields import FieldSection
from proxy.message.rewrite import Treatment
from proxy.rules.model import Policy
from proxy.rules.policies import (
    BUILT_IN,
    CLASSIC,
    PASS,
    REVALIDATE,
    STRICT,
    enforces,
    extend,
    protects,
    treatment,
)

EXPIRED = ("Expires", "Thu, 01 Dec 1994 16:00:00 GMT")
BYPASSES = {"surrogate-control", "*-cache-control", "edge-control", "age", "warning", "no-vary-search"}


@pytest.mark.parametrize(
    ("policy", "cache_control", "others", "validators", "conditionals"),
    [
        (
            "classic",
            "no-store, no-cache, must-revalidate, post-check=0, pre-check=0",
            {("Pragma", "no-cache"), EXPIRED, ("X-Accel-Expires", "0")},
            ("mark", "date"),
            "strip",
        ),
        (
            "strict",
            "no-store, no-cache, must-revalidate, max-age=0, private",
            {("Pragma", "no-cache"), EXPIRED, ("X-Accel-Expires", "0")},
            ("mark", "remove"),
            "strip",
        ),
        (
            "revalidate",
            "no-cache, must-revalidate, max-age=0, private",
            {EXPIRED},
            ("keep", "keep"),
            "keep",
        ),
    ],
)
def test_built_in_policy_is_the_one_of_the_table(policy, cache_control, others, validators, conditionals):
    built_in = BUILT_IN[policy]
    assert set(built_in.set_fields) == {("Cache-Control", cache_control), *others}
    assert (built_in.etag, built_in.last_modified) == validators
    assert built_in.conditionals == conditionals
    assert set(built_in.remove) == BYPASSES


def test_pass_does_nothing():
    assert Policy(name="pass") == PASS
    assert set(BUILT_IN) == {"classic", "strict", "revalidate", "pass"}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (CLASSIC, True),
        (STRICT, True),
        (REVALIDATE, False),
        (PASS, False),
        (Policy("own", set_fields=(("cache-control", "private, No-Store"),)), True),
        (Policy("own", set_fields=(("Cache-Control", 'private="no-store"'),)), False),
        (Policy("own", set_fields=(("Cache-Control", "x-no-store"),)), False),
        (Policy("own", set_fields=(("Surrogate-Control", "no-store"),)), False),
        (Policy("own", set_fields=(("Cache-Control", "no-store; private"),)), False),
        (Policy("own", set_fields=(("Cache-Control", "no-store=1, private"),)), False),
    ],
)
def test_policy_enforces_if_it_forbids_storing(policy, expected):
    """Every other one weakens, and matches only what it must."""
    assert enforces(policy) is expected


@pytest.mark.parametrize(
    ("cache_control", "expected"),
    [
        ("no-store", True),
        ("max-age=0, no-cache", True),
        ('no-cache="Set-Cookie"', False),
        ("max-age=60, must-revalidate", False),
    ],
)
def test_policy_protects_if_no_copy_is_used_unasked(cache_control, expected):
    assert protects(Policy("own", set_fields=(("Cache-Control", cache_control),))) is expected
    assert not protects(Policy("own"))


class Test_Extend:
    BASE = Policy(
        "base",
        set_fields=(("Cache-Control", "no-store"), ("Pragma", "no-cache")),
        remove=("age", "warning"),
        etag="mark",
        last_modified="date",
        conditionals="strip",
    )

    def test_nothing_given_keeps_everything_but_the_name(self):
        own = extend(self.BASE, "own")
        assert own.name == "own"
        assert extend(own, "base") == self.BASE

    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ({"X-A": "1"}, (("Cache-Control", "no-store"), ("Pragma", "no-cache"), ("X-A", "1"))),
            ({"pragma": "x"}, (("Cache-Control", "no-store"), ("pragma", "x"))),
            (
                {"X-B": "2", "CACHE-CONTROL": "private", "X-A": "1"},
                (("CACHE-CONTROL", "private"), ("Pragma", "no-cache"), ("X-B", "2"), ("X-A", "1")),
            ),
        ],
    )
    def test_fields_that_are_set_replace_in_place_or_follow(self, setting, expected):
        assert extend(self.BASE, "own", set_fields=setting).set_fields == expected

    def test_fields_that_are_removed_are_added_to_those_of_the_base(self):
        own = extend(self.BASE, "own", remove=["Server", "AGE", "X-A"])
        assert own.remove == ("age", "warning", "server", "x-a")

    def test_removing_a_field_that_the_base_sets_takes_the_setting_back(self):
        own = extend(self.BASE, "own", remove=["Pragma"])
        assert own.set_fields == (("Cache-Control", "no-store"),)
        assert "pragma" in own.remove

    def test_setting_a_field_that_the_base_removes_wins(self):
        own = extend(self.BASE, "own", set_fields={"Warning": "110"})
        assert ("Warning", "110") in own.set_fields
        assert own.remove == ("age",)

    def test_modes_given_replace_those_of_the_base(self):
        own = extend(self.BASE, "own", etag="keep", last_modified="remove", conditionals="keep")
        assert (own.etag, own.last_modified, own.conditionals) == ("keep", "remove", "keep")


def test_treatment_does_what_the_policy_says_with_vary_beside_it():
    fields = [(b"ETag", b'"v"'), (b"Age", b"7"), (b"CDN-Cache-Control", b"x"), (b"Cache-Control", b"public")]
    made = treatment(STRICT, ["X-Requested-With"])
    lines, noted, left_out = made.walk(FieldSection(fields))
    changed = left_out + made.apply(lines, noted, "GET", 200, b"now")
    assert changed == len(fields) + 1 + len(STRICT.set_fields)
    assert lines[0].startswith(b'ETag: "v;nc=')
    assert [line for line in lines[1:] if line] == [
        b"Vary: X-Requested-With",
        *[f"{name}: {value}".encode() for name, value in STRICT.set_fields],
    ]


def test_treatment_of_pass_changes_nothing():
    fields = [(b"ETag", b'"v"'), (b"Age", b"7"), (b"Cache-Control", b"public")]
    made: Treatment = treatment(PASS)
    lines, noted, left_out = made.walk(FieldSection(fields))
    assert made.apply(lines, noted, "GET", 200, b"now") == left_out == 0
    assert lines == [name + b": " + value for name, value in fields]
