"""What `explain` says of caches at its end."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from proxy.audit.explained import caches_of
from proxy.cli import cli
from proxy.rules.engine.matching import Ruleset
from proxy.rules.model import Rule
from proxy.rules.policies import STRICT
from proxy.rules.tools.dry_run import TrialRequest, TrialResponse
from proxy.rules.tools.explain import explain
from tests.rules.making import conditions

RULES = Ruleset([Rule("api", STRICT, conditions(paths=("/api",)))])


def before(*fields: tuple[bytes, bytes], status: int = 200, sent=()) -> dict[str, str]:
    request, response = TrialRequest("GET", b"/other", tuple(sent)), TrialResponse(status, fields)
    return {cache: says["before"] for cache, says in caches_of(explain(RULES, request, response)).items()}


def test_rule_takes_every_cache_its_permission():
    request, response = TrialRequest("GET", b"/api"), TrialResponse(200, ((b"Cache-Control", b"max-age=60"),))
    assert caches_of(explain(RULES, request, response)) == {
        cache: {"before": "may reuse it for 60 s", "after": "must not store it"}
        for cache in ("private", "shared", "internet_explorer")
    }


@pytest.mark.parametrize(
    ("fields", "private", "shared", "explorer"),
    [
        (
            [],
            "may reuse it as long as it chooses, as no lifetime is given",
            "may reuse it as long as it chooses, as no lifetime is given",
            "may reuse it until it is closed, as no lifetime is given",
        ),
        (
            [(b"Cache-Control", b"private, s-maxage=5, max-age=7")],
            "may reuse it for 7 s",
            "must not store it",
            "may reuse it for 7 s",
        ),
        (
            [(b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=9")],
            *["may reuse it for 9 s"] * 2,
            "must not store it",
        ),
        (
            [(b"Vary", b"Cookie"), (b"Cache-Control", b"max-age=9")],
            *["may reuse it for 9 s"] * 2,
            "may store it, and asks before each use, because of Vary",
        ),
        ([(b"Cache-Control", b"no-cache")], *["may store it, and must ask before each use"] * 3),
        ([(b"Cache-Control", b"no-store"), (b"Vary", b"Cookie")], *["must not store it"] * 3),
        (
            [(b"Last-Modified", b"Mon, 23 Nov 2026 11:50:00 GMT")],
            *["may reuse it as long as it chooses, typically 60 s, as no lifetime is given"] * 3,
        ),
    ],
)
def test_each_kind_of_cache_has_its_own_sentence(fields, private, shared, explorer):
    assert before(*fields) == {"private": private, "shared": shared, "internet_explorer": explorer}


def test_command_ends_with_what_caches_may_do(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\nrules: [{name: api, match: {paths: [/api]}}]\n")
    words = [
        "explain",
        "GET",
        "/api",
        "--rules",
        str(rules),
        "--response-header",
        "Cache-Control: max-age=600",
    ]
    lines = CliRunner().invoke(cli, words).stdout.splitlines()
    assert lines[-4:] == [
        "Caches:",
        "  a browser must not store it; without the rules it may reuse it for 600 s",
        "  a shared cache must not store it; without the rules it may reuse it for 600 s",
        "  Internet Explorer must not store it; without the rules it may reuse it for 600 s",
    ]
    report = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    assert report["caches"]["shared"] == {"before": "may reuse it for 600 s", "after": "must not store it"}
