"""`/api/recent`: what it takes, and who may begin the recording."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient

from tests.admin.standing import AdminTestServer, Service


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def client(service):
    async with TestClient(AdminTestServer(service)) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "after"), [("", 0), ("?after=0", 0), ("?after=1764194054123456", 1764194054123456)]
)
async def test_what_is_new_after_an_id_is_asked_for(client, service, query, after):
    answer = await client.get(f"/api/recent{query}")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert await answer.json() == {"watching_since": "2026-11-26T12:00:00Z", "requests": []}
    assert service.asked_after == [after]


@pytest.mark.parametrize(
    "query", ["after=", "after=-1", "after=x", "after=%C2%B2", f"after={'9' * 19}", "before=1"]
)
async def test_anything_else_is_a_mistake_and_begins_nothing(client, service, query):
    answer = await client.get(f"/api/recent?{query}")
    assert answer.status == 400
    assert "after=ID" in (await answer.json())["error"]
    assert service.asked_after == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
    ],
)
async def test_page_of_another_site_begins_no_recording(client, service, headers):
    answer = await client.get("/api/recent", headers=headers)
    assert answer.status == 403
    assert service.asked_after == []


async def test_name_of_another_site_is_refused_as_everywhere(client, service):
    answer = await client.get("/api/recent", headers={"Host": "evil.example"})
    assert answer.status == 421
    assert service.asked_after == []
