"""The contract of containment: when it says that one glob covers another, no path tells otherwise."""

from __future__ import annotations

import fnmatch
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.rules.keys.glob_containment import glob_covers, may_agree, may_match_a_path
from proxy.rules.keys.globs import compile_quietly, path_glob
from proxy.rules.loading.loader import loads
from tests.rules.making import conditions, field_key, response_keys

COVERED = [
    ("/**", "/a/b"),
    ("/a/**", "/a/b"),
    ("/a/**", "/a/*"),
    ("/a/**", "/a/**/b"),
    ("/a/*", "/a/b"),
    ("/a/*", "/a/?"),
    ("/a/?", "/a/b"),
    ("/**/*.js", "/static/app.js"),
    ("/**/*.js", "/static/**/x.js"),
    ("/a/**/b", "/a/b"),
    ("/a/**/b", "/a/x/y/b"),
    ("/a*", "/ab*"),
    ("/a**", "/a/**"),
]
NOT_COVERED = [
    ("/a/*", "/a/**"),
    ("/a/?", "/a/*"),
    ("/a/**", "/a*"),
    ("/a/**", "/a"),
    ("/a/b", "/a/?"),
    ("/**/*.js", "/static/**"),
    ("/a/**/b", "/a/**"),
    ("/ab*", "/a*"),
]


@pytest.mark.parametrize(("wide", "narrow"), COVERED)
def test_a_wider_glob_covers(wide, narrow):
    assert glob_covers(wide, narrow)


@pytest.mark.parametrize(("wide", "narrow"), NOT_COVERED)
def test_a_glob_that_misses_a_path_does_not_cover(wide, narrow):
    assert not glob_covers(wide, narrow)


IMPLIED = [
    ("XMLHttpRequest", "XMLHttpRequest"),
    ("XMLHttpRequest", "xml*"),
    (["a", "b"], ["a", "b", "c"]),
    ("a*", ["a*", "x"]),
    ("a", True),
    ("a*", True),
    (True, True),
    (False, False),
]
NOT_IMPLIED = [
    ("a*", "a"),
    ("a", "b"),
    (True, "a"),
    ("a", False),
    (False, True),
    (["a", "b"], "a"),
    (False, "a"),
]


def asking(values):
    """Load `headers: {X: ...}` and the same for x_requested_with."""
    text = json.dumps({"version": 1, "rules": [{"name": "a", "match": {"headers": {"X": values}}}]})
    return loads(text.encode(), "rules.yaml").rules[0].match


@pytest.mark.parametrize(("known", "asked"), IMPLIED)
def test_a_condition_on_a_field_may_ensure_another(known, asked):
    assert asking(asked).covers(asking(known))


@pytest.mark.parametrize(("known", "asked"), NOT_IMPLIED)
def test_a_condition_on_a_field_does_not_ensure_more_than_it_says(known, asked):
    assert not asking(asked).covers(asking(known))


def test_a_condition_on_another_field_ensures_nothing():
    other = conditions(fields=(field_key("Y", present=True),))
    assert not asking(values=True).covers(other)
    assert conditions().covers(other)


def test_expressions_cover_some_of_themselves_and_no_globs():
    wide = conditions(path_regexes=("/a", "/b"))
    assert wide.covers(conditions(path_regexes=("/b",)))
    assert not wide.covers(conditions(path_regexes=("/b", "/c")))
    assert not wide.covers(conditions(paths=("/a",)))


def test_one_header_that_must_be_ajax_says_that_a_script_asks_and_another_does_not():
    scripts = conditions(script_request=True)
    assert scripts.covers(conditions(fields=(field_key("X-Requested-With", ["XMLHttpRequest"]),)))
    assert not scripts.covers(conditions(fields=(field_key("X-Requested-With", ["XMLHttpRequest", "x"]),)))
    assert not scripts.covers(conditions(fields=(field_key("X-Other", ["XMLHttpRequest"]),)))
    assert not scripts.covers(conditions(fields=(field_key("X-Requested-With", ["other"]),)))


