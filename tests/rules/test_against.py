"""Which decisions change between two rules files."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from proxy.cli import cli
from proxy.rules.loading.loader import RulesFile, loads
from proxy.rules.tools.against import changes
from proxy.rules.tools.dry_run import TrialRequest, TrialResponse

API = "- {name: api, match: {paths: ['/api/**']}}"
SCRIPTS = "- {name: scripts, match: {script_request: true}, policy: classic}"
WATCH = "- {name: watch, match: {paths: ['/api/**']}, mode: observe}"


def rules(*lines: str, tests: str = "") -> RulesFile:
    text = "version: 1\nrules:\n" + "".join(f"  {line}\n" for line in lines)
    return loads((text + tests).encode(), "rules.yaml")


def told(old: RulesFile, new: RulesFile, *also) -> list[str]:
    return [str(change) for change in changes(old, new, also)]


def test_equal_files_change_nothing():
    assert told(rules(API, SCRIPTS), rules(API, SCRIPTS)) == []


def test_rule_that_is_gone_is_found_by_requests_made_of_its_globs():
    assert told(rules(API, SCRIPTS), rules(SCRIPTS)) == [
        "GET /api/a (Sec-Fetch-Dest: document): rule api, policy strict -> no rule",
        "GET /api/a (X-Requested-With: XMLHttpRequest): rule api, policy strict -> rule scripts, policy classic",
        "GET /api/a (Sec-Fetch-Dest: empty): rule api, policy strict -> rule scripts, policy classic",
    ]


def test_rule_that_observes_is_told():
    found = told(rules(API), rules(WATCH, API))
    assert found[0] == (
        "GET /api/a (Sec-Fetch-Dest: document): rule api, policy strict -> rule api, policy strict, observed watch"
    )


def test_tests_of_either_file_are_tried():
    case = "tests:\n  - {request: {target: '/deep/x?y', method: POST}, expect: {vary: []}}\n"
    deep = "- {name: deep, match: {path_regexes: ['/deep/.']}}"
    wanted = ["POST /deep/x?y: rule deep, policy strict -> no rule"]
    assert told(rules(deep, tests=case), rules("- {name: none, match: {paths: [/none]}}"))[:1] == wanted
    assert told(rules(deep), rules("- {name: none, match: {paths: [/none]}}", tests=case))[:1] == wanted


def test_what_an_audit_knows_is_tried_and_what_the_gateway_refuses_left_out():
    regex = "- {name: odd, match: {path_regexes: ['/odd.*']}}"
    known = (TrialRequest("GET", b"/odd/1"), TrialResponse())
    refused = (TrialRequest("GET", b"no path"), TrialResponse())
    assert (
        told(rules(regex), rules("- {name: none, match: {paths: [/none]}}"), refused, known)[-1]
        == "GET /odd/1: rule odd, policy strict -> no rule"
    )


@pytest.fixture
def files(tmp_path):
    old, new, bad = (tmp_path / f"{name}.yaml" for name in ("old", "new", "bad"))
    old.write_text(f"version: 1\nrules:\n  {API}\n")
    new.write_text(f"version: 1\nrules:\n  {API.replace('api/', 'v2/')}\n")
    bad.write_text("version: 1\nrules: [{}]\n")
    return str(old), str(new), str(bad)


def test_command_lists_what_changes(files):
    old, new, _ = files
    result = CliRunner().invoke(cli, ["check", new, "--against", old])
    assert result.exit_code == 0
    assert (
        result.stdout.splitlines()[0]
        == "GET /api/a (Sec-Fetch-Dest: document): rule api, policy strict -> no rule"
    )
    assert result.stdout.splitlines()[-1] == f"{new} against {old}: 6 decisions changed"
    report = json.loads(CliRunner().invoke(cli, ["check", new, "--against", old, "--json"]).stdout)
    assert report["changes"][0] == {
        "method": "GET",
        "target": "/api/a",
        "headers": [["Sec-Fetch-Dest", "document"]],
        "before": "rule api, policy strict",
        "after": "no rule",
    }


def test_command_fails_with_the_mistakes_of_either_file(files):
    old, new, bad = files
    for words in ((bad, "--against", old), (new, "--against", bad)):
        result = CliRunner().invoke(cli, ["check", *words])
        assert result.exit_code == 1
        assert "bad.yaml:2" in result.stderr
        assert result.stderr.splitlines()[-1] == f"{bad}: 1 mistake; this file cannot be used"
        found = json.loads(CliRunner().invoke(cli, ["check", *words, "--json"]).stdout)
        assert (found["file"], found["ok"]) == (bad, False)
