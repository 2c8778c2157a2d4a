"""Cases 24 to 27: what a rule reads of a request is said in Vary, and read as libraries write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases.support import field_names, names, response, rules

if TYPE_CHECKING:
    from tests.cases.conftest import Scripted, ToFlask
    from tests.legacy.servers import LegacyServer

XHR = "X-Requested-With: XMLHttpRequest"
RULES = rules("{name: ajax, match: {methods: [GET], paths: ['/api/**'], x_requested_with: XMLHttpRequest}}")
SCRIPT = rules("{name: script, match: {methods: [GET], paths: ['/api/**'], script_request: true}}")


@pytest.mark.parametrize("matched", [[XHR], []], ids=["matched", "unmatched"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "X-Requested-With"),
        (["Vary: Accept-Encoding"], "Accept-Encoding, X-Requested-With"),
        (["vary: x-requested-with"], "x-requested-with"),
        (["Vary: Accept", "Vary: Cookie, accept"], "Accept, Cookie, X-Requested-With"),
        (["Vary: Accept-Encoding, X-REQUESTED-WITH"], "Accept-Encoding, X-REQUESTED-WITH"),
        (["Vary: *"], "*"),
        (["Vary: Accept, *"], "*"),
        (["Vary:"], "X-Requested-With"),
    ],
)
async def test_case_24_vary_is_merged(
    scripted: Scripted, lines: list[str], expected: str, matched: list[str]
) -> None:
    """One line, no duplicates, the app's members first; `*` is kept and never generated."""
    gateway, _ = await scripted(response(*lines), RULES)
    reply = await gateway.ask("/api/data", *matched)
    assert reply.values("vary") == [expected]
    assert reply.is_enforced() is bool(matched)


@pytest.mark.parametrize(
    ("method", "status"),
    [("GET", "404 Not Found"), ("GET", "500 X"), ("GET", "302 Found"), ("HEAD", "200 OK")],
)
async def test_case_24_unmatched_responses_of_any_status_say_vary(
    scripted: Scripted, method: str, status: str
) -> None:
    """An error page that a cache keeps must not answer the XHR either."""
    content = b"" if method == "HEAD" else b"hello"
    gateway, _ = await scripted(response(status=status, content=content), RULES)
    assert (await gateway.ask("/api/data", method=method)).values("vary") == ["X-Requested-With"]


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_case_25_no_vary_where_the_method_rules_the_rule_out(scripted: Scripted, method: str) -> None:
    """The rule asks for GET: nothing on this response depends on the field."""
    gateway, _ = await scripted(response("Vary: Accept"), RULES)
    assert (await gateway.ask("/api/data", XHR, method=method)).values("vary") == ["Accept"]


async def test_case_25_no_vary_elsewhere(scripted: Scripted) -> None:
    """Edge caches drop what varies: a path without such a rule keeps what the app said, in two lines."""
    gateway, _ = await scripted(response("Vary: Accept", "vary: Cookie"), RULES)
    assert (await gateway.ask("/other", XHR)).values("vary") == ["Accept", "Cookie"]


async def test_case_25_no_vary_for_a_rule_on_path_alone(scripted: Scripted) -> None:
    """Nothing to vary on."""
    gateway, _ = await scripted(response(), rules("{name: all, match: {paths: ['/api/**']}}"))
    reply = await gateway.ask("/api/data", XHR)
    assert reply.is_enforced()
    assert reply.values("vary") == []


@pytest.mark.parametrize(
    ("lines", "is_matched"),
    [
        pytest.param(["X-Requested-With: xmlhttprequest"], True, id="lower_case"),
        pytest.param(["X-Requested-With: XMLHttpRequest, XMLHttpRequest"], True, id="set_twice_by_a_script"),
        pytest.param(
            ["X-Requested-With: XMLHttpRequest", "x-requested-with: XMLHttpRequest"], True, id="two_lines"
        ),
        pytest.param(
            ["X-Requested-With: com.example.app", "X-Requested-With: XMLHttpRequest"], True, id="mixed"
        ),
        pytest.param(["X-Requested-With: com.example.app"], False, id="android_web_view"),
        pytest.param(["X-Requested-With:"], False, id="empty"),
        pytest.param(["X-Requested-With: XMLHttpRequestX"], False, id="longer"),
        pytest.param(["X_Requested_With: XMLHttpRequest"], False, id="underscores_are_dropped"),
        pytest.param([], False, id="absent"),
    ],
)
async def test_case_26_values_of_x_requested_with(
    to_flask: ToFlask, legacy: LegacyServer, lines: list[str], *, is_matched: bool
) -> None:
    """A list, compared without case; a name with `_`, which WSGI would fold into this one, does not pass."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/api/data", *lines)
    assert reply.status == 200
    assert reply.is_enforced() is is_matched
    assert reply.values("vary") == ["X-Requested-With"]
    if "_" in "".join(lines):
        assert "x-requested-with" not in legacy.received()[0]["fields"]


async def test_case_26_underscores_kept_still_alias_nothing_that_a_rule_reads(scripted: Scripted) -> None:
    """`--underscore-fields keep` is for harmless names."""
    gateway, upstream = await scripted(response(), RULES, underscore_fields="keep")
    await gateway.ask("/api/data", "X_Requested_With: XMLHttpRequest", "my_field: 1")
    assert "x_requested_with" not in field_names(upstream.requests[0])
    assert "my_field" in field_names(upstream.requests[0])


@pytest.mark.parametrize(
    ("lines", "is_matched"),
    [
        pytest.param(["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors"], True, id="fetch"),
        pytest.param(["X-Requested-With: XMLHttpRequest"], True, id="jquery"),
        pytest.param(
            ["Sec-Fetch-Dest: empty", "X-Requested-With: com.example.app"], True, id="fetch_in_a_web_view"
        ),
        pytest.param(["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate"], False, id="navigation"),
        pytest.param(["Sec-Fetch-Dest: image"], False, id="image"),
        pytest.param([], False, id="neither"),
    ],
)
async def test_case_27_script_requests(scripted: Scripted, lines: list[str], *, is_matched: bool) -> None:
    """fetch() sends no X-Requested-With: Sec-Fetch-Dest tells it, and Vary names both."""
    gateway, _ = await scripted(response(), SCRIPT)
    reply = await gateway.ask("/api/data", *lines)
    assert reply.is_enforced() is is_matched
    assert names(reply.values("vary")) == ["sec-fetch-dest", "x-requested-with"]
