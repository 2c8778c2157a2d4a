"""The admin listener as a whole: probes that tell why, errors in JSON, nothing that a cache may keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.admin.standing import EXPLAIN, PATHS, RULES, AdminTestServer, Service
from tests.support.serving import App, get, sidecar
from tests.support.waiting import until


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def client(aiohttp_client, service):
    return await aiohttp_client(AdminTestServer(service))


# Probes


async def test_livez_does_not_depend_on_anything(client, service):
    service.reasons = ["upstream: the app does not accept connections"]
    answer = await client.get("/livez")
    assert (answer.status, await answer.text()) == (200, "alive\n")


async def test_readyz_is_200_when_traffic_may_be_sent_here(client):
    answer = await client.get("/readyz")
    assert answer.status == 200
    assert await answer.json() == {"ready": True, "reasons": [], "notes": [], "rules": "0123456789ab"}


async def test_readyz_is_503_and_says_why(client, service):
    service.reasons = ["no worker is serving", "upstream: the app does not accept connections"]
    answer = await client.get("/readyz")
    assert answer.status == 503
    body = await answer.json()
    assert (body["ready"], body["reasons"]) == (False, service.reasons)


@pytest.mark.parametrize(
    ("mistakes", "note"),
    [
        (["r.yaml:1:1: a"], "the rules before it are in force: r.yaml:1:1: a"),
        (
            ["r.yaml:1:1: a", "r.yaml:2:1: b", "r.yaml:3:1: c"],
            "in force: r.yaml:1:1: a (and 2 more, see /api/rules)",
        ),
    ],
)
async def test_rules_that_cannot_be_used_are_noted_and_take_no_traffic_away(client, service, mistakes, note):
    service.rules_status = replace(
        service.rules_status, last_reload_ok=False, last_error="\n".join(mistakes), failed_reloads=1
    )
    answer = await client.get("/readyz")
    assert answer.status == 200
    (said,) = (await answer.json())["notes"]
    assert said.endswith(note)
    rules = await (await client.get("/api/rules")).json()
    assert (rules["last_reload_ok"], rules["last_error"].splitlines()) == (False, mistakes)


async def test_readyz_of_a_real_service_turns_with_its_app(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    app = App()
    async with app.running():
        pass  # its port is free from here on
    async with sidecar(app.url, rules) as running:
        answer = await get(running.admin, "/readyz")
        assert answer.status == 503
        assert b"upstream: the app does not accept connections" in answer.content
        assert (await get(running.admin, "/livez")).status == 200
        async with app.running():
            await until(running.is_ready)
            assert (await get(running.admin, "/readyz")).status == 200


# What all answers have in common


@pytest.mark.parametrize("path", [*PATHS, EXPLAIN, "/api/explain", "/nowhere", "/api/"])
async def test_no_answer_may_be_stored_or_sniffed(client, path):
    answer = await client.get(path)
    assert answer.headers.getall("Cache-Control") == ["no-store"]
    assert answer.headers.getall("X-Content-Type-Options") == ["nosniff"]


@pytest.mark.parametrize("path", [*PATHS, EXPLAIN])
async def test_head_is_get_without_content(client, path):
    got, head = await client.get(path), await client.head(path)
    assert (got.status, head.status) == (200, 200)
    assert await got.read()
    assert await head.read() == b""
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    if path not in {"/metrics", "/api/config"}:  # they tell the time
        assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("path", ["/nowhere", "/livez/", "/api", "/page.html", "/page.css/x", "/proc"])
async def test_unknown_path_gets_a_404_that_names_those_that_exist(client, path):
    answer = await client.get(path)
    assert (answer.status, answer.content_type) == (404, "application/json")
    body = await answer.json()
    assert body["error"] == "Not Found"
    others = {"/api/explain", "/api/audit", "/api/audit/reset", "/api/recent"}
    assert {*PATHS} - {"/page.css", "/page.js"} | others == set(body["paths"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/readyz", "/api/rules", "/"])
async def test_other_methods_get_a_405_that_says_which_are_allowed(client, method, path):
    answer = await client.request(method, path)
    assert (answer.status, answer.content_type) == (405, "application/json")
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await answer.json())["error"] == "Method Not Allowed"


async def test_failure_of_the_listener_is_a_500_in_json_and_a_traceback_in_the_log(client, service, caplog):
    def fail() -> list[int]:
        raise RuntimeError("no such process")

    service.pids = fail
    answer = await client.get("/metrics")
    assert (answer.status, answer.headers["Cache-Control"]) == (500, "no-store")
    assert await answer.json() == {"error": "the proxy failed; its log says how"}
    assert "no such process" in caplog.text


# Apart from the data


async def test_no_path_of_the_listener_is_taken_from_the_app(tmp_path):
    """The data port has none of them."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    async with App().running() as app, sidecar(app.url, rules) as running:
        for path in (*PATHS, EXPLAIN):
            assert (await running.get(path)).content == b"well"
            assert app.arrived.get_nowait() == path


async def test_listener_can_be_left_out(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    async with App().running() as app, sidecar(app.url, rules, "--admin", "off") as running:
        assert (await running.get("/")).content == b"well"
        assert await running.log.matching("admin on off")
