"""Single conditions on fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.engine.conditions import ResponseFacts, field_holds, is_script_request
from proxy.rules.engine.globs import full_match, value_glob
from proxy.rules.model import FieldCondition, ResponseConditions

GLOBS = st.lists(st.text("ab*?, x", min_size=1, max_size=4), min_size=1, max_size=3)
VALUES = st.text("aAbx,, \t", max_size=8)


@given(GLOBS, VALUES)
def test_a_list_is_asked_as_a_whole_and_member_by_member(globs, value):
    """One expression for all members says what one question for each would."""
    asked = [value, *(member.strip(" \t") for member in value.split(","))]
    holds = any(full_match(value_glob(glob), each) for glob in globs for each in asked)
    assert field_holds(FieldCondition("X", globs=tuple(globs), by_member=True), value) is holds


@given(
    st.lists(
        st.sampled_from(["XMLHttpRequest", "xmlhttprequest", "XMLHttpReque\u00dft", "", " ", "\t", ",", "x"])
    )
)
def test_script_request_has_a_member_that_says_so(parts):
    value = "".join(parts)
    members = [member.strip(" \t").lower() for member in value.split(",")]
    assert is_script_request(value, None) is ("xmlhttprequest" in members)


@pytest.mark.parametrize(
    "lines",
    [
        [b"text/html", b"application/json"],
        [b"text/html;a=b, application/JSON"],
        [b"application/json,text/html"],
    ],
)
def test_of_several_types_the_broad_reading_takes_any(lines):
    """On lines of their own or joined into one, RFC 9110 section 5.3: an enforcing rule is not walked around."""
    facts = ResponseFacts(200, [(b"Content-Type", line) for line in lines])
    asked = ResponseConditions(content_types=("application/json",))
    assert facts.hold(asked, is_broad=True)
    assert not facts.hold(asked, is_broad=False)


@pytest.mark.parametrize(
    ("dest", "holds"), [("empty", True), (" Empty", True), ("document", False), (None, False)]
)
def test_script_request_has_an_empty_destination(dest, holds):
    assert is_script_request(None, dest) is holds
