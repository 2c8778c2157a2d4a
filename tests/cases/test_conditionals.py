"""Cases 14 to 20: no answer of an enforced view revives a copy, and no lost update goes unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.message.entity_tags import mark
from tests.cases.support import field_names, names, response, rules
from tests.legacy.app import ETAG, FILE_CONTENT, LAST_MODIFIED

if TYPE_CHECKING:
    from tests.cases.conftest import Scripted, ToFlask
    from tests.legacy.servers import LegacyServer

LATER = "Mon, 07 Nov 1994 08:49:37 GMT"
VALIDATION = {"if-none-match", "if-modified-since", "if-range", "range"}
RULES = rules(
    "{name: api, match: {methods: [GET], paths: ['/api/**', '/file/**']}, policy: strict}",
    "{name: page, match: {methods: [GET], paths: [/page], x_requested_with: XMLHttpRequest}, policy: strict}",
)
CLASSIC = RULES.replace("strict", "classic")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([f'If-None-Match: "{ETAG}"'], id="case_14_if_none_match"),
        pytest.param(["If-None-Match: *"], id="case_14_star"),
        pytest.param(['If-None-Match: "x"', f'if-none-match: W/"{ETAG}"'], id="case_14_two_lines"),
        pytest.param([f"If-Modified-Since: {LATER}"], id="case_15_if_modified_since"),
        pytest.param([f'If-None-Match: "{ETAG}"', f"If-Modified-Since: {LATER}"], id="case_15_both"),
        pytest.param([f'If-Range: "{ETAG}"', "Range: bytes=2-5"], id="case_16_if_range_and_range"),
        pytest.param([f"If-Range: {LAST_MODIFIED}", "Range: bytes=2-5"], id="case_16_if_range_date"),
    ],
)
@pytest.mark.parametrize("rules_text", [RULES, CLASSIC], ids=["strict", "classic"])
async def test_cases_14_to_16_app_gives_a_full_fresh_200(
    to_flask: ToFlask, legacy: LegacyServer, lines: list[str], rules_text: str
) -> None:
    """What would make Flask answer 304 or a part that belongs to a copy does not reach it."""
    gateway = await to_flask(rules_text)
    reply = await gateway.ask("/api/data", *lines)
    assert reply.status == 200
    assert b"serial" in reply.content
    assert reply.value("content-length") == str(len(reply.content))
    (received,) = legacy.received()
    assert VALIDATION.isdisjoint(received["fields"])


async def test_case_16_range_alone_gives_a_part_that_may_not_be_stored(
    to_flask: ToFlask, legacy: LegacyServer
) -> None:
    """A client that asks for a part only, as media players do, gets it; it joins no stored copy."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/api/data", "Range: bytes=2-5")
    assert reply.status == 206
    assert reply.is_enforced()
    assert len(reply.content) == 4
    assert legacy.received()[0]["fields"]["range"] == "bytes=2-5"


async def test_case_16_parts_of_one_file_fit_together(to_flask: ToFlask) -> None:
    """A client that fetches a file in parts compares the tags of the parts, and with that of the whole."""
    gateway = await to_flask(RULES)
    replies = [
        await gateway.ask("/file/download/a", f"Range: bytes={part}") for part in ("0-511", "512-1023")
    ]
    assert [reply.status for reply in replies] == [206, 206]
    assert replies[0].content + replies[1].content == FILE_CONTENT
    replies.append(await gateway.ask("/file/download/a"))
    assert {reply.value("etag") for reply in replies} == {mark(f'"{ETAG}"'.encode()).decode()}


@pytest.mark.parametrize(
    ("method", "line", "status"),
    [
        pytest.param("PUT", 'If-Match: "stale"', 412, id="put_with_stale_if_match"),
        pytest.param("PUT", f'If-Match: "{ETAG}"', 204, id="put_with_current_if_match"),
        pytest.param("PUT", "If-None-Match: *", 412, id="put_that_would_create"),
        pytest.param("PUT", f'If-None-Match: "{ETAG}"', 412, id="put_unless_current"),
        pytest.param(
            "POST", "If-Unmodified-Since: Sat, 05 Nov 1994 08:49:37 GMT", 412, id="post_if_unmodified"
        ),
        pytest.param("POST", f"If-Unmodified-Since: {LATER}", 204, id="post_if_unmodified_holds"),
    ],
)
@pytest.mark.parametrize("methods", ["[GET]", "[GET, PUT, POST]"])
async def test_case_17_conditions_of_updates_reach_the_app(
    to_flask: ToFlask, legacy: LegacyServer, method: str, line: str, status: int, methods: str
) -> None:
    """Lost-update protection is the app's own business, whether a rule matches the update or not."""
    gateway = await to_flask(rules(f"{{name: api, match: {{methods: {methods}, paths: ['/api/**']}}}}"))
    reply = await gateway.ask("/api/data", line, method=method)
    assert reply.status == status
    assert reply.is_enforced() is ("PUT" in methods)
    name, _, value = line.partition(": ")
    assert legacy.received()[0]["fields"][name.lower()] == value


