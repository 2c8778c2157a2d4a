"""Alerts and dashboard fit what is scraped: judged by promtool on scrapes of a real `serve` that had traffic."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.admin.standing import RULES
from tests.support.peer import XHR, request
from tests.support.programs import program
from tests.support.serving import ROOT, App, Sidecar, connect, get, sidecar
from tests.support.waiting import LIMIT_S, until

MONITORING = ROOT / "config" / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
ALERT_TESTS = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
RULES_OF_ALERTS = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}, {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
ANNOTATIONS = [
    pytest.param(annotation["expr"], id=annotation["name"]) for annotation in DASHBOARD["annotations"]["list"]
]
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them
VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
FUNCTIONS = {
    *("sum", "min", "max", "count", "topk", "rate", "increase", "changes", "absent", "histogram_quantile"),
    *("by", "on", "and", "bool"),
}
TARGETS = 'job="app",instance="a"'


@dataclass
class Scrapes:
    """What /metrics said before and after some traffic, and every sample of it by name and labels."""

    before: str
    after: str

    def samples(self, text: str | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text or self.after)
            for sample in family.samples
        }

    def labels(self) -> dict[str, dict[str, set[str]]]:
        """Values by metric and label."""
        known: dict[str, dict[str, set[str]]] = {}
        for name, labels in self.samples():
            known.setdefault(name, {})
            for label, value in labels:
                known[name].setdefault(label, set()).add(value)
        return known

    def series(self) -> list[dict[str, str]]:
        """As `promtool test rules` takes them: the first scrape, then the second one from there on."""
        first = self.samples(self.before)
        return [
            {
                "series": f"{name}{{{','.join([TARGETS, *(f'{k}={json.dumps(v)}' for k, v in labels)])}}}",
                "values": f"{first.get((name, labels), 0)} {value}x10",
            }
            for (name, labels), value in self.samples().items()
        ]


@pytest.fixture(scope="module", params=["1", "2"], ids=["1 worker", "2 workers"])
def scrapes(request, tmp_path_factory) -> Scrapes:
    rules = tmp_path_factory.mktemp("rules") / "rules.yaml"
    rules.write_text(RULES)
    return asyncio.run(scrape_around_traffic(rules, request.param))


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool")


def run(*words: str, given: str = "") -> str:
    """Run a command; return all it says, unless it fails."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def scrape_around_traffic(rules: Path, workers: str) -> Scrapes:
    """Have something of everything happen: matches, an observation, a refusal, a tunnel, a failure, a reload."""
    app = App()
    async with AsyncExitStack() as stack:
        async with app.running():
            running = await stack.enter_async_context(sidecar(app.url, rules, "--workers", workers))
            await until(running.is_ready)
            before = await scraped(running)
            for target, *fields in (
                ("/", XHR, 'If-None-Match: "v"'),
                ("/api/items", XHR),
                ("/file/a",),
                ("/page",),
            ):
                assert (await running.get(target, *fields)).status == 200
            refused = await connect(running.listen)
            await refused.send(b"nonsense\r\n\r\n")
            assert (await refused.read_to_end()).status == 400
            tunnel = await connect(running.listen)
            await tunnel.send(request("/", "Connection: Upgrade", "Upgrade: echo"))
            await tunnel.read_until(b"\r\n\r\n")
            tunnel.close()
        assert (await running.get("/", XHR)).status == 502
        rules.write_text(RULES + "  - {name: last, match: {paths: [/last]}}\n")
        await until(lambda: has_reloaded(running))
        return Scrapes(before, await scraped(running))


async def scraped(running: Sidecar) -> str:
    return (await get(running.admin, "/metrics")).content.decode()


async def has_reloaded(running: Sidecar) -> bool:
    return len((await running.ask("/api/rules"))["rules"]) == 4


# The scrape


def test_promtool_has_no_complaint_about_a_scrape(promtool, scrapes):
    for text in (scrapes.before, scrapes.after):
        assert run(promtool, "check", "metrics", given=text) == ""


# The alerts


def test_promtool_can_read_the_alerts(promtool):
    said = run(promtool, "check", "rules", str(MONITORING / "alerts.yaml"))
    assert f"SUCCESS: {len(RULES_OF_ALERTS)} rules found" in said


def test_alerts_fire_when_they_should_and_only_then(promtool):
    assert "SUCCESS" in run(promtool, "test", "rules", str(MONITORING / "alerts.test.yaml"))


def test_every_alert_is_tested_both_ways():
    firing, silent = set(), set()
    for test in ALERT_TESTS["tests"]:
        for case in test.get("alert_rule_test", []):
            (firing if case["exp_alerts"] else silent).add(case["alertname"])
        for case in test.get("promql_expr_test", []):
            for name in re.findall(r"NocacheProxy\w+", case["expr"]):
                is_firing = any('alertstate="firing"' in sample["labels"] for sample in case["exp_samples"])
                (firing if is_firing else silent).add(name)
    names = {rule["alert"] for rule in RULES_OF_ALERTS}
    assert (firing, silent) == (names, names)


