"""A request must not get dearer by a fifth unnoticed: `tests.benchmarks.guard` counts, no clock is asked."""

from __future__ import annotations

from contextlib import closing

import pytest

from proxy.rules.engine.matching import Ruleset
from tests.benchmarks import guard, messages, workloads

REGRESSION = 1.2


@pytest.fixture(scope="module")
def costs():
    """What every scenario of the guard costs now."""
    found = {}
    for name in guard.BOUNDS:
        with closing(guard.Scenario(workloads.BY_NAME[name].request)) as scenario:
            found[name] = guard.cost(scenario)
    return found


@pytest.mark.parametrize("name", guard.BOUNDS)
def test_a_request_costs_no_more_than_its_bound(costs, name):
    """Issue 6: the guard in CI. A change that needs more has to raise the bound, in sight of its reviewer."""
    assert costs[name].references <= guard.BOUNDS[name].references
    assert costs[name].calls <= guard.BOUNDS[name].calls


@pytest.mark.parametrize("name", guard.BOUNDS)
def test_the_bound_is_so_tight_that_a_fifth_more_breaks_it(costs, name):
    """Whoever makes a request cheaper lowers the bound, or the next regression hides in the gap."""
    assert costs[name].references * REGRESSION > guard.BOUNDS[name].references
    assert costs[name].calls * REGRESSION > guard.BOUNDS[name].calls


def test_a_regression_by_a_fifth_is_seen(costs, monkeypatch):
    """Burn a fifth of a request's bytecodes in one function of the hot path: the count shows it."""
    decide = Ruleset.decide
    unit, _ = guard.count(guard.reference)
    # An empty loop's turn is 3 bytecodes.
    rounds = int(costs["json"].references * unit * (REGRESSION - 1)) // 3 + 1

    def slower(self, method, target, values):
        for _ in range(rounds):
            pass
        return decide(self, method, target, values)

    monkeypatch.setattr(Ruleset, "decide", slower)
    with closing(guard.Scenario("repeated")) as scenario:
        assert guard.cost(scenario).references > guard.BOUNDS["json"].references


def test_the_scenario_is_a_real_exchange():
    """What is counted is the product's work: the request reaches the upstream, enforced fields the client."""
    with closing(guard.Scenario("repeated")) as scenario:
        forwarded, answered = scenario.exchange()
    assert forwarded.startswith(b"GET /api/files/overview?folder=finance HTTP/1.1\r\n")
    assert b"\r\nX-Forwarded-For: 127.0.0.1" in forwarded
    assert b"\r\nCache-Control: " + messages.ENFORCED + b"\r\n" in answered
    assert messages.STORABLE not in answered
    assert answered.endswith(messages.SMALL_CONTENT)


def test_counting_is_exact():
    """The same work counts the same twice, or a bound would mean nothing."""
    with closing(guard.Scenario("repeated")) as scenario:
        scenario.run(guard.WARM_UP)
        assert guard.count(lambda: scenario.run(10)) == guard.count(lambda: scenario.run(10))


def test_a_thousand_rules_cost_what_one_costs(tmp_path):
    """Issue 6: at most 1.05 x, for requests that no memory of earlier ones helps."""
    costs = []
    for rules in (1, 1000):
        path = tmp_path / f"{rules}.yaml"
        path.write_text(workloads.rules_file(rules))
        with closing(guard.Scenario("distinct", guard.loader.load(path).ruleset)) as scenario:
            costs.append(guard.cost(scenario))
    assert costs[1].references <= costs[0].references * 1.05
    assert costs[1].calls <= costs[0].calls * 1.05