@pytest.mark.parametrize("rules_text", [RULES, CLASSIC], ids=["strict", "classic"])
async def test_case_17_marked_tag_comes_back_as_the_apps_own(
    to_flask: ToFlask, legacy: LegacyServer, rules_text: str
) -> None:
    """A script that sends back in If-Match what it got in ETag updates; the app sees its own tag."""
    gateway = await to_flask(rules_text)
    tags = [(await gateway.ask("/api/data")).value("etag") for _ in range(2)]
    assert len({*tags, f'"{ETAG}"'}) == 2
    legacy.received()
    for tag in tags:
        assert (await gateway.ask("/api/data", f"If-Match: {tag}", method="PUT")).status == 204
        assert (await gateway.ask("/api/data", f'If-Match: "x", {tag}', method="PUT")).status == 204
        assert (await gateway.ask("/api/data", f"If-None-Match: {tag}", method="PUT")).status == 412
    received = [entry["fields"] for entry in legacy.received()]
    assert {fields.get("if-match", "") for fields in received} == {f'"{ETAG}"', f'"x", "{ETAG}"', ""}
    assert {fields.get("if-none-match", "") for fields in received} == {f'"{ETAG}"', ""}


@pytest.mark.parametrize("rules_text", [RULES, CLASSIC], ids=["strict", "classic"])
async def test_page_that_polls_sees_one_tag_while_the_app_has_one(
    to_flask: ToFlask, legacy: LegacyServer, rules_text: str
) -> None:
    """Issue 16.10: HEAD, 200 and 206 agree; with a new tag each time such pages reload for ever."""
    gateway = await to_flask(rules_text)
    asked = [("GET", ()), ("HEAD", ()), ("GET", ("Range: bytes=0-1",)), ("HEAD", ()), ("GET", ())]
    replies = [await gateway.ask("/api/data", *lines, method=method) for method, lines in asked]
    assert {reply.value("etag") for reply in replies} == {mark(f'"{ETAG}"'.encode()).decode()}


async def test_answer_to_a_condition_that_any_tag_meets_has_no_validators(
    to_flask: ToFlask, legacy: LegacyServer
) -> None:
    """Issue 14.16: a cache on the way may answer it 304 from the fresh response that passes."""
    gateway = await to_flask(CLASSIC)
    reply = await gateway.ask("/api/data", "If-None-Match: *")
    assert (reply.status, reply.values("etag"), reply.values("last-modified")) == (200, [], [])
    assert (await gateway.ask("/unprotected", "If-None-Match: *")).value("etag") == f'"{ETAG}"'


async def test_marked_tag_of_an_earlier_answer_never_gives_304(
    to_flask: ToFlask, legacy: LegacyServer
) -> None:
    """Not even when the rules are gone meanwhile: the tag means nothing to the app then."""
    gateway = await to_flask(RULES)
    tag = (await gateway.ask("/api/data")).value("etag")
    assert (await gateway.ask("/api/data", f"If-None-Match: {tag}")).status == 200
    assert (await gateway.ask("/unprotected", f"If-None-Match: {tag}")).status == 200


