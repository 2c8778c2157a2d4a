"""What a verdict says of a request's conditions: which are taken away, and which answers are then a fault of the app."""

from __future__ import annotations

import pytest

from proxy.rules.engine.verdict import FAIL_SAFE, Verdict


def verdict(*, strips: bool) -> Verdict:
    return Verdict(FAIL_SAFE.outcomes, (), strips)


@pytest.mark.parametrize("strips", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PROPFIND"])
def test_conditions_of_retrievals_alone_are_taken_away(method, strips):
    """Those of other methods guard a change: RFC 9110 section 13.1.1."""
    assert verdict(strips=strips).strips(method) is (strips and method in ("GET", "HEAD"))


@pytest.mark.parametrize(
    ("method", "status", "strips", "forbidden"),
    [
        ("GET", 304, True, True),
        ("HEAD", 304, True, True),
        ("GET", 304, False, False),
        ("POST", 304, True, False),
        ("GET", 206, True, False),
        ("GET", 200, True, False),
    ],
)
def test_304_to_a_condition_that_was_taken_away_is_a_fault(method, status, strips, forbidden):
    assert verdict(strips=strips).forbids(method, status) is forbidden


def test_deciding_that_failed_protects_whatever_the_response():
    for status in (200, 304, 404, 500):
        resolution = FAIL_SAFE.resolve(status, [(b"Cache-Control", b"max-age=60")])
        assert (resolution.rule, resolution.policy.name) == (None, "strict")
    assert FAIL_SAFE.strips("GET")
    assert FAIL_SAFE.rule is None
