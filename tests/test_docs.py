"""The README is kept: every flag, command, metric and log field is in it, and every rules example in it works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
import yaml

from proxy import __version__
from proxy.admin import metrics
from proxy.cli import cli
from proxy.gateway import access_log
from proxy.gateway.record import Record
from proxy.rules.loading import loader
from proxy.rules.loading.schema import json_schema
from proxy.rules.policies import BUILT_IN
from proxy.rules.tools import rule_tests
from tests.admin.standing import Service

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_rules_example_loads_and_its_tests_pass(example):
    rules_file = loader.loads(example.encode(), "README.md")
    assert rule_tests.run(rules_file) == []


def keys_of(node: object) -> set[str]:
    """Every mapping key of a parsed YAML document."""
    if isinstance(node, dict):
        return {key for key in node if isinstance(key, str)} | {
            k for value in node.values() for k in keys_of(value)
        }
    if isinstance(node, list):
        return {key for member in node for key in keys_of(member)}
    return set()


def test_every_key_of_the_rules_file_stands_in_an_example():
    shown = {key for example in EXAMPLES for key in keys_of(yaml.safe_load(example))}
    schema = json_schema()
    keys = set(schema["properties"])
    for definition in schema["$defs"].values():
        keys |= set(definition.get("properties", {}))
    assert keys - shown - {"target"} == set(), "keys of the rules file without an example in the README"


def test_every_flag_of_serve_is_in_the_table_with_its_default():
    serve = cli.commands["serve"]
    for parameter in serve.params:
        assert isinstance(parameter, click.Option)
        (flag,) = parameter.opts
        row = re.search(rf"^\| `{flag}` \| ([^|]*) \|", README, re.MULTILINE)
        assert row, f"{flag} is not in the README"
        if isinstance(parameter.default, int | float):
            assert str(parameter.default) in row[1], (
                f"{flag}: the README says {row[1]}, default is {parameter.default}"
            )
        assert parameter.envvar == "NOCACHE_PROXY_" + flag.strip("-").replace("-", "_").upper()
        assert parameter.help, f"{flag} has no help"


def test_every_command_is_in_the_readme():
    for name in cli.commands:
        assert f"nocache-proxy {name}" in README


async def test_every_metric_is_in_the_readme_and_none_that_is_not_there():
    scrape = (await metrics.render(Service())).decode()
    names = set(re.findall(r"^# TYPE (\S+) ", scrape, re.MULTILINE))
    assert {"nocache_proxy_requests_total", "nocache_proxy_observed_total", "process_open_fds"} <= names
    table = README.partition("**Metrics**")[2].partition("\n\n**")[0]
    assert set(re.findall(r"`((?:nocache_proxy|process)_\w+)`", table)) == names


async def test_every_label_of_a_metric_is_in_the_readme():
    scrape = (await metrics.render(Service())).decode()
    for name, label in set(re.findall(r'^(\w+)\{(?:.*,)?(\w+)="', scrape, re.MULTILINE)):
        if label != "le":
            (row,) = re.findall(rf"^\|.*`{name}`.*$", README, re.MULTILINE)
            assert f"`{label}`" in row, f"{name}: {label}"


def test_every_alert_is_in_the_readme():
    alerts = yaml.safe_load((ROOT / "config" / "monitoring" / "alerts.yaml").read_text(encoding="utf-8"))
    paragraph = README.partition("**Alerts**")[2].partition("\n\n**")[0]
    names = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    assert set(re.findall(r"`(NocacheProxy\w+)`", paragraph)) == names


def test_every_field_of_the_access_log_is_in_the_readme():
    paragraph = README.partition("**Access log**")[2].partition("\n\n")[0]
    line = access_log._json("now", Record(observed="tried"))
    for name in json.loads(line):
        assert f"`{name}`" in paragraph, name


def test_policies_are_in_the_readme_as_they_are():
    for policy in BUILT_IN.values():
        (row,) = re.findall(rf"^\| `{policy.name}` \|.*$", README, re.MULTILINE)
        for name, value in policy.set_fields:
            if name == "Cache-Control":
                assert f"`{value}`" in row


@pytest.mark.parametrize("path", re.findall(r"\]\(([a-z][^)#:]*)\)", README))
def test_link_leads_somewhere(path):
    assert (ROOT / path).exists()


def test_changelog_has_the_version():
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