def test_any_value_covers_a_member_of_a_list_and_a_value_does_not():
    member = conditions(fields=(field_key("X", ["a"], by_member=True),))
    assert conditions(fields=(field_key("X", present=True),)).covers(member)
    assert not conditions(fields=(field_key("X", ["a"]),)).covers(member)


def test_methods_stand_apart_only_from_other_methods():
    reading = conditions(methods=["GET"])
    assert reading.are_apart_from(conditions(methods=["POST"]))
    assert not reading.are_apart_from(conditions(methods=["HEAD", "POST"]))
    assert not reading.are_apart_from(conditions(paths=("/a",)))


def test_a_search_that_grows_too_large_claims_nothing():
    """The same pair is covered while it is short: each further `*a` adds a state to the search."""
    few, many = "/" + "*a" * 300, "/" + "*a" * 500
    assert glob_covers(f"{few}*", f"{few}*b")
    assert not glob_covers(f"{many}*", f"{many}*b")


GLOBS = st.lists(st.sampled_from(["/", "a", "b", "*", "**", "?", "/**/", "/a"]), max_size=6).map(
    lambda parts: re.sub(r"\*{3,}", "**", "/" + "".join(parts))
)


PATHS = [
    "/" + "".join(letters) for length in range(6) for letters in itertools.product("/abc", repeat=length)
]


@settings(max_examples=150, deadline=None)
@given(GLOBS, GLOBS)
def test_a_claim_agrees_with_every_short_path(wide, narrow):
    """Every path of up to six characters is tried."""
    wide_expression, narrow_expression = (compile_quietly(path_glob(glob)) for glob in (wide, narrow))
    witnesses = [p for p in PATHS if narrow_expression.fullmatch(p) and not wide_expression.fullmatch(p)]
    if glob_covers(wide, narrow):
        assert not witnesses


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("/a", True),
        (".*x", True),
        ("(?i:/A)", True),
        ("a?/b", True),
        ("a|/b", True),
        (r"\*", True),
        ("", False),
        ("a/.*", False),
        (r"\.json$", False),
        (r"\w+/x", False),
        ("(?i)api/.*", False),
    ],
)
def test_expression_that_no_path_begins_like(expression, expected):
    assert may_match_a_path(expression) is expected


@pytest.mark.parametrize(
    ("globs", "regexes", "expected"),
    [
        (("/a/**",), ("/a/[0-9]+",), True),
        (("/a/**",), ("/b/.*",), False),
        (("/a/**", "/b"), ("/b",), True),
        (("/a", "/c"), ("/b", "/d"), False),
        (("**.json",), ("/b.*",), True),
    ],
)
def test_globs_and_expressions_that_no_path_matches_both_of(globs, regexes, expected):
    assert may_agree(globs, regexes) is expected


TYPES = [["image/*"], ["image/png"], ["application/json", "text/*"], ["*"], ["*/json"], ["IMAGE/PNG"]]


@pytest.mark.parametrize(("one", "other"), [*itertools.product(TYPES, TYPES)])
def test_types_are_apart_if_none_matches_both(one, other):
    shown = ["image/png", "image/gif", "application/json", "text/html", "a/json"]
    both = [
        each
        for each in shown
        if all(any(fnmatch.fnmatch(each, glob.lower()) for glob in globs) for globs in (one, other))
    ]
    if _of_types(one).are_apart_from(_of_types(other)):
        assert not both
    elif not both:  # what it cannot tell by how they begin
        assert "*" in one[0][0] + other[0][0]


def _of_types(globs):
    return conditions(response=response_keys(content_types=tuple(globs)))


def test_conditions_are_apart_by_method_or_kind_of_download():
    get, post = conditions(methods=frozenset(("GET",))), conditions(methods=frozenset(("POST",)))
    assert get.are_apart_from(post)
    assert not get.are_apart_from(conditions())
    yes, no, any_type = (conditions(response=response_keys(attachment=a)) for a in (True, False, None))
    assert yes.are_apart_from(no)
    assert not yes.are_apart_from(yes)
    assert not yes.are_apart_from(any_type)
    assert not _of_types(["image/png"]).are_apart_from(yes)
