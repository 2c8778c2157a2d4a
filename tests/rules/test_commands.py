"""The contract of the commands on a rules file: exit code and text, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.rules.tools import commands

SHIPPED = Path(__file__).parents[2] / "config" / "rules.yaml"


def write(tmp_path, text: str) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_with_mistakes_fails_with_all_of_them(tmp_path):
    path = write(tmp_path, "version: 2\nrules:\n  - nam: a\n")
    code, text = commands.check(path)
    assert code == 1
    assert text.splitlines() == [
        f"{path}:1:10: version: found 2, allowed: 1",
        f"{path}:3:5: rules[0].nam: unknown key, did you mean 'name'?",
        f"{path}: 2 mistakes; this file cannot be used",
    ]


def test_a_warning_fails_the_check_only_when_it_is_strict(tmp_path):
    path = write(tmp_path, "version: 1\nrules: []\n")
    code, text = commands.check(path)
    assert (code, text.splitlines()[-1]) == (0, f"{path}: no rules, no tests, 1 warning")
    code, text = commands.check(path, strict=True)
    assert (code, text.splitlines()[-1]) == (
        1,
        f"{path}: no rules, no tests, 1 warning; --strict counts warnings as mistakes",
    )


def test_a_failing_test_fails_the_check(tmp_path):
    path = write(
        tmp_path,
        "version: 1\nrules: [{name: a, match: {paths: [/a]}}]\n"
        "tests: [{request: {path: /b}, expect: {rule: a}}, {request: {path: /a}, expect: {rule: a}}]\n",
    )
    code, text = commands.check(path)
    assert code == 1
    assert text.splitlines() == [
        f"{path}:3:46: tests[0].expect.rule: test failed: expected a, got none",
        f"{path}: 1 rule, 1 failure in 2 tests, no warnings; a running proxy keeps its old rules",
    ]


def test_a_missing_file_fails_the_check(tmp_path):
    path = tmp_path / "none.yaml"
    assert commands.check(path) == (1, f"{path}: no such file\n{path}: 1 mistake; this file cannot be used")


def test_a_program_gets_the_same_as_one_json_object(tmp_path):
    path = write(tmp_path, "version: 1\nrules: []\npolicies: {p: {}}\n")
    code, text = commands.check(path, as_json=True)
    found = json.loads(text)
    assert code == 0
    assert (found["file"], found["ok"], found["rules"], found["tests"]) == (str(path), True, [], 0)
    assert [(entry["severity"], entry["code"], entry["line"]) for entry in found["found"]] == [
        ("warning", "no-rules", 2),
        ("warning", "unused-policy", 3),
    ]
    path.write_text("version: 7\n", "utf-8")
    code, text = commands.check(path, as_json=True)
    found = json.loads(text)
    assert (code, found["ok"], found["digest"], found["rules"]) == (1, False, None, None)
    assert {entry["severity"] for entry in found["found"]} == {"mistake"}


def test_explain_says_which_rule_decides_and_where_it_stands():
    code, text = commands.explain(
        SHIPPED,
        "GET",
        "/file/last_uploaded",
        fields=[commands.parse_field("X-Requested-With: XMLHttpRequest")],
    )
    line = next(
        n for n, line in enumerate(SHIPPED.read_text("utf-8").splitlines(), 1) if "name: ajax" in line
    )
    assert code == 0
    assert f"Decision: rule ajax ({SHIPPED}:{line}), policy classic." in text


def test_explain_for_programs_is_one_json_object():
    code, text = commands.explain(SHIPPED, "GET", "/", status=404, as_json=True)
    found = json.loads(text)
    assert code == 0
    assert (found["decision"]["rule"], found["response"]["status"]) == (None, 404)


def test_explain_says_what_the_gateway_refuses():
    code, text = commands.explain(SHIPPED, "get", "/")
    assert code == 1
    assert text.startswith("The proxy answers 400 itself, under the strict policy: ")
    code, text = commands.explain(SHIPPED, "GET", "/ a", as_json=True)
    assert (code, json.loads(text)["refused"]["status"]) == (1, 400)


def test_explain_needs_a_file_that_can_be_used(tmp_path):
    path = write(tmp_path, "version: 2\nrules: []\n")
    code, text = commands.explain(path, "GET", "/")
    assert code == 1
    assert text.startswith(f"{path}:1:10: version: found 2")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("Name: value", (b"Name", b"value")),
        ("Name:value:x", (b"Name", b"value:x")),
        ("Name: ", (b"Name", b"")),
        ("Name;", (b"Name", b"")),
        ("Name: caf\u00e9", (b"Name", "caf\u00e9".encode())),
        ("Name: \udce9", (b"Name", b"\xe9")),
    ],
)
def test_a_field_is_read_as_curl_reads_it(text, field):
    assert commands.parse_field(text) == field


@pytest.mark.parametrize(
    "text", ["Name", ": value", "Na me: value", "N\u00e4me: value", "Name: a\r\nEvil: b", "Name: \x00"]
)
def test_what_is_no_field_is_refused(text):
    with pytest.raises(ValueError, match="found"):
        commands.parse_field(text)
