"""The contract of `config/rules.yaml` as shipped: it does what its comments say, and teaches it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.rules.loading.loader import load
from proxy.rules.tools import commands
from proxy.rules.tools.dry_run import TrialRequest, TrialResponse, run_trial
from proxy.rules.tools.lint import lint
from proxy.rules.tools.rule_tests import run

SHIPPED = Path(__file__).parents[2] / "config" / "rules.yaml"
AJAX = (b"X-Requested-With", b"XMLHttpRequest")
FETCH = (b"Sec-Fetch-Dest", b"empty")
CLASSIC = "no-store, no-cache, must-revalidate, post-check=0, pre-check=0"
STRICT = "no-store, no-cache, must-revalidate, max-age=0, private"


@pytest.fixture(scope="module")
def shipped():
    return load(SHIPPED)


def ask(shipped, method, target, *fields, response=((b"Cache-Control", b"max-age=600"),), status=200):
    return run_trial(
        shipped.ruleset, TrialRequest(method, target.encode(), fields), TrialResponse(status, tuple(response))
    )


def cache_control(trial) -> list[str]:
    return [value.decode() for name, value in trial.fields if name.lower() == b"cache-control"]


def test_it_has_neither_mistakes_nor_warnings_and_passes_its_tests(shipped):
    assert lint(shipped) == []
    assert run(shipped) == []
    assert commands.check(SHIPPED, strict=True) == (0, f"{SHIPPED}: 5 rules, 9 tests passed, no warnings")


def test_every_rule_says_why_it_is_there(shipped):
    assert [rule.name for rule in shipped.rules] == ["downloads", "static", "ajax", "fetch", "data"]
    assert all(rule.because for rule in shipped.rules)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("value", [b"XMLHttpRequest", b"xmlhttprequest", b"XMLHttpRequest, XMLHttpRequest"])
def test_an_xhr_gets_the_recipe_of_the_story(shipped, method, value):
    trial = ask(shipped, method, "/file/last_uploaded", (b"x-requested-with", value))
    assert trial.resolution.rule.name == "ajax"
    assert cache_control(trial) == [CLASSIC]
    fields = {name.lower(): value for name, value in trial.fields}
    assert fields[b"pragma"] == b"no-cache"
    assert fields[b"last-modified"] == fields[b"date"]


@pytest.mark.parametrize("status", [200, 301, 308, 404, 405, 410, 414, 500, 501, 503])
def test_every_status_is_protected(shipped, status):
    assert cache_control(ask(shipped, "GET", "/gone", AJAX, status=status)) == [CLASSIC]


def test_fetch_is_protected_though_it_sends_no_x_requested_with(shipped):
    trial = ask(shipped, "GET", "/file/last_uploaded", FETCH)
    assert trial.resolution.rule.name == "fetch"
    assert cache_control(trial) == [STRICT]


@pytest.mark.parametrize(
    "target",
    [
        "//file/last_uploaded",
        "/%66ile/last_uploaded",
        "/static/../file/last_uploaded",
        "/static/%2e%2e/file/last_uploaded",
        "/file/last_uploaded/",
        "/file/last_uploaded?static=/static/",
        "/file/last_uploaded;v=1",
        "/file/download/../last_uploaded",
        "/file/download/%2e%2e%2flast_uploaded",
    ],
)
@pytest.mark.parametrize("field", [AJAX, FETCH])
def test_no_spelling_of_the_path_gets_past(shipped, target, field):
    assert cache_control(ask(shipped, "GET", target, field))[0].startswith("no-store")


@pytest.mark.parametrize(
    "fields", [(), ((b"Sec-Fetch-Dest", b"document"),), ((b"X-Requested-With", b"com.example"),)]
)
def test_a_navigation_keeps_its_caching_and_says_what_it_varies_on(shipped, fields):
    trial = ask(shipped, "GET", "/file/last_uploaded", *fields)
    assert trial.resolution.rule is None
    assert cache_control(trial) == ["max-age=600"]
    assert (b"Vary", b"X-Requested-With, Sec-Fetch-Dest") in trial.fields


@pytest.mark.parametrize("target", ["/file/download/report.pdf", "/file/download/a/b"])
@pytest.mark.parametrize("field", [AJAX, FETCH])
def test_downloads_are_left_as_the_app_sends_them(shipped, target, field):
    trial = ask(shipped, "GET", target, field)
    assert trial.resolution.rule.name == "downloads"
    assert trial.fields == ((b"Cache-Control", b"max-age=600"), (b"Date", trial.fields[-1][1]))


@pytest.mark.parametrize("target", ["/static/jquery.js", "/app/static/data.json"])
@pytest.mark.parametrize("field", [AJAX, FETCH, (b"Accept", b"*/*")])
def test_static_files_are_left_as_the_app_sends_them(shipped, target, field):
    json = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"max-age=600"))
    trial = ask(shipped, "GET", target, field, response=json)
    assert trial.resolution.rule.name == "static"
    assert cache_control(trial) == ["max-age=600"]


@pytest.mark.parametrize(
    ("media_type", "is_protected"),
    [
        (b"application/json", True),
        (b"application/json; charset=utf-8", True),
        (b"application/problem+json", True),
        (b"text/json", True),
        (b"application/xml", True),
        (b"text/xml", True),
        (b"application/soap+xml", True),
        (b"application/xhtml+xml", False),
        (b"application/rss+xml", False),
        (b"application/atom+xml", False),
        (b"image/svg+xml", False),
        (b"text/html", False),
        (b"text/javascript", False),
    ],
)
def test_data_are_told_by_their_type_where_no_field_says_who_asks(shipped, media_type, is_protected):
    """Browsers send Sec-Fetch-Dest over HTTPS and to localhost only, and fetch() no X-Requested-With."""
    sent = ((b"Content-Type", media_type), (b"Cache-Control", b"max-age=600"))
    assert cache_control(ask(shipped, "GET", "/x", response=sent)) == [
        STRICT if is_protected else "max-age=600"
    ]


def test_data_that_are_downloaded_are_left_alone(shipped):
    sent = ((b"Content-Type", b"application/json"), (b"Content-Disposition", b"attachment"))
    assert ask(shipped, "GET", "/x", response=sent).resolution.rule is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_left_alone(shipped, method):
    assert ask(shipped, method, "/file/upload", AJAX).resolution.rule is None


def test_a_get_in_disguise_is_a_get(shipped):
    trial = ask(shipped, "POST", "/file/last_uploaded", AJAX, (b"X-HTTP-Method-Override", b"GET"))
    assert trial.resolution.rule.name == "ajax"


def test_its_comments_name_every_policy_and_the_commands_that_help():
    text = SHIPPED.read_text("utf-8")
    for taught in (
        "classic | strict | revalidate | pass",
        "nocache-proxy check",
        "nocache-proxy explain",
        "unless",
    ):
        assert taught in text


def test_the_policy_in_its_comments_can_be_used(shipped, tmp_path):
    """Taking the comment sign off must give a policy that works."""
    text = SHIPPED.read_text("utf-8")
    lines = text.splitlines()
    start = lines.index("# policies:")
    end = lines.index("", start)
    lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
    path = tmp_path / "rules.yaml"
    path.write_text("\n".join(lines).replace("policy: classic  ", "policy: classic-plus  "), "utf-8")
    rules_file = load(path)
    assert rules_file.rules[2].policy.name == "classic-plus"
    assert ("Surrogate-Control", "no-store") in rules_file.rules[2].policy.set_fields
    assert lint(rules_file) == []
