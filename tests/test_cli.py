"""The contract of the command line: help that teaches, flags before variables, exit codes, errors on standard error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import fields
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import proxy.demo
from proxy import __version__
from proxy.cli import cli
from proxy.service import healthcheck, live, logs, serve, sockets
from proxy.settings import LOG_FIELDS, PRIVATE_NETWORKS, Address, Settings, Upstream, parse_networks

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "config" / "rules.schema.json"
COMMANDS = {"serve", "demo", "check", "explain", "schema", "healthcheck", "audit", "init"}
APP = Upstream.parse("http://127.0.0.1:5000")
GOOD = "version: 1\nrules: [{name: api, match: {paths: [/api/**]}, policy: strict}]\n"
BAD = "version: 1\nrules:\n  - nam: a\n  - name: b\n    polcy: pass\n"


def run(*words: str, **env: str) -> Result:
    return CliRunner(env=env).invoke(cli, words)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """None of the person's own."""
    for flag in ("UPSTREAM", "LISTEN", "RULES", "ADMIN"):
        monkeypatch.delenv(f"NOCACHE_PROXY_{flag}", raising=False)


@pytest.fixture
def served(monkeypatch):
    """What `serve` was told, without serving."""
    told: list[Settings] = []
    monkeypatch.setattr(logs, "configure", lambda form, level: None)
    monkeypatch.setattr(serve, "serve", lambda settings: told.append(settings) or 0)

    def settings_of(*words: str, **env: str) -> Settings:
        result = run("serve", *words, **env)
        assert (result.exit_code, result.output) == (0, ""), result.output
        return told.pop()

    return settings_of


