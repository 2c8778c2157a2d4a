"""Cases 1 to 12: whatever the app says about caching, an enforced response says one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases.support import CACHE_CONTROL, EXPIRED, response, rules

if TYPE_CHECKING:
    from tests.cases.conftest import Scripted

POLICIES = ("classic", "strict")


def api(policy: str) -> str:
    return rules(f"{{name: api, match: {{methods: [GET], paths: ['/api/**']}}, policy: {policy}}}")


@pytest.mark.parametrize("policy", [*POLICIES, "revalidate"])
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["Cache-Control: public, max-age=31536000, immutable"], id="case_01_public"),
        pytest.param(["Cache-Control: public", "cAChE-cONTROL: max-age=600"], id="case_02_two_lines"),
        pytest.param(["Cache-Control: no-store, must-understand"], id="case_03_must_understand"),
        pytest.param(['Cache-Control: private="x, no-store", max-age=600'], id="case_04_quoted_false_friend"),
        pytest.param(['Cache-Control: no-cache="Set-Cookie", max-age=600'], id="case_05_qualified_no_cache"),
        pytest.param([], id="no_cache_control"),
        pytest.param(['Cache-Control: x="no-transform", max-age=600'], id="quoted_no_transform"),
        pytest.param(["Connection: Cache-Control", "Cache-Control: max-age=600"], id="named_in_connection"),
    ],
)
async def test_cases_01_to_05_one_cache_control(scripted: Scripted, policy: str, lines: list[str]) -> None:
    """Exactly one Cache-Control with the policy's value, in place of all that the app sent."""
    gateway, _ = await scripted(response(*lines), api(policy))
    reply = await gateway.ask("/api/data")
    assert reply.values("cache-control") == [CACHE_CONTROL[policy]]
    assert (reply.status, reply.content) == (200, b"hello")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "value", ["max-age=600, no-transform", "No-Transform", 'x="a", no-transform, max-age=1']
)
async def test_case_06_no_transform_is_kept(scripted: Scripted, policy: str, value: str) -> None:
    """`no-transform` is not about reuse (RFC 9111 section 5.2.2.6): it stays, `max-age` goes."""
    gateway, _ = await scripted(response(f"Cache-Control: {value}"), api(policy))
    reply = await gateway.ask("/api/data")
    assert reply.values("cache-control") == [CACHE_CONTROL[policy] + ", no-transform"]


@pytest.mark.parametrize("policy", [*POLICIES, "revalidate"])
@pytest.mark.parametrize(
    "name",
    [
        *("CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Foo-CDN-Cache-Control", "Edge-Control"),
        *(
            "cdn-cache-control",
            "EDGE-CONTROL",
            "Surrogate-Control",
            "surrogate-control",
            "No-Vary-Search",
            "Warning",
        ),
    ],
)
async def test_case_10_fields_that_beat_cache_control_are_removed(
    scripted: Scripted, policy: str, name: str
) -> None:
    """In any spelling, and each line of them."""
    gateway, _ = await scripted(
        response(f"{name}: max-age=600", "X-Kept: yes", f"{name}: public"), api(policy)
    )
    reply = await gateway.ask("/api/data")
    assert reply.values(name.lower()) == []
    assert reply.value("x-kept") == "yes"


@pytest.mark.parametrize("policy", POLICIES)
async def test_case_10_x_accel_expires_is_overwritten(scripted: Scripted, policy: str) -> None:
    """nginx obeys it before Cache-Control; 0 is the one value that stops every nginx."""
    gateway, _ = await scripted(response("X-Accel-Expires: 600", "x-accel-expires: @99"), api(policy))
    assert (await gateway.ask("/api/data")).values("x-accel-expires") == ["0"]


@pytest.mark.parametrize("policy", [*POLICIES, "revalidate"])
@pytest.mark.parametrize(
    "lines",
    [
        ["Expires: Fri, 01 Jan 2100 00:00:00 GMT"],
        ["Expires: Fri, 01 Jan 2100 00:00:00 GMT", "expires: Sat, 02 Jan 2100 00:00:00 GMT"],
        ["Expires: Thu, 01 Jan 1970 00:00:00 GMT"],
        ["Expires: 0"],
        [],
    ],
)
async def test_case_11_one_expires_far_in_the_past(scripted: Scripted, policy: str, lines: list[str]) -> None:
    """The epoch counts as absent in Varnish, and "now" is not past for a cache whose clock is behind."""
    gateway, _ = await scripted(response(*lines), api(policy))
    assert (await gateway.ask("/api/data")).values("expires") == [EXPIRED]


@pytest.mark.parametrize("policy", POLICIES)
async def test_case_12_age_is_removed_and_counted(scripted: Scripted, policy: str) -> None:
    """`Age` says that a cache between gateway and app answered: the operator must be able to see it."""
    gateway, _ = await scripted(response("Age: 300"), api(policy))
    reply = await gateway.ask("/api/data")
    assert reply.values("age") == []
    assert gateway.bench.gateway.stats.upstream_cache_hits_total == 1


async def test_pragma_is_set_once(scripted: Scripted) -> None:
    """An app's own Pragma does not double it."""
    gateway, _ = await scripted(response("Pragma: public", "pragma: cache"), api("classic"))
    assert (await gateway.ask("/api/data")).values("pragma") == ["no-cache"]


@pytest.mark.parametrize("policy", POLICIES)
async def test_two_dates_become_one(scripted: Scripted, policy: str) -> None:
    """Werkzeug's own server adds a Date to the app's: `Last-Modified` must not repeat both."""
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    gateway, _ = await scripted(response(f"Date: {date}", f"date: {date}"), api(policy))
    reply = await gateway.ask("/api/data")
    assert reply.values("date") == [date]
    assert reply.values("last-modified") == ([date] if policy == "classic" else [])
