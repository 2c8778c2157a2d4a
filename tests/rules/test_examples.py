"""The contract of `config/examples/`: no file has a mistake or a warning, and each passes its own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.rules.loading.loader import load
from proxy.rules.tools import commands
from proxy.rules.tools.lint import lint
from proxy.rules.tools.rule_tests import run

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.yaml"))


def test_there_is_an_example_for_each_kind_of_application():
    assert {path.stem for path in EXAMPLES} >= {
        "ie-mode-intranet",
        "jquery-app",
        "fetch-only-app",
        "rest-api-optimistic-locking",
        "reports-as-downloads",
        "behind-a-cdn",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_neither_mistakes_nor_warnings_and_passes_its_tests(path):
    rules_file = load(path)
    assert lint(rules_file) == []
    assert run(rules_file) == []
    assert commands.check(path, strict=True)[0] == 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_rule_of_an_example_decides_one_of_its_tests_and_says_why_it_is_there(path):
    rules_file = load(path)
    named = {case.expect.rule for case in rules_file.cases} | {
        case.expect.observed for case in rules_file.cases
    }
    assert {rule.name for rule in rules_file.rules} <= named
    assert None in {case.expect.rule for case in rules_file.cases if "rule" in case.expect.asked}, (
        "nothing is left alone"
    )
    assert all(rule.because for rule in rules_file.rules)
    assert all(case.name for case in rules_file.cases)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_tests_of_an_example_depend_on_its_rules(path, tmp_path):
    """With no rule at all every example's tests must fail: they test the rules, not themselves."""
    text = path.read_text("utf-8")
    start, end = text.index("\nrules:\n"), text.index("\ntests:\n")
    policies = text.index("\npolicies:\n") if "\npolicies:\n" in text else end
    copy = tmp_path / "rules.yaml"
    unless_all = "\nrules:\n  - {name: other, match: {paths: [/no/such/path]}, policy: pass}\n"
    names = [rule.name for rule in load(path).rules]
    dummies = "".join(
        f"  - {{name: {name}, match: {{paths: [/no/such/path]}}, policy: pass}}\n" for name in names
    )
    copy.write_text(text[:start] + unless_all + dummies + text[policies:], "utf-8")
    failed = {mistake.path.split(".")[0] for mistake in run(load(copy))}
    deciding = [case for case in load(copy).cases if case.expect.rule is not None]
    assert len(failed) >= len(deciding) > 0