def test_every_alert_says_how_bad_it_is_what_happened_and_what_to_do():
    for rule in RULES_OF_ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
        assert re.fullmatch(r"\d+[mh]", rule["for"]), rule["alert"]
        assert len(rule["annotations"]["description"]) > len(rule["annotations"]["summary"]) > 20
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= TARGET_LABELS


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES_OF_ALERTS])
def test_alert_asks_for_what_is_scraped(scrapes, rule):
    assert_is_scraped(rule["expr"], scrapes.labels())


def test_series_of_the_alerts_tests_have_the_labels_of_those_that_are_scraped(scrapes):
    known = scrapes.labels()
    for test in ALERT_TESTS["tests"]:
        for series in test["input_series"]:
            name, labels = re.fullmatch(r"(\w+)\{(.*)\}", series["series"]).groups()
            names = set(re.findall(r"(\w+)=", labels))
            assert names - TARGET_LABELS == set(known[name]), series["series"]
            assert names >= TARGET_LABELS


# The dashboard


@pytest.mark.parametrize("query", [*QUERIES, *ANNOTATIONS])
def test_query_of_the_dashboard_asks_for_what_is_scraped(scrapes, query):
    assert_is_scraped(query, scrapes.labels())


def test_every_query_of_the_dashboard_has_an_answer_on_scraped_series(promtool, scrapes, tmp_path):
    """promtool reads two real scrapes, and every query is evaluated on what happened between them."""
    tests = [
        {
            "expr": f"count({filled_in(query)}) > bool 0",
            "eval_time": "3m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for query in (parameter.values[0] for parameter in QUERIES)
    ]
    write(tmp_path / "rules.yaml", {"groups": []})
    document = {"rule_files": ["rules.yaml"], "tests": [{"interval": "1m", "input_series": scrapes.series()}]}
    document["tests"][0]["promql_expr_test"] = tests
    write(tmp_path / "test.yaml", document)
    assert "SUCCESS" in run(promtool, "test", "rules", str(tmp_path / "test.yaml"))


def test_promtool_can_read_the_queries_of_the_dashboard(promtool, tmp_path):
    rules = [
        {"record": f"dashboard:query:{number}", "expr": filled_in(parameter.values[0])}
        for number, parameter in enumerate([*QUERIES, *ANNOTATIONS])
    ]
    write(tmp_path / "rules.yaml", {"groups": [{"name": "dashboard", "rules": rules}]})
    said = run(promtool, "check", "rules", str(tmp_path / "rules.yaml"))
    assert f"SUCCESS: {len(rules)} rules found" in said


def test_variables_are_those_that_queries_use_and_can_be_looked_up(scrapes):
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used == set(variables)
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("job", "instance"):
        query = variables[name]["query"]["query"]
        metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", query).groups()
        assert metric in scrapes.labels()
        assert label == name


def test_panels_are_whole_and_do_not_overlap():
    """The model as Grafana documents it: ids are unique, the grid has 24 columns, every query names its source."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(PANELS) >= 12
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_legends_name_labels_that_their_query_leaves():
    for panel in PANELS:
        for target in panel["targets"]:
            left = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))))
            left = left or TARGET_LABELS
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, target["expr"]


# Queries, read


def assert_is_scraped(query: str, known: dict[str, dict[str, set[str]]]) -> None:
    """Every metric, every label and every value that is asked for by `=` or `!=` is there."""
    metrics = list(selectors(query))
    assert metrics
    labels: set[str] = set(TARGET_LABELS)
    for metric, matchers in metrics:
        assert metric in known, f"{metric} is not scraped"
        labels |= set(known[metric])
        for label, operator, value in matchers:
            if label not in TARGET_LABELS:
                assert label in known[metric], f"{metric} has no label {label}"
            if operator in {"=", "!="} and value:
                assert value in known[metric][label], f"{metric} has no {label}={value}"
    for listed in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", query):
        assert set(re.findall(r"\w+", listed)) <= labels, listed


def selectors(query: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Every metric of a query with its matchers."""
    text = re.sub(r"\b(by|on|without|ignoring) \([^)]*\)", "", filled_in(query))
    for match in re.finditer(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?(\[[^\]]*\])?", re.sub(r"\[[^\]]*\]", "", text)):
        if match[1] not in FUNCTIONS:
            yield match[1], re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', match[2] or "")


def filled_in(query: str) -> str:
    for variable, text in VARIABLES.items():
        query = query.replace(variable, text)
    return query


def write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document))