@pytest.fixture
def rules(tmp_path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    return path


# Help


def test_bare_command_teaches_where_to_begin():
    bare, asked = run(), run("--help")
    assert (bare.exit_code, asked.exit_code) == (2, 0)
    assert bare.stderr == asked.stdout
    for line in (
        "  See it work:          nocache-proxy demo",
        "  Put it before an app: nocache-proxy serve --upstream http://127.0.0.1:5000",
        "  Ask what a rule does: nocache-proxy explain GET /api -H 'X-Requested-With: XMLHttpRequest'",
    ):
        assert line in asked.stdout.splitlines(), "each on a line of its own"
    assert set(cli.commands) == COMMANDS
    for name, command in cli.commands.items():
        assert f"  {name:<12} {command.short_help}" in asked.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_says_what_a_command_does_and_what_each_flag_means(name):
    by_long, by_short = run(name, "--help"), run(name, "-h")
    assert by_long.stdout == by_short.stdout
    assert (by_long.exit_code, by_long.stderr) == (0, "")
    assert "\\b" not in by_long.stdout
    text = squeezed(by_long.stdout)
    command = cli.commands[name]
    assert command.help
    assert squeezed(command.help.splitlines()[0]) in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in text
            assert parameter.help, f"{parameter.opts[-1]} has no help"
            assert squeezed(parameter.help) in text


def squeezed(text: str) -> str:
    """Without white space: lines are broken at hyphens too."""
    return "".join(text.split())


def test_help_of_serve_shows_default_variable_and_range_of_each_flag():
    text = " ".join(run("serve", "--help").stdout.split())
    assert "[env var: NOCACHE_PROXY_LISTEN; default: 127.0.0.1:8080]" in text
    assert "[env var: NOCACHE_PROXY_UPSTREAM; required]" in text
    assert "[env var: NOCACHE_PROXY_WORKERS; default: 1; 1<=x<=64]" in text
    assert "[env var: NOCACHE_PROXY_ACCESS_LOG; default: json]" in text
    assert "--access-log [json|text|off]" in text
    assert (
        "Exit codes: 0 after SIGTERM or Ctrl-C, 2 for wrong usage, 78 when the rules or settings cannot be used."
        in text
    )


def test_example_in_the_help_of_explain_can_be_copied():
    lines = [line.strip() for line in run("explain", "--help").stdout.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith("Example: "))
    assert lines[at].endswith("XMLHttpRequest' \\")
    assert lines[at + 1] == "--response-header 'Cache-Control: max-age=600'"


def test_version_is_told():
    assert run("--version").stdout == f"nocache-proxy, version {__version__}\n"
    told = subprocess.run(
        [sys.executable, "-m", "proxy", "--version"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, f"nocache-proxy, version {__version__}\n", "")


# Wrong usage


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["serv"], "No such command 'serv'. Did you mean 'serve'?"),
        (["explian", "GET", "/"], "No such command 'explian'. Did you mean 'explain'?"),
        (["start"], "No such command 'start'"),
        (["serve", "--listne", ":80"], "No such option '--listne'. Did you mean '--listen'?"),
        (["check", "--strickt"], "No such option '--strickt'. Did you mean '--strict'?"),
        (["check", "a", "b", "--against", "c"], "--admin goes with --against, and that with one FILE."),
        (["demo", "now"], "Got unexpected extra argument (now)"),
        (["schema", "now"], "Got unexpected extra argument (now)"),
        (["explain"], "Missing argument 'METHOD'."),
        (["explain", "GET"], "Missing argument 'TARGET'."),
        (["explain", "GET", "/", "-H", "none"], "'none'"),
        (["explain", "GET", "/", "-H", "a: b\r\nc: d"], "found"),
        (["explain", "GET", "/", "--response-header", ": b"], "found"),
        (["explain", "GET", "/", "--response-status", "103"], "103 is not in the range 200<=x<=599."),
        (["explain", "GET", "/", "--live", "app"], "'app' has no scheme; did you mean http://app?"),
        (["healthcheck", "--timeout", "0"], "0.0 is not in the range 0.1<=x<=60."),
        (["healthcheck", "--timeout", "nan"], "'nan' is not a number of seconds."),
        (["healthcheck", "--admin", "9901"], "'9901' is no address; allowed are"),
        (["serve"], "Missing option '--upstream' (env var: 'NOCACHE_PROXY_UPSTREAM')."),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_hint_on_standard_error(words, hint):
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert hint in result.stderr
    assert result.stderr.startswith("Usage: ")
    assert "Traceback" not in result.stderr


# serve


def test_without_flags_serve_gets_the_defaults(served):
    assert served("--upstream", "http://127.0.0.1:5000") == Settings(upstream=APP)


# Every flag: two texts and what they mean.
FLAGS: dict[str, tuple[str, Any, str, Any]] = {
    "upstream": ("http://app:1", Upstream.parse("http://app:1"), "unix:/s", Upstream.parse("unix:/s")),
    "listen": ("0.0.0.0:80", Address("0.0.0.0", 80), "[::]:80", Address("::", 80)),
    "rules": ("a.yaml", Path("a.yaml"), "b.yaml", Path("b.yaml")),
    "admin": ("off", None, "unix:/s", Address(path=Path("/s"))),
    "admin_hosts": ("A.example, b", ("a.example", "b"), "c", ("c",)),
    "workers": ("2", 2, "64", 64),
    "access_log": ("text", "text", "off", "off"),
    "access_log_file": ("a.log", Path("a.log"), "b.log", Path("b.log")),
    "access_log_fields": ("status,ts", ("status", "ts"), "all", LOG_FIELDS),
    "request_id": ("on", "on", "off", "off"),
    "log_level": ("debug", "debug", "error", "error"),
    "trusted_proxies": ("none", (), "10.0.0.0/8,::1", parse_networks("10.0.0.0/8,::1")),
    "forwarded": ("replace", "replace", "off", "off"),
    "via": ("on", "on", "off", "off"),
    "connect_timeout_s": ("1", 1, "0.5", 0.5),
    "request_head_timeout_s": ("1", 1, "0.5", 0.5),
    "response_head_timeout_s": ("1", 1, "0.5", 0.5),
    "idle_timeout_s": ("1", 1, "86400", 86_400),
    "keepalive_timeout_s": ("1", 1, "0", 0),
    "upstream_keepalive_timeout_s": ("1", 1, "0", 0),
    "max_connections": ("1", 1, "1000000", 1_000_000),
    "max_head_size_bytes": ("1024", 1024, "16777216", 16 << 20),
    "max_request_body_bytes": ("1", 1, "1099511627776", 1 << 40),
    "underscore_fields": ("keep", "keep", "drop", "drop"),
    "upstream_ca": ("LICENSE", Path("LICENSE"), "README.md", Path("README.md")),
    "audit": ("off", "off", "on", "on"),
    "drain_delay_s": ("1", 1, "0.5", 0.5),
    "drain_timeout_s": ("1", 1, "0", 0),
}


PATHS = {"rules", "access_log_file"}  # any text may be one: it is told when it is used


def flag_of(name: str) -> str:
    return "--" + name.removesuffix("_s").removesuffix("_bytes").replace("_", "-")


def variable_of(name: str) -> str:
    return "NOCACHE_PROXY_" + flag_of(name)[2:].replace("-", "_").upper()


def test_there_is_a_case_for_each_setting():
    assert list(FLAGS) == [field.name for field in fields(Settings)]


@pytest.mark.parametrize("name", FLAGS)
def test_flag_wins_over_its_variable_and_the_variable_over_the_default(served, name, monkeypatch):
    monkeypatch.chdir(ROOT)
    text, value, other_text, other_value = FLAGS[name]
    required = ["--upstream", "http://127.0.0.1:5000"] if name != "upstream" else []
    default = getattr(Settings(upstream=APP), name)

    by_flag = served(*required, flag_of(name), text)
    assert getattr(by_flag, name) == value
    by_variable = served(*required, **{variable_of(name): text})
    assert by_variable == by_flag
    by_both = served(*required, flag_of(name), other_text, **{variable_of(name): text})
    assert getattr(by_both, name) == other_value
    if name != "upstream":
        assert getattr(served(*required, **{variable_of(name): ""}), name) == default, "empty is not set"
        changed = {
            field.name
            for field in fields(Settings)
            if getattr(by_flag, field.name) != getattr(Settings(upstream=APP), field.name)
        }
        assert changed == {name}


@pytest.mark.parametrize("name", [name for name in FLAGS if name not in PATHS])
def test_variable_that_cannot_be_read_is_named(name, monkeypatch):
    """Whoever reads the log of a container has not typed the flag."""
    required = ["--upstream", "http://127.0.0.1:5000"] if name != "upstream" else []
    result = run("serve", *required, **{variable_of(name): "no such thing"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: Invalid value for '{flag_of(name)}' (env var: '{variable_of(name)}'): " in result.stderr


def test_private_networks_can_be_named(served):
    assert (
        served("--upstream", "http://a", "--trusted-proxies", "private").trusted_proxies == PRIVATE_NETWORKS
    )


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (None, 0),
        (SystemExit(3), 3),
        (serve.SettingsError("--x y: broken"), 78),
        (sockets.ListenError("cannot"), 78),
    ],
)
def test_exit_code_of_serve_says_how_it_ended(monkeypatch, raised, code):
    def end(settings: Settings) -> int:
        if raised is not None:
            raise raised
        return 0

    monkeypatch.setattr(logs, "configure", lambda form, level: None)
    monkeypatch.setattr(serve, "serve", end)
    result = run("serve", "--upstream", "http://127.0.0.1:5000")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == (f"{raised}\n" if code == 78 else "")


# check and explain


def test_check_tells_good_rules_on_standard_output(rules):
    result = run("check", str(rules))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == f"{rules}: 1 rule, no tests, no warnings"


def test_check_tells_every_mistake_on_standard_error(rules):
    rules.write_text(BAD)
    result = run("check", str(rules))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"{rules}:3:5: rules[0].nam: unknown key, did you mean 'name'?",
        f"{rules}:5:5: rules[1].polcy: unknown key, did you mean 'policy'?",
        f"{rules}: 2 mistakes; this file cannot be used",
    ]


