"""The commands `audit` and `init`: what they print, what they write, how they end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from proxy.rules.loading import loader
from proxy.rules.tools import rule_tests
from tests.audit.test_har import entry, har, headers

CHROMIUM = Path(__file__).parent / "audit" / "recordings" / "chromium.har"
ROOT = Path(__file__).parents[1]


def run(*words: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], input=stdin)


@pytest.fixture
def stale(tmp_path) -> Path:
    """A recording in which an XHR went stale, and nothing else."""
    asked = headers(X_Requested_With="XMLHttpRequest")
    path = tmp_path / "stale.har"
    answers = [{"size": 1, "text": text} for text in "12"]
    path.write_bytes(
        har(*(entry(request={"headers": asked}, response={"content": answer}) for answer in answers))
    )
    return path


def test_table_shows_the_worst_first_with_reasons():
    result = run("audit", "--har", CHROMIUM)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("20 answers on 7 routes since 2026-11-26T")
    assert lines[0].endswith(": 2 stale, 2 possible, 3 fine")
    assert lines[3].split() == [
        "STALE",
        "GET",
        "/api/changing",
        "4",
        "600",
        "s",
        "private,",
        "shared",
        "fetch",
        "4",
    ]
    assert (
        "Answered by the browser's cache in this recording: 4, and 0 more after the app had said 304."
        in lines
    )
    assert all(len(line) <= 110 for line in lines)


def test_files_that_one_rule_cures_are_one_row(tmp_path):
    path = tmp_path / "files.har"
    said = {"headers": headers(content_type="text/css")}
    path.write_bytes(
        har(*(entry(request={"url": f"http://app/static/{n}x.css"}, response=said) for n in "abc"))
    )
    result = run("audit", "--har", path)
    lines = result.stdout.splitlines()
    assert sum("/static/" in line for line in lines) == 1
    assert "           The same rule cures 2 more such routes." in lines
    report = json.loads(run("audit", "--har", path, "--json").stdout)
    assert len(report["routes"]) == 3


def test_json_is_the_shape_of_the_api():
    report = json.loads(run("audit", "--har", CHROMIUM, "--json").stdout)
    assert {"since", "responses", "routes_dropped", "routes", "rules"} <= report.keys()
    worst = report["routes"][0]
    assert {
        "method": "GET",
        "route": "/api/changing",
        "verdict": "stale",
        "responses": 4,
        "protected": 0,
        "stale": 1,
        "leak": 0,
        "freshness": "explicit",
        "lifetime_s": 600,
        "caches": ["private", "shared"],
        "asked_by": {"xhr": 0, "fetch": 4, "page": 0, "other": 0},
        "content_types": ["application/json"],
        "example": "/api/changing",
    }.items() <= worst.items()
    assert worst["rule"] in report["rules"]
    assert "s3cr3t" not in json.dumps(report)


@pytest.mark.parametrize("recording", ["chromium", "firefox"])
@pytest.mark.parametrize("flags", [(), ("--json",), ("--rules",)], ids=["table", "json", "rules"])
def test_nothing_secret_is_printed(recording, flags):
    path = CHROMIUM.with_name(f"{recording}.har")
    assert "s3cr3t-cookie" in path.read_text()
    assert "s3cr3t-content" in path.read_text()
    result = run("audit", "--har", path, *flags)
    assert result.exit_code == 0
    assert "/api/changing" in result.output
    assert "s3cr3t" not in result.output


def test_rules_can_be_used_as_they_are(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(run("audit", "--har", CHROMIUM, "--rules").stdout)
    result = run("check", "--strict", path)
    assert (result.exit_code, result.stdout) == (0, f"{path}: 4 rules, 4 tests passed, no warnings\n")


def test_rules_of_a_recording_that_needs_none_say_so(tmp_path):
    path = tmp_path / "good.har"
    path.write_bytes(har(entry(response={"headers": headers(cache_control="no-store")})))
    assert run("audit", "--har", path, "--rules").stdout == "# Nothing needs a rule.\n"


@pytest.mark.parametrize(("limit", "code"), [("leak", 0), ("stale", 1), ("possible", 1)])
def test_fail_on_tells_by_the_exit_code(stale, limit, code):
    assert run("audit", "--har", stale, "--fail-on", limit).exit_code == code


def test_several_recordings_are_one_audit(tmp_path, stale):
    one, two = (tmp_path / f"{name}.har" for name in "12")
    for path in (one, two):
        path.write_bytes(har(entry(response={"content": {"size": 1, "text": path.stem}})))
    for words in (("--har", one, two), ("--har", one, "--har", two), (one, two)):
        result = run("audit", *words, "--json")
        assert [route["verdict"] for route in json.loads(result.stdout)["routes"]] == ["stale"]


def test_recording_can_come_from_standard_input(stale):
    result = run("audit", "--har", "-", "--fail-on", "stale", stdin=stale.read_bytes())
    assert result.exit_code == 1
    assert "STALE" in result.stdout


def test_person_who_watches_sees_how_far_the_reading_is():
    watched, terminal = pty.openpty()
    command = [sys.executable, "-m", "proxy", "audit", "--har", CHROMIUM]
    result = subprocess.run(command, stderr=terminal, stdout=subprocess.PIPE, check=True)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the end, as a terminal tells it
        while data := os.read(watched, 4096):
            shown += data
    os.close(watched)
    assert b"Reading" in shown
    assert b"100%" in shown
    assert result.stdout.startswith(b"20 answers on 7 routes")


def test_nobody_watches_a_pipe(stale):
    command = [sys.executable, "-m", "proxy", "audit", "--har", stale]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


def test_recording_without_credentials_and_content_says_what_cannot_be_seen(tmp_path):
    """DevTools' "sanitized" export."""
    path = tmp_path / "sanitized.har"
    tags = [headers(etag=f'"{number}"') for number in range(2)]
    path.write_bytes(
        har(*(entry(response={"headers": tag, "content": {"size": 2, "text": ""}}) for tag in tags))
    )
    result = run("audit", "--har", path, "--fail-on", "stale")
    assert result.exit_code == 1
    words = " ".join(result.stdout.split())
    assert "where the content was not seen, ETag and length were compared" in words
    assert "Answers recorded without content, compared by ETag and length: 2." in words
    assert "No request has a Cookie or Authorization (a sanitized export?): leaks cannot be seen." in words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--admin", "127.0.0.1:1"), "no report from 127.0.0.1:1: Connection refused"),
        (("--admin", "http://nowhere"), "no address"),
        (("--har", "no-such.har"), "does not exist"),
        (("--har", ROOT / "README.md"), "README.md: not a HAR file"),
        (("--har", CHROMIUM, "--json", "--rules"), "exclude each other"),
        (("--har", CHROMIUM, "--fail-on", "fine"), "'fine' is not one of"),
    ],
)
def test_wrong_usage_ends_with_2(words, said):
    result = run("audit", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


class TestInit:
    def test_writes_the_shipped_rules_and_the_schema_where_there_are_none(self, tmp_path):
        path = tmp_path / "new" / "rules.yaml"
        result = run("init", path)
        assert result.exit_code == 0, result.output
        assert path.read_bytes() == (ROOT / "config" / "rules.yaml").read_bytes()
        schema = path.with_name("rules.schema.json")
        assert schema.read_bytes() == (ROOT / "config" / "rules.schema.json").read_bytes()
        assert result.stdout.splitlines() == [
            f"wrote {path}",
            f"wrote {schema}",
            f"Next: nocache-proxy check {path}",
        ]

    def test_never_touches_an_existing_file(self, tmp_path):
        path = tmp_path / "rules.yaml"
        path.write_text("mine")
        result = run("init", path)
        assert (result.exit_code, path.read_text()) == (1, "mine")
        assert f"{path} exists, and is left as it is." in result.stderr
        assert not path.with_name("rules.schema.json").exists()

    def test_leaves_an_existing_schema(self, tmp_path):
        schema = tmp_path / "rules.schema.json"
        schema.write_text("mine")
        result = run("init", tmp_path / "rules.yaml")
        assert result.exit_code == 0
        assert schema.read_text() == "mine"
        assert f"{schema} exists, and is left as it is" in result.stdout

    def test_adds_what_a_recording_proposes_to_be_watched_first(self, tmp_path):
        path = tmp_path / "rules.yaml"
        assert run("init", path, "--har", CHROMIUM).exit_code == 0
        rules = loader.load(path)
        assert rule_tests.run(rules) == []
        proposed = [rule for rule in rules.rules if rule.name.startswith("audit-")]
        assert len(proposed) == 4
        assert {rule.mode for rule in proposed} == {"observe"}
        assert run("check", path).exit_code == 0

    def test_what_it_added_is_in_force_when_the_mode_is_changed(self, tmp_path):
        """As the README says it: with `sed`, and nothing else to mend."""
        path = tmp_path / "rules.yaml"
        run("init", path, "--har", CHROMIUM)
        path.write_text(path.read_text().replace("mode: observe", "mode: enforce"))
        assert run("check", path).exit_code == 0
        shown = run(
            "explain", "GET", "/api/changing", "-H", "Sec-Fetch-Dest: empty", "--rules", path, "--json"
        )
        assert json.loads(shown.stdout)["decision"]["rule"] == "audit-api-changing"

    def test_directory_that_cannot_be_written_is_told(self, tmp_path):
        (tmp_path / "file").write_text("")
        result = run("init", tmp_path / "file" / "rules.yaml")
        assert result.exit_code == 1
        assert "Not a directory" in result.stderr or "exists" in result.stderr
