"""Fields by which a middleware takes another path: they count like another spelling of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.engine.matching import Ruleset
from proxy.rules.keys.key import Conditions
from proxy.rules.keys.query import Parameter
from proxy.rules.model import Rule
from proxy.rules.policies import PASS, STRICT
from tests.rules.making import conditions, decide

API = Ruleset([Rule("api", STRICT, conditions(paths=["/api/**"]))])
OPEN = Ruleset([Rule("open", PASS, conditions(paths=["/api/**"]))])
ALL_BUT = Ruleset([Rule("all", STRICT, unless=conditions(paths=["/static/**"]))])


def decided(ruleset, target, **fields) -> str | None:
    sent = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    rule = decide(ruleset, "GET", target, sent).rule
    return rule.name if rule else None


@pytest.mark.parametrize(
    "fields",
    [
        {"x_script_name": b"/app"},
        {"x_script_name": b"/app/"},
        {"x_script_name": b"/app\xa0"},
        {"x_script_name": (b"/x", b"/app")},
        {"x_forwarded_prefix": b"/app"},
        {"x_original_url": b"/api/x"},
        {"x_original_url": b"http://a/api/x?y"},
        {"x_rewrite_url": b"/x/../%61pi/x"},
        {"x_request_uri": b"/api/x"},
    ],
)
def test_path_that_a_middleware_may_take_counts(fields):
    target = b"/app/api/x"
    assert decided(API, target) is None
    assert decided(API, target, **fields) == "api"
    assert decided(OPEN, target, **fields) is None, "a rule that weakens needs every reading"


def test_exception_needs_every_reading():
    assert decided(ALL_BUT, b"/static/x") is None
    assert decided(ALL_BUT, b"/static/api/x", x_script_name=b"/static") == "all"


def test_what_is_remembered_of_a_moved_path_is_not_taken_for_another():
    """Two paths that the same patterns match share their verdicts, but the field moves them to different ones."""
    ruleset = Ruleset([Rule("api", STRICT, conditions(paths=["/api/**"]))])
    for _ in range(2):
        assert decided(ruleset, b"/other/x", x_script_name=b"/app") is None
        assert decided(ruleset, b"/app/api/x", x_script_name=b"/app") == "api"
        assert decided(ruleset, b"/api/x", x_script_name=b"/app") == "api"
    assert ruleset._verdicts <= 4


def test_another_path_may_bring_another_query():
    ruleset = Ruleset([Rule("list", STRICT, Conditions([Parameter("action", ("list",))]))])
    ruleset = Ruleset([*ruleset.rules, Rule("api", PASS, conditions(paths=["/api/**"]))])
    assert decided(ruleset, b"/x?action=show") is None
    assert decided(ruleset, b"/x?action=show", x_rewrite_url=b"/api/x?action=list") == "list"


def test_explain_shows_the_other_path():
    facts = API.examine(
        "GET", b"/app/api/x", tuple(b"/app" if n == b"x-script-name" else None for n in API.field_names)
    )
    assert [path for path, _ in facts.spellings] == ["/app/api/x", "/api/x"]
    (rule,) = API.compiled
    assert rule.match.request[0].note(facts, "any") == "/api/** matches the spelling /api/x"


@given(st.text("/ap", max_size=6).map(lambda text: "/" + text), st.text("/ap", min_size=1, max_size=4))
def test_path_of_the_reverse_proxied_snippet_is_never_bypassed(path, script_name):
    """The middleware that Flask apps behind a path have had for ten years."""
    path_info = path
    path_info = path_info.removeprefix(script_name)
    reached = "/" + path_info.lstrip("/")
    ruleset = Ruleset([Rule("r", STRICT, conditions(paths=[reached]))])
    assert decided(ruleset, path.encode(), x_script_name=script_name.encode()) == "r"
