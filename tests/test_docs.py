"""The pages keep up with the code: what each must name, examples that work, links that lead somewhere, and their length."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from proxy import __version__
from proxy.admin import metrics
from proxy.admin.app import ENDPOINTS
from proxy.audit import report, verdicts
from proxy.cli import cli
from proxy.gateway import failures
from proxy.gateway.failures import Failure
from proxy.gateway.record import Record
from proxy.gateway.watch import Watch
from proxy.rules.loading import loader
from proxy.rules.loading.json_schema import json_schema
from proxy.rules.policies import BUILT_IN
from proxy.rules.tools import rule_tests
from proxy.settings import LOG_FIELDS
from tests import test_architecture
from tests.admin.standing import Service
from tests.audit.answers import answer, report_of

ROOT = Path(__file__).parents[1]
WORDS = {
    "README.md": 1400,
    "CHANGELOG.md": 700,
    "config/README.md": 2600,
    "config/monitoring/README.md": 3200,
    "proxy/README.md": 2600,
    "tests/README.md": 1500,
    "tests/benchmarks/README.md": 2000,
    ".github/CONTRIBUTING.md": 700,
    ".github/SECURITY.md": 900,
}
"""Every page, with the words it may have: whoever adds a paragraph looks for one that can go."""

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in WORDS}
SOURCES = sorted(
    str(path.relative_to(ROOT)) for place in ("proxy", "tests") for path in (ROOT / place).rglob("*.py")
)
MODULES = {Path(name).with_suffix("").parts for name in SOURCES} | {
    Path(name).parent.parts for name in SOURCES
}
README = PAGES["README.md"]
RULES = PAGES["config/README.md"]
OPERATING = PAGES["config/monitoring/README.md"]
EXAMPLES = [
    pytest.param(example, id=f"{name}-{number}")
    for name, text in PAGES.items()
    for number, example in enumerate(re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
]
COMMANDS = sorted(
    {
        line.partition("#")[0].strip()
        for text in PAGES.values()
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.replace("\\\n", " ").splitlines()
        if re.match(r"(\.venv/bin/)?nocache-proxy ", line)
    }
)


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next one of the same level."""
    _, heading, rest = page.partition(f"\n## {title}\n")
    assert heading, f"no section {title}"
    return rest.partition("\n## ")[0]


class TestLength:
    @pytest.mark.parametrize("name", WORDS)
    def test_page_has_no_more_words_than_it_may(self, name):
        assert len(PAGES[name].split()) <= WORDS[name]

    def test_readme_has_no_more_than_150_lines(self):
        assert len(README.splitlines()) <= 150

    def test_every_page_of_the_project_is_known_here(self):
        tracked = ROOT.glob("**/*.md")
        found = {str(path.relative_to(ROOT)) for path in tracked if ".venv" not in path.parts}
        found = {name for name in found if not re.search(r"(^|/)[._](?!github)|results/|node_modules", name)}
        assert found == set(WORDS)


class TestExamples:
    @pytest.mark.parametrize("example", EXAMPLES)
    def test_rules_example_loads_and_its_tests_pass(self, example):
        rules_file = loader.loads(example.encode(), "README.md")
        assert rule_tests.run(rules_file) == []

    @pytest.mark.parametrize("line", COMMANDS)
    def test_command_line_is_one_that_the_program_takes(self, line):
        """Every option and argument is parsed as the program parses it; nothing is run."""
        words = shlex.split(line.partition("nocache-proxy ")[2].partition(" > ")[0])
        if words[0] in {"METHOD", "..."}:
            return
        name, *arguments = words
        command = cli.commands[name]
        context = click.Context(command, info_name=name, resilient_parsing=True, **cli.context_settings)
        parser = command.make_parser(context)
        parser.parse_args(list(arguments))

    def test_every_key_of_the_rules_file_stands_in_an_example(self):
        shown = {key for example in EXAMPLES for key in keys_of(yaml.safe_load(example.values[0]))}
        schema = json_schema()
        keys = set(schema["properties"])
        for definition in schema["$defs"].values():
            keys |= set(definition.get("properties", {}))
        assert keys - shown == set(), "keys of the rules file without an example"

    def test_every_condition_has_a_section_with_an_example(self):
        conditions = json_schema()["$defs"]["ConditionsModel"]["properties"]
        text = section(RULES, "Conditions")
        for key in conditions:
            _, heading, rest = text.partition(f"\n### {key}\n")
            assert heading, f"no section {key}"
            assert f"{key}:" in rest.partition("\n### ")[0]


def keys_of(node: object) -> set[str]:
    """Every mapping key of a parsed YAML document."""
    if isinstance(node, dict):
        return {key for key in node if isinstance(key, str)} | {
            k for value in node.values() for k in keys_of(value)
        }
    if isinstance(node, list):
        return {key for member in node for key in keys_of(member)}
    return set()