def test_check_takes_several_files_and_fails_if_one_does(rules, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD)
    result = run("check", str(rules), str(bad))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [f"{rules}: 1 rule, no tests, no warnings"]
    assert result.stderr.splitlines()[-1] == f"{bad}: 2 mistakes; this file cannot be used"
    assert run("check", str(rules), str(rules)).exit_code == 0


def test_check_reads_standard_input():
    asked = CliRunner().invoke(cli, ["check", "-"], input=GOOD)
    assert (asked.exit_code, asked.stdout) == (0, "-: 1 rule, no tests, no warnings\n")
    refused = CliRunner().invoke(cli, ["check", "-"], input=BAD)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("-:3:5: rules[0].nam: unknown key")


def test_check_takes_the_file_of_the_environment(rules, monkeypatch):
    monkeypatch.setenv("NOCACHE_PROXY_RULES", str(rules))
    assert run("check").stdout.startswith(f"{rules}: ")


def test_warnings_are_on_standard_error_only_when_they_fail_the_check(rules):
    rules.write_text("version: 1\nrules: []\n")
    lax, strict = run("check", str(rules)), run("check", "--strict", str(rules))
    assert (lax.exit_code, lax.stderr, strict.exit_code, strict.stdout) == (0, "", 1, "")
    assert "warning: " in lax.stdout
    assert "warning: " in strict.stderr


