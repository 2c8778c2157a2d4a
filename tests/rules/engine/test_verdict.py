"""What a verdict says of a request's conditions: which are taken away, and which answers are then a fault of the app."""

from __future__ import annotations

import pytest

from proxy.rules.engine.verdict import FAIL_SAFE, Verdict, resolve
from proxy.rules.keys.facts import ResponseFacts, kind_of
from proxy.rules.policies import REVALIDATE
from tests.rules.engine.test_matching import decide, rule
from tests.rules.making import response_keys


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


def test_rule_is_known_before_the_response_if_none_that_asks_for_one_stands_above_it():
    data = rule("data", response=response_keys(content_types=("application/json",)))
    watched = rule("watched", mode="observe", response=response_keys(statuses=("200",)))
    assert decide([watched, rule("rest")]).rule.name == "rest"
    assert decide([data, rule("rest")]).rule is None
    assert decide([data]).rule is None


def test_conditions_are_left_out_for_the_sake_of_the_first_rule_that_strips_them():
    data = rule("data", response=response_keys(content_types=("application/json",)))
    watched = rule("watched", mode="observe")
    assert (
        decide(
            [watched, rule("kept", REVALIDATE, response=response_keys(statuses=("200",))), data]
        ).stripping_rule.name
        == "data"
    )
    assert decide([rule("kept", REVALIDATE)]).stripping_rule is None


class Test_Memory:
    """What is remembered is a matter of speed alone, and bounded whatever an app sends."""

    VERDICT = decide(
        [
            rule("data", response=response_keys(content_types=("application/json",), attachment=False)),
            rule("errors", response=response_keys(statuses=("5xx",))),
        ]
    )

    @pytest.mark.parametrize("turn", range(2))
    @pytest.mark.parametrize(
        "fields",
        [
            (),
            ((b"Content-Type", b"application/json"),),
            ((b"CONTENT-TYPE", b"application/json"),),
            ((b"Content-Tyqe", b"application/json"),),
            ((b"Content-Type", b"text/html"), (b"Content-Type", b"application/json")),
            ((b"Content-Type", b"text/html, application/json"),),
            ((b"Content-Disposition", b"attachment"), (b"Content-Type", b"application/json")),
            ((b"Content-Disposition", b"application/json"),),
            ((b"Content-Type", b"attachment"),),
        ],
    )
    @pytest.mark.parametrize("status", [200, 304, 503])
    def test_a_response_is_resolved_as_if_it_were_the_first(self, status, fields, turn):
        kept = self.VERDICT.resolve(status, fields)
        anew = resolve(self.VERDICT.outcomes, ResponseFacts(kind_of(status, fields)))
        assert (kept.rule, kept.policy, kept.treatment) == (anew.rule, anew.policy, anew.treatment)

    def test_few_responses_are_kept_and_none_that_is_long(self):
        found = decide([rule("data", response=response_keys(content_types=("application/json",)))])
        for number in range(100):
            assert found.resolve(200, [(b"Content-Type", b"text/%d" % number)]).rule is None
            assert found.resolve(200, [(b"Content-Type", b"application/json; a=%0300d" % number)]).rule
        assert len(found.resolved) <= 16
        assert max(len(line) for kind in found.resolved for line in kind[1]) <= 256
