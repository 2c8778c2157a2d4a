"""The contract of explain: what it says is what happens, condition by condition and field by field."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
import yaml
from hypothesis import given, settings

from proxy.message.errors import MessageError
from proxy.message.fields import FieldSection
from proxy.message.response import ResponseHead, render_response
from proxy.rules.loading.loader import RulesFile, loads
from proxy.rules.tools import rule_tests
from proxy.rules.tools.dry_run import SOME_DATE, TrialRequest, TrialResponse, read_fields
from proxy.rules.tools.explain import Explanation, explain
from proxy.rules.tools.explain_text import to_json, to_text
from tests.rules import strategies
from tests.rules.making import conditions

RULES = """
version: 1
rules:
  - name: downloads
    match: {paths: [/file/download/**], response: {attachment: true}}
    policy: pass
  - name: tried-out
    because: how often?
    match: {paths: [/file/*]}
    mode: observe
  - name: ajax
    because: Internet Explorer answers a repeated XMLHttpRequest from its cache
    match:
      methods: GET
      paths: [/file/**]
      x_requested_with: XMLHttpRequest
      headers: {Accept: "*json*", X-Trace: false}
    unless: {paths: [/file/static/**]}
    policy: mine
  - name: rest
    match: {path_regexes: ["/file/.*"], script_request: true}
policies:
  mine: {extends: classic, remove: [Server], set: {X-Protected: 1}}
"""
XHR = ((b"X-Requested-With", b"XMLHttpRequest"), (b"Accept", b"application/json"))


@pytest.fixture(scope="module")
def rules_file() -> RulesFile:
    return loads(RULES.encode(), "rules.yaml")


def explained(rules_file, target="/file/last", fields=XHR, response=None, method="GET") -> Explanation:
    request = TrialRequest(method, target.encode(), tuple(fields))
    return explain(rules_file.ruleset, request, response or TrialResponse())


def place_of(index: int) -> str:
    return f"rules.yaml:{index}"


def results(explanation) -> dict[str, str]:
    return {report.rule.name: report.result for report in explanation.rules}


def condition(explanation, rule, key):
    (report,) = (report for report in explanation.rules if report.rule.name == rule)
    (found,) = (condition for condition in report.conditions if condition.key == key)
    return found


def change(explanation, name):
    return next((change for change in explanation.changes if change.name.lower() == name.lower()), None)


def test_every_rule_has_a_result(rules_file):
    assert results(explained(rules_file)) == {
        "downloads": "no",
        "tried-out": "observed",
        "ajax": "decides",
        "rest": "not asked",
    }


def test_a_rule_whose_exception_holds_says_so(rules_file):
    explanation = explained(rules_file, "/file/static/x.js")
    assert results(explanation)["ajax"] == "excepted"
    assert condition(explanation, "ajax", "unless.paths").holds


def test_every_condition_shows_what_it_asked_and_saw(rules_file):
    explanation = explained(rules_file)
    (ajax,) = (report for report in explanation.rules if report.rule.name == "ajax")
    assert [(c.key, c.wanted, c.holds, c.seen) for c in ajax.conditions] == [
        ("match.methods", "GET, HEAD", True, "GET"),
        ("match.paths", "/file/**", True, "/file/last"),
        ("match.x_requested_with", "XMLHttpRequest", True, "XMLHttpRequest"),
        ("match.headers.Accept", "*json*", True, "application/json"),
        ("match.headers.X-Trace", "absent", True, "absent"),
        ("unless.paths", "/file/static/**", False, "/file/last"),
    ]


def test_a_condition_that_fails_is_shown_among_those_that_hold(rules_file):
    explanation = explained(rules_file, fields=(*XHR, (b"X-Trace", b"")))
    assert condition(explanation, "ajax", "match.headers.X-Trace").holds is False
    assert condition(explanation, "ajax", "match.headers.X-Trace").seen == "empty"
    assert condition(explanation, "ajax", "match.x_requested_with").holds is True


def test_the_overridden_method_is_shown(rules_file):
    explanation = explained(rules_file, fields=(*XHR, (b"X-HTTP-Method-Override", b"GET")), method="POST")
    methods = condition(explanation, "ajax", "match.methods")
    assert (methods.holds, methods.seen) == (True, "POST; x-http-method-override: GET")


def test_validators_that_would_answer_any_condition_are_explained(rules_file):
    """Issue 14.16."""
    answer = TrialResponse(200, ((b"ETag", b'"v"'),))
    explanation = explained(rules_file, fields=(*XHR, (b"If-None-Match", b"*")), response=answer)
    (change,) = (change for change in explanation.changes if change.name == "ETag")
    assert (change.before, change.after) == (('"v"',), ())
    assert (
        change.reason
        == "If-None-Match: * is met by any validator, and a cache on the way may answer 304 by it"
    )


def test_the_spelling_that_matched_is_named(rules_file):
    explanation = explained(rules_file, "/x/../file/last")
    assert explanation.paths[0] == "/x/../file/last"
    assert "/file/last" in explanation.paths
    assert condition(explanation, "ajax", "match.paths").note == "/file/** matches the spelling /file/last"


def test_the_spelling_that_keeps_an_exception_from_applying_is_named(rules_file):
    explanation = explained(rules_file, "/file/download/../secret")
    paths = condition(explanation, "downloads", "match.paths")
    assert not paths.holds
    assert paths.note == "not for the spelling /file/secret, and it must hold for all"


@pytest.mark.parametrize(("policy", "holds"), [("revalidate", True), ("pass", False)])
def test_what_a_304_leaves_open_is_said(policy, holds):
    text = f"version: 1\nrules: [{{name: r, match: {{response: {{attachment: true}}}}, policy: {policy}}}]"
    explanation = explained(loads(text.encode(), "rules.yaml"), response=TrialResponse(304))
    report = condition(explanation, "r", "match.response.attachment")
    assert (report.holds, report.seen) == (holds, "absent")
    assert report.note == "the response can be read either way: the reading that protects counts"


def test_conditions_on_the_response_are_asked_of_the_response(rules_file):
    response = TrialResponse(200, ((b"Content-Disposition", b"attachment"),))
    explanation = explained(rules_file, "/file/download/a", response=response)
    assert results(explanation)["downloads"] == "decides"
    assert condition(explanation, "downloads", "match.response.attachment").seen == "attachment"


def test_every_change_of_a_field_has_its_reason(rules_file):
    response = TrialResponse(
        200,
        (
            (b"Server", b"x"),
            (b"cache-control", b"max-age=1"),
            (b"Cache-Control", b"no-transform"),
            (b"ETag", b'"v"'),
            (b"Age", b"3"),
            (b"Foo-Cache-Control", b"x"),
            (b"Connection", b"X-Hop"),
            (b"X-Hop", b"1"),
            (b"Content-Type", b"text/html"),
        ),
    )
    explanation = explained(rules_file, response=response)
    changes = {change.name: change for change in explanation.changes}
    cache_control = changes.pop("Cache-Control")
    assert cache_control.before == ("max-age=1", "no-transform")
    assert cache_control.after == (
        "no-store, no-cache, must-revalidate, post-check=0, pre-check=0, no-transform",
    )
    assert cache_control.reason == "policy mine sets it: one line in place of all others"
    reasons = {name: found.reason for name, found in changes.items()}
    assert reasons.pop("ETag").startswith(
        "policy mine marks it, so that no copy stored without it has the same"
    )
    assert reasons.pop("Foo-Cache-Control").endswith("RFC 9213")
    assert reasons.pop("X-Hop") == "named in Connection: belongs to the connection between app and proxy"
    assert reasons.pop("Connection") == "belongs to the connection between app and proxy"
    assert reasons.pop("Server") == "policy mine removes it"
    assert reasons.pop("X-Protected") == "policy mine sets it"
    assert reasons.pop("Vary") == f"rules for this path read {', '.join(explanation.trial.verdict.vary)}"
    assert set(reasons) == {"Age", "Pragma", "Expires", "X-Accel-Expires", "Last-Modified", "Date"}
    assert all(reasons.values())


def test_conditions_that_are_taken_off_the_request_are_named(rules_file):
    explanation = explained(rules_file, fields=(*XHR, (b"if-none-match", b'"v"'), (b"If-Match", b'"v"')))
    assert explanation.trial.stripped == ("if-none-match",)


def test_a_304_that_nobody_asked_for_becomes_a_502_of_the_gateway(rules_file):
    explanation = explained(rules_file, response=TrialResponse(304))
    assert (explanation.trial.status, explanation.trial.fault) == (
        502,
        "the app answers 304 to a request without a condition",
    )
    assert "no-store" in change(explanation, "Cache-Control").after[0]
    assert "Response: 502 instead of the app's 304" in to_text(explanation, place_of)


def test_a_request_that_is_not_forwarded_is_not_explained(rules_file):
    with pytest.raises(MessageError, match="request target"):
        explained(rules_file, "a/b")


def test_the_text_is_a_table_a_decision_and_the_fields():
    rules_file = loads(
        dedent("""
        version: 1
        rules:
          - name: ajax
            because: Internet Explorer
            match: {paths: [/a/**], x_requested_with: XMLHttpRequest}
            policy: revalidate
          - name: every
            policy: pass
        """).encode(),
        "rules.yaml",
    )
    request = TrialRequest("GET", b"/a/b?c=d", ((b"X-Requested-With", b"XMLHttpRequest"),))
    response = TrialResponse(200, ((b"Cache-Control", b"max-age=60"), (b"Date", SOME_DATE)))
    text = to_text(explain(rules_file.ruleset, request, response), place_of)
    assert text == dedent("""\
        GET /a/b?c=d

        rule   condition               wanted          holds  seen
        ajax   match.paths             /a/**           true   /a/b
               match.x_requested_with  XMLHttpRequest  true   XMLHttpRequest
               => DECIDES: policy revalidate
        every  (every request)                         true
               => matches too, but another rule comes first

        Decision: rule ajax (rules.yaml:0), policy revalidate.
        Because:  Internet Explorer

        Response: 200
          Cache-Control: policy revalidate sets it: one line in place of all others
            - max-age=60
            + no-cache, must-revalidate, max-age=0, private
          Vary: rules for this path read X-Requested-With
            + X-Requested-With
          Expires: policy revalidate sets it: a date that is past for every cache
            + Thu, 01 Dec 1994 16:00:00 GMT
          unchanged: Date""")


def test_the_text_says_what_is_observed_and_what_the_app_does_not_get(rules_file):
    text = to_text(explained(rules_file, fields=(*XHR, (b"If-None-Match", b'"v"'))), place_of)
    assert "Observed: rule tried-out would have decided, with policy strict." in text
    assert "=> would decide, but mode is observe: policy strict is only counted" in text
    assert "Request:  the app does not get If-None-Match, so that it must answer in full." in text
    assert "=> does not match" in text


def test_the_text_names_some_of_many_spellings(rules_file):
    explanation = explained(rules_file, "/x/%2e%2e//file;v=1/./%2e/last/")
    assert len(explanation.paths) > 8
    text = to_text(explanation, place_of)
    assert f" and {len(explanation.paths) - 8} more" in text
    assert "(/file/** matches the spelling " in text


def test_a_response_that_cannot_be_passed_on_is_explained_as_what_the_client_gets(rules_file):
    response = TrialResponse(200, ((b"Content-Length", b"1"), (b"Content-Length", b"2")))
    explanation = explained(rules_file, response=response)
    assert (explanation.trial.status, explanation.trial.fault) == (502, "ambiguous framing: Content-Length")
    assert {found.reason for found in explanation.changes} == {
        "the proxy's own response, under the strict policy"
    }
    assert "Response: 502 instead of the app's 200: ambiguous framing: Content-Length" in to_text(
        explanation, place_of
    )


def test_a_204_loses_its_content_length(rules_file):
    explanation = explained(rules_file, response=TrialResponse(204, ((b"Content-Length", b"0"),)))
    assert change(explanation, "Content-Length").reason == "a 204 has no content"


def test_without_rules_the_text_says_that_nothing_changes():
    explanation = explain(
        loads(b"{version: 1, rules: []}", "r").ruleset, TrialRequest("GET", b"/"), TrialResponse()
    )
    text = to_text(explanation, place_of)
    assert "There are no rules." in text
    assert "Decision: no rule matches; the response is passed through." in text


def test_the_json_says_all_that_the_text_says(rules_file):
    explanation = explained(rules_file, "//file/last", response=TrialResponse(200, ((b"Age", b"1"),)))
    found = json.loads(json.dumps(to_json(explanation, place_of)))
    assert found["decision"]["rule"] == "ajax"
    assert found["decision"]["observed"] == "tried-out"
    assert found["request"]["paths"] == list(explanation.paths)
    assert [rule["result"] for rule in found["rules"]] == [report.result for report in explanation.rules]
    assert found["rules"][2]["place"] == "rules.yaml:2"
    assert {
        "name": "Age",
        "before": ["1"],
        "after": [],
        "reason": change(explanation, "age").reason,
    } in found["response"]["changes"]
    assert ["Pragma", "no-cache"] in found["response"]["after"]


@settings(max_examples=120, deadline=None)
@given(strategies.rules_files(), strategies.requests(), strategies.responses())
def test_the_table_never_contradicts_the_decision(tree, request, response):
    """The first rule all of whose conditions hold, and whose exception does not, is the one that decides."""
    rules_file = loads(yaml.safe_dump(tree).encode(), "rules.yaml")
    explanation = explain(rules_file.ruleset, request, response)
    decides, observed = None, None
    for report in explanation.rules:
        matches = all(c.holds for c in report.conditions if c.key.startswith("match."))
        unless = [c.holds for c in report.conditions if c.key.startswith("unless.")]
        is_excepted = report.rule.unless not in (None, conditions()) and all(unless)
        if not matches or is_excepted:
            assert report.result in ("no", "excepted")
        elif decides is not None:
            assert report.result == "not asked"
        elif report.rule.mode == "observe":
            assert report.result == ("observed" if observed is None else "not asked")
            observed = observed or report.rule
        else:
            assert report.result == "decides"
            decides = report.rule
    assert explanation.trial.resolution.rule is decides
    assert explanation.trial.resolution.observed is observed


@settings(max_examples=120, deadline=None)
@given(strategies.rules_files(), strategies.requests(), strategies.responses())
def test_the_fields_after_are_those_the_gateway_writes(tree, request, response):
    """The same bytes as the live path renders; every difference is explained."""
    rules_file = loads(yaml.safe_dump(tree).encode(), "rules.yaml")
    explanation = explain(rules_file.ruleset, request, response)
    trial = explanation.trial
    if not trial.fault:
        verdict = rules_file.ruleset.decide(trial.head.method, trial.head.target, trial.head.values)
        live = render_response(
            ResponseHead(response.status, b"", 1, FieldSection(response.fields)),
            verdict.resolve(response.status, response.fields).treatment,
            method=request.method,
            client_minor=1,
            keep_alive=True,
            now=SOME_DATE,
            hides_validators=trial.head.matches_any,
        )
        written = read_fields(live.data.split(b"\r\n")[1:-2])
        assert written == list(trial.fields)
    replayed = {change.name.lower(): change for change in explanation.changes}
    for name in {name.lower() for name, _ in (*response.fields, *trial.fields)}:
        before = tuple(value.decode("latin-1") for key, value in response.fields if key.lower() == name)
        after = tuple(value.decode("latin-1") for key, value in trial.fields if key.lower() == name)
        found = replayed.pop(name.decode("latin-1"), None)
        assert (found is not None) is (before != after)
        if found is not None:
            assert (found.before, found.after) == (before, after)
            assert found.reason
    assert not replayed


def test_tests_of_a_rules_file_and_explain_see_the_same(rules_file):
    """Both stand on `trial`: a test that expects what explain shows passes."""
    explanation = explained(rules_file)
    expected = {
        "rule": explanation.trial.resolution.rule.name,
        "policy": explanation.trial.resolution.policy.name,
        "headers": {name.decode(): value.decode() for name, value in explanation.trial.fields},
    }
    case = {
        "request": {"path": "/file/last", "headers": {name.decode(): value.decode() for name, value in XHR}},
        "expect": expected,
    }
    tree = yaml.safe_load(RULES) | {"tests": [case]}
    assert rule_tests.run(loads(yaml.safe_dump(tree).encode(), "rules.yaml")) == []