async def test_case_18_unmatched_304_passes_with_vary(to_flask: ToFlask, legacy: LegacyServer) -> None:
    """The page is no XHR: its 304 goes through with its validators, but must say what the rule looks at."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/page", f'If-None-Match: "{ETAG}"')
    assert reply.status == 304
    assert reply.value("etag") == f'"{ETAG}"'
    assert reply.value("cache-control") == "public, max-age=600"
    assert names(reply.values("vary")) == ["x-requested-with"]
    assert legacy.received()[0]["fields"]["if-none-match"] == f'"{ETAG}"'


@pytest.mark.parametrize(
    "asked", ["{content_types: ['text/*', application/json]}", "{status: [200]}", "{attachment: false}"]
)
async def test_304_is_protected_like_the_200_that_it_stands_for(to_flask: ToFlask, asked: str) -> None:
    """It has no type, and renews the copy's head: with the app's max-age, nobody would ask for ten minutes."""
    gateway = await to_flask(
        rules(f"{{name: r, match: {{paths: [/page], response: {asked}}}, policy: revalidate}}")
    )
    full = await gateway.ask("/page")
    renewed = await gateway.ask("/page", f'If-None-Match: "{ETAG}"')
    assert (full.status, renewed.status) == (200, 304)
    assert full.is_enforced("revalidate")
    assert renewed.is_enforced("revalidate")


async def test_304_of_what_a_rule_leaves_alone_is_left_alone(to_flask: ToFlask) -> None:
    """Errors are never brought back by a 304, whatever is asked of their type."""
    gateway = await to_flask(
        rules(
            "{name: errors, match: {response: {status: [4xx, 5xx], content_types: ['text/*']}},"
            " policy: revalidate}"
        )
    )
    renewed = await gateway.ask("/page", f'If-None-Match: "{ETAG}"')
    assert (renewed.status, renewed.value("cache-control")) == (304, "public, max-age=600")


async def test_case_18_matched_on_the_same_page_is_full(to_flask: ToFlask) -> None:
    """The XHR on the same URL gets a 200."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/page", f'If-None-Match: "{ETAG}"', "X-Requested-With: XMLHttpRequest")
    assert reply.status == 200
    assert reply.is_enforced()
    assert names(reply.values("vary")) == ["x-requested-with"]


@pytest.mark.parametrize("policy", ["strict", "classic"])
async def test_case_19_app_that_always_says_304_gives_502(scripted: Scripted, policy: str) -> None:
    """A 304 to a request without conditions is an upstream's fault; it must not revive a copy."""
    not_modified = b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nCache-Control: max-age=600\r\n\r\n'
    gateway, upstream = await scripted(not_modified, RULES.replace("strict", policy))
    for lines in (['If-None-Match: "v1"'], []):
        reply = await gateway.ask("/api/data", *lines)
        assert reply.status == 502
        assert reply.is_enforced()
        assert reply.value("etag") is None
    assert all(VALIDATION.isdisjoint(field_names(received)) for received in upstream.requests)


async def test_case_19_real_app_that_always_says_304_gives_502(to_flask: ToFlask) -> None:
    """The same with a real one."""
    gateway = await to_flask(rules("{name: old, match: {paths: ['/old']}}"))
    reply = await gateway.ask("/old", 'If-None-Match: "v1"')
    assert reply.status == 502
    assert reply.is_enforced()


async def test_case_20_head_is_enforced_like_get(to_flask: ToFlask, legacy: LegacyServer) -> None:
    """A rule for GET holds for HEAD: same fields, no content."""
    gateway = await to_flask(RULES)
    get, head = await gateway.ask("/api/data"), await gateway.ask("/api/data", method="HEAD")
    assert head.status == get.status == 200
    assert head.is_enforced()
    assert head.content == b""
    apart = {"date", "etag"}  # one second may pass; no two tags are alike
    assert [f for f in head.fields if f[0] not in apart] == [f for f in get.fields if f[0] not in apart]
    assert len(head.values("etag")) == 1


async def test_case_20_head_without_conditions(to_flask: ToFlask, legacy: LegacyServer) -> None:
    """A HEAD could freshen a stored GET (RFC 9111 section 4.3.5) or be told 304: neither happens."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/api/data", f'If-None-Match: "{ETAG}"', method="HEAD")
    assert reply.status == 200
    assert reply.value("etag") != f'"{ETAG}"'


async def test_scripted_upstream_gets_the_other_fields_in_order(scripted: Scripted) -> None:
    """Only the conditional fields go; the rest keeps order, case and multiplicity."""
    gateway, upstream = await scripted(response(), RULES)
    await gateway.ask(
        "/api/data", "X-A: 1", 'If-None-Match: "v1"', "x-b: 2", "X-A: 3", "If-Match: *", "Range: bytes=0-1"
    )
    sent = [name for name in field_names(upstream.requests[0]) if not name.startswith(("x-forwarded", "via"))]
    assert sent == ["host", "x-a", "x-b", "x-a", "if-match", "range"]
