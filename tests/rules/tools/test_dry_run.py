"""Which conditions reach the app, as the dry run tells it: what the gateway does, issue 16.11."""

from __future__ import annotations

import pytest

from proxy.rules.engine.matching import Ruleset
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from proxy.rules.tools.dry_run import TrialRequest, TrialResponse, run_trial
from tests.rules.making import conditions, response_keys

ASKED = TrialRequest("GET", b"/a", ((b"If-None-Match", b'"a"'),))
OF_JSON = Ruleset(
    [Rule("data", STRICT, conditions(response=response_keys(content_types=["application/json"])))]
)
OF_ALL = Ruleset([Rule("all", STRICT, conditions())])


@pytest.mark.parametrize(
    ("ruleset", "media_type", "stripped"),
    [
        (OF_JSON, b"application/json", ("If-None-Match",)),
        (OF_JSON, b"text/html", ()),
        (OF_ALL, b"text/html", ("If-None-Match",)),
    ],
)
def test_condition_is_taken_away_only_where_the_rule_applies_after_all(ruleset, media_type, stripped):
    trial = run_trial(ruleset, ASKED, TrialResponse(200, ((b"Content-Type", media_type),)))
    assert trial.stripped == stripped
