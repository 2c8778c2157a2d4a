"""Keys on request fields and on a response's head, one at a time, in both readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.engine.value_sets import MAX_COMPARED, MAX_MEMBERS
from proxy.rules.keys.facts import ResponseFacts, kind_of
from proxy.rules.keys.fields import ScriptRequest
from proxy.rules.keys.globs import full_match, value_expression, value_matches
from tests.rules.making import field_key, readings_that_hold, response_keys

GLOBS = st.lists(st.text("ab*?, x", min_size=1, max_size=4), min_size=1, max_size=3)
VALUES = st.text("aAbx,, \t", max_size=8).map(str.strip)  # as field values are
XHR = field_key("X-Requested-With", ["XMLHttpRequest"], by_member=True)
SCRIPT = ScriptRequest(is_wanted=True)
NO_SCRIPT = ScriptRequest(is_wanted=False)
BOTH, ONE, NONE = (True, True), (True, False), (False, False)


@given(st.text("aB*?x", max_size=6), st.text("aAbBx\xe9", max_size=8))
def test_glob_matches_what_its_expression_does(glob, value):
    """Comparing piece by piece says the same as RE2."""
    assert value_matches(glob, value) is full_match(f"(?i){value_expression(glob)}", value)


@given(GLOBS, VALUES)
def test_a_list_is_asked_as_a_whole_and_member_by_member(globs, value):
    asked = [value, *(member.strip(" \t") for member in value.split(","))]
    expected = any(value_matches(glob, each) for glob in globs for each in asked)
    key = field_key("X", globs, by_member=True)
    assert readings_that_hold(key, x=value.encode()) == (expected, expected)


@given(
    st.lists(
        st.sampled_from(["XMLHttpRequest", "xmlhttprequest", "XMLHttpReque\u00dft", "", " ", "\t", ",", "x"])
    )
)
def test_script_request_has_a_member_that_says_so(parts):
    value = "".join(parts)
    members = [member.strip(" \t").lower() for member in value.split(",")]
    holds = readings_that_hold(SCRIPT, x_requested_with=value.encode("latin-1"))
    assert holds[0] is ("xmlhttprequest" in members)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (XHR, b"XMLHttpRequest", True),
        (XHR, b"xmlhttprequest", True),
        (XHR, b"x, XMLHttpRequest", True),
        (XHR, b"x,\tXMLHttpRequest ", True),
        (XHR, b"XMLHttpRequests", False),
        (XHR, b"", False),
        (XHR, None, False),
        (field_key("X-Requested-With", ["a", "b*"]), b"Bc", True),
        (field_key("X-Requested-With", ["a", "b*"]), b"a, b", False),
        (field_key("X-Requested-With", ["*, b"]), b"a, b", True),
        (field_key("X-Requested-With", ["caf?"]), b"caf\xe9", True),
        (field_key("X-Requested-With", present=True), b"", True),
        (field_key("X-Requested-With", present=True), None, False),
        (field_key("X-Requested-With", present=False), None, True),
        (field_key("X-Requested-With", present=False), b"x", False),
    ],
)
def test_condition_on_a_field(key, value, expected):
    assert readings_that_hold(key, x_requested_with=value) == (expected, expected)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"v\xa0", ONE),  # wsgiref takes off all that Python calls white space
        (b"\x85v", ONE),
        (b"v \xa0\x85", ONE),
        ((b"v", b"x"), ONE),  # some apps see the first line, some the last, most both joined
        ((b"x", b"v"), ONE),
        ((b"x", b"v", b"x"), NONE),
        ((b"v", b"v"), ONE),
        ((b"v\xa0", b"x"), ONE),
        (b"x", NONE),
    ],
)
def test_value_that_apps_read_differently_holds_in_any_reading_only(sent, expected):
    assert readings_that_hold(field_key("X-A", ["v"]), x_a=sent) == expected


@pytest.mark.parametrize("glob", ["a, b", "a,b"])
def test_lines_may_be_joined_with_or_without_a_space(glob):
    assert readings_that_hold(field_key("X-A", [glob]), x_a=(b"a", b"b")) == ONE


def test_presence_is_the_same_in_every_reading():
    for sent in (b"", b"x\xa0", (b"a", b"b")):
        assert readings_that_hold(field_key("X-A", present=True), x_a=sent) == BOTH
        assert readings_that_hold(field_key("X-A", present=False), x_a=sent) == NONE


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        (field_key("X-A", ["*x*"]), b"a" * (MAX_COMPARED + 1)),
        (XHR, b"a" * (MAX_COMPARED + 1)),
        (XHR, b"a," * MAX_MEMBERS),
    ],
    ids=["value", "member of a long value", "one of many members"],
)
def test_value_that_is_too_long_to_be_compared_holds_in_any_reading_only(key, sent):
    """What servers would refuse is not worth the time; a rule that protects holds, one that weakens does not."""
    assert readings_that_hold(key, x_a=sent, x_requested_with=sent) == ONE


@pytest.mark.parametrize(
    ("x_requested_with", "sec_fetch_dest", "expected"),
    [
        (b"XMLHttpRequest", None, BOTH),
        (b"x, xmlhttprequest", b"document", BOTH),
        (None, b"empty", BOTH),
        (b"com.example", b"Empty", BOTH),
        (None, b"document", NONE),
        (b"com.example", None, NONE),
        (None, None, NONE),
        (b"XMLHttpRequest\xa0", None, ONE),
        (None, b"empty\x85", ONE),
        (None, (b"document", b"empty"), ONE),
    ],
)
def test_script_request_says_so_by_either_field(x_requested_with, sec_fetch_dest, expected):
    """`fetch()` sends no X-Requested-With, old browsers no Sec-Fetch-Dest."""
    sent = {"x_requested_with": x_requested_with, "sec_fetch_dest": sec_fetch_dest}
    assert readings_that_hold(SCRIPT, **sent) == expected
    held_by_any, held_by_every = readings_that_hold(NO_SCRIPT, **sent)
    assert (held_by_any, held_by_every) == (not expected[1], not expected[0])


HTML = ((b"content-type", b"Text/HTML; charset=utf-8"),)
IMAGE = ((b"Content-Type", b"image/png"),)


def response_readings(keys, status, fields) -> tuple[bool, bool]:
    facts = ResponseFacts(kind_of(status, fields))
    return all(key.holds(facts, "any") for key in keys), all(key.holds(facts, "every") for key in keys)


@pytest.mark.parametrize(
    ("keys", "status", "fields", "expected"),
    [
        (response_keys(["200", "3xx"]), 200, (), BOTH),
        (response_keys(["200", "3xx"]), 304, (), BOTH),
        (response_keys(["200", "3xx"]), 201, (), NONE),
        (response_keys([], ["text/html"]), 200, HTML, BOTH),
        (response_keys([], ["text/*"]), 200, HTML, BOTH),
        (response_keys([], ["text"]), 200, HTML, NONE),
        (response_keys([], ["*"]), 200, (), BOTH),
        (response_keys([], ["text/*"]), 200, (), NONE),
        (response_keys(attachment=True), 200, ((b"Content-Disposition", b'Attachment; filename="a"'),), BOTH),
        (response_keys(attachment=True), 200, ((b"Content-Disposition", b"inline"),), NONE),
        (response_keys(attachment=False), 200, (), BOTH),
        (response_keys(["200"], ["text/*"]), 404, HTML, NONE),
    ],
)
def test_condition_on_a_response(keys, status, fields, expected):
    assert response_readings(keys, status, fields) == expected


@pytest.mark.parametrize(
    ("keys", "status", "fields", "expected"),
    [
        (response_keys(["200"]), 304, (), ONE),
        (response_keys(["2xx"]), 304, (), ONE),
        (response_keys(["3xx"]), 304, (), BOTH),
        (response_keys(["404", "5xx"]), 304, (), NONE),
        (response_keys([], ["text/*"]), 304, (), ONE),
        (response_keys([], ["text/*"]), 304, HTML, BOTH),
        (response_keys([], ["image/*"]), 304, HTML, NONE),
        (response_keys([], ["*"]), 304, (), BOTH),
        (response_keys([], ["image/*"]), 200, (*HTML, *IMAGE), ONE),
        (response_keys(attachment=True), 304, (), ONE),
        (response_keys(attachment=False), 304, (), ONE),
        (response_keys(attachment=False), 304, ((b"content-disposition", b"attachment"),), NONE),
        (response_keys(["200"], ["image/*"]), 304, HTML, NONE),
    ],
)
def test_response_that_does_not_say(keys, status, fields, expected):
    """A 304 stands for a response that a cache has stored; of two types nobody knows which one is taken."""
    assert response_readings(keys, status, fields) == expected


@pytest.mark.parametrize(
    "lines",
    [
        [b"text/html", b"application/json"],
        [b"text/html;a=b, application/JSON"],
        [b"application/json,text/html"],
    ],
)
def test_of_several_types_any_reading_takes_one(lines):
    """On lines of their own or joined into one, RFC 9110 section 5.3: an enforcing rule is not walked around."""
    fields = [(b"Content-Type", line) for line in lines]
    assert response_readings(response_keys([], ["application/json"]), 200, fields) == ONE


def test_kind_of_a_response_is_what_keys_read():
    """Names of the same length are not the same names."""
    fields = [
        (b"CONTENT-type", b"a"),
        (b"Content-Tyqe", b"b"),
        (b"content-dispositiom", b"c"),
        (b"Content-Disposition", b"d"),
        (b"Content-Type", b"e"),
    ]
    assert kind_of(200, fields) == (200, (b"a", b"e"), (b"d",))
    assert kind_of(304, ()) == (304, (), ())
