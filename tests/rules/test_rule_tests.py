"""The contract of `tests:` in a rules file: each expectation can fail, and says what came out instead."""

from __future__ import annotations

from textwrap import dedent

import pytest

from proxy.rules.loading.loader import loads
from proxy.rules.tools.rule_tests import run

RULES = """\
version: 1
rules:
  - name: watched
    match: {paths: [/watched]}
    mode: observe
  - name: downloads
    match: {paths: [/file/download/**]}
    policy: pass
  - name: ajax
    match: {paths: [/**], methods: GET, x_requested_with: XMLHttpRequest}
    policy: classic
tests:
"""


def failures(case: str) -> list[str]:
    """Run one test given as YAML; return what is printed about it."""
    body = dedent(case).strip("\n").replace("\n", "\n    ")
    return [str(mistake) for mistake in run(loads(f"{RULES}  - {body}\n".encode(), "rules.yaml"))]


XHR = "request: {path: /a, headers: {X-Requested-With: XMLHttpRequest, If-None-Match: '\"1\"'}}"


@pytest.mark.parametrize(
    "expect",
    [
        "{rule: ajax}",
        "{policy: classic}",
        "{observed: null}",
        "{conditionals: stripped}",
        "{vary: [x-requested-with]}",
        "{vary: X-Requested-With}",
        "{headers: {Pragma: no-cache}}",
        "{headers: {pragma: no-*}}",
        "{headers: {Pragma: true, Age: false, ETag: null}}",
        "{headers: {Cache-Control: ['no-store, *']}}",
        "{headers: {X-Accel-Expires: 0}}",
    ],
)
def test_an_expectation_that_is_met_is_silent(expect):
    assert failures(f"{XHR}\nexpect: {expect}") == []


@pytest.mark.parametrize(
    ("expect", "column", "path", "text"),
    [
        ("{rule: downloads}", 16, "rule", "expected downloads, got ajax"),
        ("{rule: null}", 16, "rule", "expected none, got ajax"),
        ("{policy: strict}", 18, "policy", "expected strict, got classic"),
        ("{observed: watched}", 20, "observed", "expected watched, got none"),
        ("{conditionals: kept}", 24, "conditionals", "expected kept, got stripped"),
        ("{vary: []}", 16, "vary", "expected none, got X-Requested-With"),
        ("{vary: [Accept, X]}", 16, "vary", "expected Accept, X, got X-Requested-With"),
        ("{headers: {Pragma: x}}", 28, "headers.Pragma", "expected 'x', got 'no-cache'"),
        ("{headers: {Pragma: '*no'}}", 28, "headers.Pragma", "expected '*no', got 'no-cache'"),
        ("{headers: {Pragma: null}}", 28, "headers.Pragma", "expected no such field, got 'no-cache'"),
        ("{headers: {Age: true}}", 25, "headers.Age", "expected the field to be there, got no such field"),
        ("{headers: {Pragma: [x, y]}}", 28, "headers.Pragma", "expected 2 lines: 'x', 'y', got 'no-cache'"),
    ],
)
def test_an_expectation_that_is_not_met_says_where_and_what_came_out(expect, column, path, text):
    assert failures(f"{XHR}\nexpect: {expect}") == [
        f"rules.yaml:14:{column + 4}: tests[0].expect.{path}: test failed: {text}"
    ]


def test_the_name_of_a_test_is_in_its_message():
    (message,) = failures("name: the second click\nrequest: {path: /}\nexpect: {rule: ajax}")
    assert "test 'the second click' failed: expected ajax, got none" in message


def test_everything_that_came_out_differently_is_said():
    assert (
        len(failures("request: {path: /}\nexpect: {rule: ajax, policy: strict, headers: {Pragma: x}}")) == 3
    )


def test_an_observed_rule_decides_nothing():
    assert failures("request: {path: /watched}\nexpect: {rule: null, policy: pass, observed: watched}") == []


def test_several_lines_of_a_response_field_are_compared_in_order():
    case = (
        "request: {path: /}\nresponse: "
        "{headers: {Set-Cookie: [a=1, b=2]}}\nexpect: {headers: {Set-Cookie: %s}}"
    )
    assert failures(case % "[a=1, b=2]") == []
    assert len(failures(case % "[b=2, a=1]")) == 1
    assert len(failures(case % "a=1")) == 1


def test_the_target_may_have_a_query_and_any_spelling():
    assert failures("request: {target: '//file/%64ownload/x?y=z'}\nexpect: {rule: null}") == []
    assert failures("request: {target: '/file/download/x?y=z'}\nexpect: {rule: downloads}") == []


def test_a_304_to_a_request_without_conditions_is_answered_with_502():
    case = f"{XHR}\nresponse: {{status: 304}}\nexpect: {{headers: {{Cache-Control: '*, private'}}}}"
    assert failures(case) == []  # the strict policy, which is that of the gateway's own responses


def test_a_response_of_the_gateway_itself_is_under_strict():
    (message,) = failures(f"{XHR}\nresponse: {{status: 304}}\nexpect: {{policy: classic}}")
    assert message.endswith("expected classic, got strict")


def test_a_target_with_a_host_is_asked_of_that_host():
    assert (
        failures("request: {target: 'http://app.example/file/download/x'}\nexpect: {rule: downloads}") == []
    )
    (message,) = failures(
        "request: {target: 'http://app.example/', headers: {Host: other}}\nexpect: {rule: downloads}"
    )
    assert "different hosts" in message


def test_a_request_that_the_gateway_refuses_fails_the_test():
    (message,) = failures("request: {path: /, headers: {Host: 'a b'}}\nexpect: {rule: null}")
    assert message == (
        "rules.yaml:13:14: tests[0].request: test failed: the proxy answers 400 itself: missing, "
        "double or malformed Host"
    )


def test_a_literal_star_is_matched_by_a_star():
    assert (
        failures("request: {path: /}\nresponse: {headers: {Vary: '*'}}\nexpect: {headers: {Vary: '*'}}") == []
    )
