"""`/api/`: the rules in force with what each has done, the explanation that the command gives, and the settings."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy import __version__
from proxy.admin import api
from proxy.admin.slices import in_slices
from proxy.cli import cli
from proxy.rules.loading import loader
from proxy.settings import Settings, SettingsError, Upstream
from tests.admin.standing import RULES, AdminTestServer, Service
from tests.support.peer import XHR
from tests.support.serving import App, sidecar

DATE = re.compile(r"\w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d GMT")  # may change between two answers


@pytest.fixture
def service(tmp_path) -> Service:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return Service(rules_file=loader.load(path))


@pytest.fixture
async def client(aiohttp_client, service):
    return await aiohttp_client(AdminTestServer(service))


# /api/rules


async def test_rules_stand_in_their_order_with_the_hits_of_each(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    async with App().running() as app, sidecar(app.url, rules) as running:
        for target, *fields in (
            ("/", XHR),
            ("/", XHR, 'If-None-Match: "v"'),
            ("/api/items", XHR),  # watched by tried-out, decided by ajax
            ("/file/a",),
            ("/api/items",),
            ("/",),
        ):
            assert (await running.get(target, *fields)).status == 200
        body = await running.ask("/api/rules")
    rows = {row["name"]: row for row in body["rules"]}
    assert list(rows) == ["downloads", "tried-out", "ajax"]
    assert {name: row["hits"] for name, row in rows.items()} == {"downloads": 1, "tried-out": 2, "ajax": 3}
    assert body["unmatched"] == 2
    assert {name: row["conditionals_stripped"] for name, row in rows.items()} == {
        "downloads": 0,
        "tried-out": 0,
        "ajax": 1,
    }
    assert rows["ajax"]["fields_changed"] > 0 == rows["downloads"]["fields_changed"]
    assert rows["downloads"]["because"] == "they must be saved"
    assert rows["ajax"]["because"] is None
    assert [(row["policy"], row["mode"]) for row in body["rules"]] == [
        ("pass", "enforce"),
        ("strict", "observe"),
        ("classic", "enforce"),
    ]
    assert (body["source"], body["last_reload_ok"], body["last_error"]) == (str(rules), True, None)


# /api/explain


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"target": "/"}, ["GET", "/"]),
        (
            {"target": "/api/items?a=1&b=%20", "header": ["X-Requested-With: XMLHttpRequest", "Accept: */*"]},
            [
                *("GET", "/api/items?a=1&b=%20"),
                *("-H", "X-Requested-With: XMLHttpRequest", "-H", "Accept: */*"),
            ],
        ),
        (
            {
                "method": "HEAD",
                "target": "/x",
                "header": ["x-requested-with: XMLHttpRequest", 'If-None-Match: "v"'],
                "status": "404",
                "response_header": ["Cache-Control: max-age=600", 'ETag: "v"', "Vary: Cookie"],
            },
            [
                *("HEAD", "/x", "-H", "x-requested-with: XMLHttpRequest", "-H", 'If-None-Match: "v"'),
                *("--response-status", "404", "--response-header", "Cache-Control: max-age=600"),
                *("--response-header", 'ETag: "v"', "--response-header", "Vary: Cookie"),
            ],
        ),
        (
            {"target": "/", "header": "X-Requested-With: XMLHttpRequest", "response_header": 'ETag: "v"'},
            ["GET", "/", "-H", "X-Requested-With: XMLHttpRequest", "--response-header", 'ETag: "v"'],
        ),
        ({"method": "POST", "target": "/file/../f%69le//a"}, ["POST", "/file/../f%69le//a"]),
    ],
)
async def test_explanation_is_the_commands(client, service, query, words):
    parameters = [
        (name, value)
        for name, values in query.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    rules = ["--rules", service.rules_file.source]
    as_json = CliRunner().invoke(cli, ["explain", *words, *rules, "--json"])
    answer = await client.get("/api/explain", params=parameters)
    assert (answer.status, as_json.exit_code) == (200, 0)
    assert json.loads(without_date(await answer.text())) == json.loads(without_date(as_json.output))
    as_text = CliRunner().invoke(cli, ["explain", *words, *rules])
    answer = await client.get("/api/explain", params=[*parameters, ("format", "text")])
    assert answer.content_type == "text/plain"
    assert without_date(await answer.text()) == without_date(as_text.output)


async def test_explanation_names_the_rule_that_decides_and_where_it_stands(client, service):
    answer = await client.get("/api/explain?target=/a&header=X-Requested-With:XMLHttpRequest")
    body = await answer.json()
    assert body["decision"]["rule"] == "ajax"
    assert [(row["name"], row["result"]) for row in body["rules"]] == [
        ("downloads", "no"),
        ("tried-out", "no"),
        ("ajax", "decides"),
    ]
    assert body["rules"][2]["place"] == f"{service.rules_file.source}:5"


async def test_request_that_would_be_refused_is_explained_as_refused(client):
    answer = await client.get("/api/explain?target=/a&method=get")
    assert answer.status == 200
    refused = (await answer.json())["refused"]
    assert refused["status"] == 400
    assert refused["reason"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "no target; it is the request target as a client sends it, such as /path?query"),
        ("target=", "no target; it is"),
        (
            "target=/&path=/",
            "found parameter path, allowed: method, target, header, status, response_header, format",
        ),
        ("target=/&status=199", 'found status "199", allowed: 200 to 599'),
        ("target=/&status=600", 'found status "600", allowed: 200 to 599'),
        ("target=/&status=2xx", 'found status "2xx", allowed: 200 to 599'),
        ("target=/&status=%D9%A2%D9%A0%D9%A0", "allowed: 200 to 599"),  # digits, but not ASCII's
        ("target=/&header=Accept", "allowed: 'Name: value'"),
        ("target=/&header=A%20b:%20c", "allowed: 'Name: value'"),
        ("target=/&response_header=Cache-Control", "allowed: 'Name: value'"),
        (f"target=/{'x' * 1024}", "found a target or field of more than 1024 characters"),
        (f"target=/&header=A:{'x' * 1024}", "found a target or field of more than 1024 characters"),
        ("target=/" + "&header=A:b" * 129, "found more than 128 fields"),
    ],
)
async def test_query_that_cannot_be_explained_gets_a_400_with_what_is_allowed(client, query, error):
    answer = await client.get(f"/api/explain?{query}")
    assert (answer.status, answer.content_type) == (400, "application/json")
    assert error in (await answer.json())["error"]


def with_many_rules(service: Service, count: int) -> None:
    names = "".join(f"  - {{name: r{number}, match: {{paths: [/{number}]}}}}\n" for number in range(count))
    service.rules_file = loader.loads(f"version: 1\nrules:\n{names}".encode(), "rules.yaml")


async def test_explanation_lets_others_run(client, service):
    """A thousand rules take a second: the loop goes on between any two of them, see `proxy.admin.slices`."""
    with_many_rules(service, 50)
    turns = 0
    answer = asyncio.ensure_future(client.get("/api/explain?target=/49"))
    while not answer.done():
        turns += 1
        await asyncio.sleep(0)
    assert (await (await answer).json())["decision"]["rule"] == "r49"
    assert turns > 50


async def test_one_explanation_at_a_time_is_given_and_the_rest_is_refused(client, monkeypatch):
    is_explaining, goes_on = asyncio.Event(), asyncio.Event()
    explain = api._explain

    async def held(*arguments):
        is_explaining.set()
        await goes_on.wait()
        return await explain(*arguments)

    monkeypatch.setattr(api, "_explain", held)
    first = asyncio.ensure_future(client.get("/api/explain?target=/49"))
    await is_explaining.wait()
    for _ in range(3):
        answer = await client.get("/api/explain?target=/49")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    goes_on.set()
    assert (await first).status == 200
    assert (await client.get("/api/explain?target=/49")).status == 200


async def test_explanation_that_nobody_waits_for_is_given_up(client, service, monkeypatch):
    """200 of them took 9 s of CPU and made requests 80 times slower."""
    with_many_rules(service, 2000)
    asked, explained = asyncio.Event(), 0

    async def counted(rows, size=1):
        nonlocal explained
        async for some in in_slices(rows, size):
            explained += 1
            asked.set()
            yield some

    monkeypatch.setattr(api, "in_slices", counted)
    with contextlib.suppress(asyncio.CancelledError):
        asking = asyncio.ensure_future(client.get("/api/explain?target=/49"))
        await asked.wait()
        asking.cancel()
        await asking
    while client.server.runner.server.open:
        await asyncio.sleep(0)
    before = explained
    for _ in range(20):
        await asyncio.sleep(0)
    assert explained == before < 2000


# /api/config


async def test_settings_are_told_by_their_names_with_units(client, service):
    body = await (await client.get("/api/config")).json()
    assert body["version"] == __version__
    assert set(body["settings"]) == {field.name for field in dataclasses.fields(Settings)}
    assert body["settings"]["upstream"] == "http://app:5000"
    assert body["settings"]["connect_timeout_s"] == 5
    assert body["settings"]["rules"] == "config/rules.yaml"
    assert "127.0.0.0/8" in body["settings"]["trusted_proxies"]
    assert body["settings"]["upstream_ca"] is None


async def test_uptime_rises(client):
    told = [(await (await client.get("/api/config")).json())["uptime_s"] for _ in range(2)]
    assert all(earlier <= later for earlier, later in pairwise(told))
    assert told[0] > 0


@pytest.mark.parametrize(
    "text", ["http://user:secret@app:5000", "https://token@app", "http://app?key=secret"]
)
def test_there_is_no_secret_to_tell_for_an_upstream_cannot_have_one(text):
    with pytest.raises(SettingsError):
        Upstream.parse(text)


async def test_environment_is_not_told(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    environment = {"NOCACHE_PROXY_LOG_LEVEL": "warning", "APP_SECRET": "hunter2"}
    async with (
        App().running() as app,
        sidecar(app.url, rules, "--log-level", "info", env=environment) as running,
    ):
        body = await running.ask("/api/config")
    assert body["settings"]["log_level"] == "info"
    assert body["settings"]["rules"] == str(Path(rules))
    assert "hunter2" not in json.dumps(body)


def without_date(text: str) -> str:
    return DATE.sub("(now)", text)