@pytest.mark.parametrize("text", [GOOD, BAD])
def test_for_programs_all_is_on_standard_output_whatever_the_exit_code(rules, text):
    rules.write_text(text)
    for words in (["check", str(rules)], ["explain", "GET", "/api/a", "--rules", str(rules)]):
        result = run(*words, "--json")
        assert (result.exit_code, result.stderr) == (int(text == BAD), "")
        assert isinstance(json.loads(result.stdout), dict)


@pytest.mark.parametrize("words", [["check"], ["explain", "GET", "/api/a"]])
def test_rules_file_is_an_argument_or_a_variable_or_the_one_in_config(words, rules, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_default = run(*words)
    assert by_default.exit_code == 1
    assert "config/rules.yaml: no such file" in by_default.stderr
    by_variable = run(*words, NOCACHE_PROXY_RULES=str(rules))
    assert by_variable.exit_code == 0
    assert str(rules) in by_variable.stdout
    flag = ["none.yaml"] if words == ["check"] else ["--rules", "none.yaml"]
    assert run(*words, *flag, NOCACHE_PROXY_RULES=str(rules)).stderr.startswith("none.yaml: no such file")


def test_explain_tells_its_answer_on_standard_output(rules):
    result = run(
        "explain", "GET", "/api/a", "--rules", str(rules), "--response-header", "Cache-Control: max-age=1"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"Decision: rule api ({rules}:2), policy strict." in result.stdout
    assert "max-age=1" in result.stdout


def test_explain_tells_what_keeps_it_from_answering_on_standard_error(rules):
    refused = run("explain", "GET", "/a b", "--rules", str(rules))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("The proxy answers 400 itself")
    rules.write_text(BAD)
    unusable = run("explain", "GET", "/", "--rules", str(rules))
    assert (unusable.exit_code, unusable.stdout) == (1, "")
    assert unusable.stderr.count("unknown key") == 2


def test_explain_suggests_the_method_that_is_meant(rules):
    refused = run("explain", "get", "/api/a", "--rules", str(rules))
    assert refused.exit_code == 1
    assert refused.stderr.endswith("Methods are in upper case: did you mean GET?\n")


EXPIRED = "Thu, 01 Dec 1994 16:00:00 GMT"  # what the policy sets Expires to


def test_explain_invents_no_date(rules):
    """`classic` sets Last-Modified to the response's date: of a response without one, now."""
    rules.write_text("version: 1\nrules: [{name: all, match: {methods: [GET]}, policy: classic}]\n")
    before = int(time.time())
    shown = json.loads(run("explain", "GET", "/", "--rules", str(rules), "--json").stdout)
    (date,) = set(re.findall(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", json.dumps(shown).replace(EXPIRED, "")))
    assert before <= parsedate_to_datetime(date).timestamp() <= time.time()


@pytest.mark.parametrize("status", ["100", "199", "600"])
def test_statuses_of_the_command_are_those_of_the_api(rules, status):
    result = run("explain", "GET", "/", "--rules", str(rules), "--response-status", status)
    assert result.exit_code == 2
    assert "is not in the range 200<=x<=599" in result.stderr


def test_explain_asks_the_app_with_what_would_reach_it(rules, monkeypatch):
    asked = []

    def fetch(upstream, method, target, request_fields):
        asked.append((str(upstream), method, target, request_fields))
        return 404, [(b"Cache-Control", b"max-age=77")]

    monkeypatch.setattr(live, "fetch_head", fetch)
    words = ["explain", "GET", "/api/a", "--rules", str(rules), "-H", 'If-None-Match: "a"', "-H", "Accept: b"]
    result = run(*words, "--live", "http://app:1")
    assert result.exit_code == 0
    assert asked == [("http://app:1", "GET", "/api/a", [(b"Accept", b"b")])]
    assert "404" in result.stdout
    assert "max-age=77" in result.stdout


def test_explain_that_gets_no_answer_of_the_app_fails_with_the_reason(rules, monkeypatch):
    def fetch(*_: object) -> None:
        raise live.LiveError("http://app:1: Connection refused")

    monkeypatch.setattr(live, "fetch_head", fetch)
    result = run("explain", "GET", "/api/a", "--rules", str(rules), "--live", "http://app:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: http://app:1: Connection refused\n"


# The other commands


def test_schema_prints_the_published_schema():
    result = run("schema")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == SCHEMA.read_text("utf-8")


@pytest.mark.parametrize(("is_well", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize(("flags", "path"), [([], "/readyz"), (["--live"], "/livez")])
def test_healthcheck_probes_and_its_exit_code_says_how_it_is(monkeypatch, is_well, code, flags, path):
    probed = []
    monkeypatch.setattr(healthcheck, "probe", lambda *asked: probed.append(asked) or (is_well, "said"))
    result = run("healthcheck", *flags, "--timeout", "0.5", NOCACHE_PROXY_ADMIN="[::1]:9")
    assert result.exit_code == code
    assert (result.stdout, result.stderr) == (("said\n", "") if is_well else ("", "said\n"))
    assert probed == [(Address("::1", 9), path, 0.5)]
    run("healthcheck", "--admin", "unix:/s", NOCACHE_PROXY_ADMIN="[::1]:9")
    assert probed[1][0] == Address(path=Path("/s"))


def test_healthcheck_has_nothing_to_probe_when_the_admin_listener_is_off():
    result = run("healthcheck", NOCACHE_PROXY_ADMIN="off")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "the admin listener is off: there is nothing to probe\n"


@pytest.mark.parametrize("flags", [[], ["--keep"]])
def test_exit_code_of_the_demo_is_its_own(monkeypatch, flags):
    kept = []
    monkeypatch.setattr(proxy.demo, "run", lambda *, keep: kept.append(keep) or 1)
    assert run("demo", *flags).exit_code == 1
    assert kept == [bool(flags)]


# What a command imports: healthcheck starts anew every few seconds, in a container with a fraction of a core


NEEDS_NO_SERVER = {
    "aiohttp.web",
    "uvloop",
    "prometheus_client",
    "flask",
    "proxy.gateway",
    "proxy.service",
    "proxy.admin",
}
LIGHT = {"aiohttp", "pydantic", "uvloop", "re2", "prometheus_client", "flask", "asyncio", "yaml"}


@pytest.mark.parametrize(
    ("words", "not_imported"),
    [
        (["--version"], LIGHT | {"proxy.settings", "proxy.rules"}),
        (["--help"], LIGHT | {"proxy.settings", "proxy.rules"}),
        (["serve", "--help"], LIGHT | {"proxy.rules", "proxy.gateway", "proxy.service.serve"}),
        (["healthcheck", "--admin", "127.0.0.1:1"], LIGHT | {"proxy.rules", "proxy.gateway"}),
        (["check"], NEEDS_NO_SERVER),
        (["explain", "GET", "/"], NEEDS_NO_SERVER),
        (["schema"], NEEDS_NO_SERVER),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_command_imports_no_more_than_it_needs(words, not_imported):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "proxy", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode in {0, 1}
    imported = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "proxy.cli" in imported
    assert imported & not_imported == set()
