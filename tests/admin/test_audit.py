"""`/api/audit`: the report, and who may have it begin anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient

from proxy.audit.report_call import ReportError
from tests.admin.standing import AdminTestServer, Service

RESET = "/api/audit/reset"


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def client(service):
    async with TestClient(AdminTestServer(service)) as client:
        yield client


async def test_report_is_answered_as_it_is_made(client, service):
    service.report = b'{"routes": []}'
    answer = await client.get("/api/audit")
    assert (answer.status, await answer.json()) == (200, {"routes": []})
    assert answer.headers["Cache-Control"] == "no-store"


async def test_report_that_cannot_be_made_is_told(client, service):
    service.report = ReportError("no report after 60 s")
    answer = await client.get("/api/audit")
    assert (answer.status, await answer.json()) == (503, {"error": "no report after 60 s"})


async def test_audit_that_is_off_says_so(client, service):
    service.settings = replace(service.settings, audit="off")
    for answer in (await client.get("/api/audit"), await client.post(RESET)):
        assert (answer.status, await answer.json()) == (404, {"error": "the audit is off: serve --audit on"})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Origin": "http://localhost:9901", "Host": "localhost:9901"},
        {"Origin": "http://LOCALHOST:9901", "Host": "localhost:9901", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_page_of_this_listener_and_programs_may_reset(client, service, fields):
    answer = await client.post(RESET, headers=fields)
    assert (answer.status, await answer.json()) == (200, {"reset": True})
    assert service.resets == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "http://evil.example", "Host": "localhost:9901"},
        {"Origin": "http://localhost:8080", "Host": "localhost:9901"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:9901", "Host": "localhost:9901"},
    ],
)
async def test_page_of_another_site_may_not(client, service, fields):
    answer = await client.post(RESET, headers=fields)
    assert answer.status == 403
    assert service.resets == 0


async def test_reset_with_content_is_refused(client, service):
    assert (await client.post(RESET, data=b"x")).status == 400
    assert service.resets == 0


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", RESET, "POST"), ("POST", "/api/audit", "GET,HEAD")]
)
async def test_other_methods_are_refused(client, service, method, path, allowed):
    answer = await client.request(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert service.resets == 0