class TestOperating:
    def test_every_flag_of_serve_is_in_the_table_with_its_default(self):
        table = section(OPERATING, "Flags of serve")
        for parameter in cli.commands["serve"].params:
            assert isinstance(parameter, click.Option)
            (flag,) = parameter.opts
            row = re.search(rf"^\| `{flag}` \| ([^|]*) \|", table, re.MULTILINE)
            assert row, f"{flag} is not in the table"
            if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
                assert str(parameter.default) in row[1], (
                    f"{flag}: the page says {row[1]}, default is {parameter.default}"
                )
            assert parameter.envvar == "NOCACHE_PROXY_" + flag.strip("-").replace("-", "_").upper()
            assert parameter.help, f"{flag} has no help"

    def test_no_flag_is_in_the_table_that_is_not_there(self):
        flags = {parameter.opts[0] for parameter in cli.commands["serve"].params}
        table = section(OPERATING, "Flags of serve")
        assert set(re.findall(r"^\| `(--[\w-]+)` \|", table, re.MULTILINE)) == flags

    def test_every_command_is_in_the_table(self):
        table = section(OPERATING, "Commands")
        assert set(re.findall(r"^\| `nocache-proxy (\w+)", table, re.MULTILINE)) == set(cli.commands)

    def test_every_endpoint_is_in_the_table(self):
        table = section(OPERATING, "Probes and the admin listener")
        named = set(re.findall(r"^\| `(?:POST )?(/[^`?]*)", table, re.MULTILINE))
        assert {path for path, endpoint in ENDPOINTS.items() if endpoint.text} == named

    async def test_every_key_of_a_recent_exchange_is_named(self):
        watch = Watch(0.0)
        watch.take(Record())
        (row,) = map(json.loads, await watch.hand_over(0.0))
        text = section(OPERATING, "Probes and the admin listener")
        for name in ("id", *row, *row["request"], *row["response"]):
            assert f"`{name}`" in text

    def test_every_verdict_of_the_audit_is_in_the_table_and_in_its_help(self):
        table = section(OPERATING, "The audit")
        assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(verdicts.VERDICTS)
        shown = CliRunner().invoke(cli, ["audit", "--help"]).output
        assert all(re.search(rf"^  {verdict} ", shown, re.MULTILINE) for verdict in verdicts.VERDICTS)

    def test_every_key_of_the_audit_report_is_named(self):
        found = report.to_json(report_of(answer(0, "/items")))
        for key in (*found, *found["routes"][0]):
            assert f"`{key}`" in section(OPERATING, "The audit")

    def test_every_field_of_the_access_log_is_in_the_table(self):
        rows = re.findall(r"^\| (`.*?) \|", section(OPERATING, "Access log"), re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(LOG_FIELDS)

    async def test_every_metric_is_in_the_table_and_none_that_is_not_there(self):
        scrape = (await metrics.render(Service())).decode()
        names = set(re.findall(r"^# TYPE (\S+) ", scrape, re.MULTILINE))
        assert {"nocache_proxy_requests_total", "nocache_proxy_observed_total", "process_open_fds"} <= names
        table = section(OPERATING, "Metrics")
        assert set(re.findall(r"`((?:nocache_proxy|process)_\w+)`", table)) == names

    async def test_every_label_of_a_metric_is_in_its_row(self):
        scrape = (await metrics.render(Service())).decode()
        table = section(OPERATING, "Metrics")
        for name, label in set(re.findall(r'^(\w+)\{(?:.*,)?(\w+)="', scrape, re.MULTILINE)):
            if label != "le":
                (row,) = re.findall(rf"^\|.*`{name}`.*$", table, re.MULTILINE)
                assert f"`{label}`" in row, f"{name}: {label}"

    def test_every_alert_is_in_the_table(self):
        alerts = yaml.safe_load((ROOT / "config" / "monitoring" / "alerts.yaml").read_text(encoding="utf-8"))
        names = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
        assert set(re.findall(r"`(NocacheProxy\w+)`", section(OPERATING, "Alerts"))) == names

    def test_every_reason_of_a_failure_is_explained(self):
        reasons = {value.reason for value in vars(failures).values() if isinstance(value, Failure)}
        table = section(OPERATING, "When something is wrong")
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == reasons


class TestArchitecture:
    def test_diagram_shows_the_imports_between_packages(self):
        packages = {"cli", "service", "admin", "gateway", "audit", "rules", "message", "demo"}
        edges = set()
        for file in test_architecture.FILES:
            part = test_architecture.part_of(test_architecture.module_of(file)).removesuffix("_audit")
            for below in test_architecture.imported_parts(file):
                edges |= {(part, below.removesuffix("_audit"))}
        between = {(above, below) for above, below in edges if above != below and {above, below} <= packages}
        shown = set(re.findall(r"^  (\w+) --> (\w+)$", PAGES["proxy/README.md"], re.MULTILINE))
        assert shown == between

    def test_module_that_a_page_or_a_docstring_names_is_there(self):
        """In backticks: `gateway/pool.py`, `spellings.py`, `proxy.gateway.sides`."""
        gone = []
        for file in (*PAGES, *SOURCES):
            text = (ROOT / file).read_text(encoding="utf-8")
            names = re.findall(r"`([\w/]+)\.py`", text)
            names += re.findall(r"`((?:proxy|gateway|message|rules|audit)\.[a-z_.]+)`", text)
            for name in names:
                parts = tuple(re.split(r"[/.]", name.removesuffix(".py").removesuffix(".yaml")))
                if not any(known[-len(parts) :] == parts for known in MODULES):
                    gone.append(f"{file}: {name}")
        assert gone == []


class TestPolicies:
    def test_policies_are_in_the_table_as_they_are(self):
        for policy in BUILT_IN.values():
            (row,) = re.findall(rf"^\| `{policy.name}` \|.*$", RULES, re.MULTILINE)
            for name, value in policy.set_fields:
                if name == "Cache-Control":
                    assert f"`{value}`" in row


class TestLinks:
    @pytest.mark.parametrize(
        ("page", "link"),
        [
            (name, link)
            for name, text in PAGES.items()
            for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", text)
        ],
    )
    def test_link_leads_somewhere(self, page, link):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists()
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}


def test_changelog_has_the_version():
    assert f"## {__version__}" in PAGES["CHANGELOG.md"]


def test_help_of_every_command_says_what_it_does():
    for name in cli.commands:
        shown = CliRunner().invoke(cli, [name, "--help"])
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) > 4, name
