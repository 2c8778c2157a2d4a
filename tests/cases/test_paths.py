"""Cases 28 to 37: no spelling of a path reaches the view without its rule, and the app gets what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases.support import response, rules

if TYPE_CHECKING:
    from tests.cases.conftest import Scripted, ToFlask
    from tests.legacy.servers import LegacyServer

RULES = rules("{name: data, match: {methods: [GET], paths: ['/api/data']}}")

REACH_THE_VIEW = [  # target, servers under which Flask's view answers 200
    pytest.param(b"/api/data", "all", id="plain"),
    pytest.param(b"//api/data", "all", id="case_28_two_slashes"),
    pytest.param(b"///api/data", "all", id="case_28_three_slashes"),
    pytest.param(b"/%2Fapi/data", "all", id="case_28_encoded_leading_slash"),
    pytest.param(b"/api%2Fdata", "all", id="case_29_encoded_slash"),
    pytest.param(b"/%61pi/data", "all", id="case_29_encoded_first_letter"),
    pytest.param(b"/api/d%61ta", "all", id="case_29_encoded_letter"),
    pytest.param(b"/api//data", "none", id="case_30_inner_slashes"),
    pytest.param(b"/api/data/", "none", id="case_30_slash_at_the_end"),
    pytest.param(b"/x/../api/data", "uwsgi", id="case_31_dot_segments"),
    pytest.param(b"/x/%2e%2e/api/data", "none", id="case_31_encoded_dot_segments"),
    pytest.param(b"/./api/data", "uwsgi", id="case_31_dot"),
    pytest.param(b"/api/%2e%2e%2fx/../data", "none", id="case_32_removed_before_it_is_decoded"),
    pytest.param(b"/api%2fx/../data", "uwsgi", id="case_32_removed_while_it_is_decoded"),
    pytest.param(b"/api/x%7/y/../data", "uwsgi", id="case_32_escape_that_swallows_a_slash"),
    pytest.param(b"/api/data?x=1", "all", id="case_37_query"),
    pytest.param(b"/api/data?", "all", id="case_37_bare_question_mark"),
    pytest.param(b"/api/data;v=1", "none", id="case_37_parameters"),
]


@pytest.mark.parametrize(("target", "reached_under"), REACH_THE_VIEW)
async def test_cases_28_to_32_every_spelling_is_enforced(
    to_flask: ToFlask, legacy: LegacyServer, target: bytes, reached_under: str
) -> None:
    """Whatever the real server and Flask make of it: 200, 308 or 404, the response may not be stored."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask(target)
    is_reached = reached_under in ("all", legacy.name)
    assert (reply.status == 200) is is_reached, reply.raw
    assert reply.is_enforced()


@pytest.mark.parametrize(("target", "reached_under"), REACH_THE_VIEW)
async def test_case_31_app_gets_the_bytes_that_were_sent(
    scripted: Scripted, target: bytes, reached_under: str
) -> None:
    """The rule is asked about readings of the target; none of them is forwarded."""
    gateway, upstream = await scripted(response(), RULES)
    await gateway.ask(target)
    assert upstream.requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


async def test_case_30_redirect_to_the_proper_path_is_enforced(
    to_flask: ToFlask, legacy: LegacyServer
) -> None:
    """Werkzeug's 308 is stored by default, and for long: it must not lead round the view for ever."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/api//data")
    assert reply.status == 308
    assert reply.is_enforced()


async def test_case_30_slash_that_a_view_asks_for(to_flask: ToFlask) -> None:
    """A rule for `/dir/` holds for the redirect from `/dir` too."""
    gateway = await to_flask(rules("{name: dir, match: {paths: ['/dir/']}}"))
    replies = [await gateway.ask(target) for target in ("/dir", "/dir/")]
    assert [reply.status for reply in replies] == [308, 200]
    assert all(reply.is_enforced() for reply in replies)


async def test_case_32_path_is_not_decoded_twice(to_flask: ToFlask, legacy: LegacyServer) -> None:
    """`%25` is a percent sign and nothing more: the app says 404, and that is no business of the rule."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/api%252Fdata")
    assert reply.status == 404
    assert reply.values("cache-control") == []
    assert legacy.received()[0]["path_info"] == "/api%2Fdata"


async def test_case_33_absolute_form_is_matched(to_flask: ToFlask, legacy: LegacyServer) -> None:
    """The authority goes, the path counts (RFC 9112 section 3.2.2)."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("http://other/api/data", "Host: other")
    assert reply.status == 200
    assert reply.is_enforced()
    (received,) = legacy.received()
    assert received["target"] == "/api/data"
    assert received["fields"]["host"] == "other"


async def test_case_33_absolute_form_with_another_host_is_refused(scripted: Scripted) -> None:
    """Two parsers in a row need not agree on which of the two counts."""
    gateway, upstream = await scripted(response(), RULES)
    reply = await gateway.ask("http://other/api/data", "Host: app.example")
    assert reply.status == 400
    assert reply.is_enforced()
    assert upstream.requests == []


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/api\t/data", id="tab"),
        pytest.param(b"/api/data\x0b", id="vertical_tab_at_the_end"),
        pytest.param(b"/api/data\x00", id="nul"),
        pytest.param(b"/api/data\x7f", id="delete"),
        pytest.param(b"/api /data", id="space"),
        pytest.param(b"api/data", id="no_slash"),
        pytest.param(b"*", id="asterisk_with_get"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"ftp://other/api/data", id="another_scheme"),
    ],
)
async def test_case_34_targets_that_servers_read_differently_are_refused(
    scripted: Scripted, target: bytes
) -> None:
    """400 with the strict policy, connection closed, and nothing forwarded."""
    gateway, upstream = await scripted(response(), RULES)
    reply = await gateway.ask(target)
    assert reply.status == 400
    assert reply.is_enforced()
    assert upstream.requests == []


@pytest.mark.parametrize("target", [b"/api/data#?x", b"/api/data#", b"/api/data?x#y"])
async def test_case_34_fragment_of_an_old_browser_reaches_the_app_and_no_rule_is_passed_by(
    scripted: Scripted, target: bytes
) -> None:
    """Issue 16.2: Internet Explorer up to 10 sends it; every server cuts it, and none at the same place."""
    gateway, upstream = await scripted(response(), RULES)
    reply = await gateway.ask(target)
    assert (reply.status, reply.is_enforced()) == (200, True)
    assert upstream.requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script_Name", "PATH_INFO"])
async def test_case_35_fields_that_would_move_the_path_are_dropped(
    to_flask: ToFlask, legacy: LegacyServer, name: str
) -> None:
    """gunicorn takes SCRIPT_NAME from a trusted peer, as the sidecar is: `/x/api/data` would be the view."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/x/api/data", f"{name}: /x")
    assert reply.status == 404
    (received,) = legacy.received()
    assert received["script_name"] == ""
    assert received["path_info"] == "/x/api/data"
    assert name.replace("_", "-").lower() not in received["fields"]


@pytest.mark.parametrize("method", ["get", "Get", "GETx", "M.SEARCH"])
async def test_case_36_method_in_lower_case_is_refused(scripted: Scripted, method: str) -> None:
    """Methods are case-sensitive; Werkzeug would upper-case this one and run the view."""
    gateway, upstream = await scripted(response(), RULES)
    reply = await gateway.ask("/api/data", method=method)
    assert reply.status == 400
    assert reply.is_enforced()
    assert upstream.requests == []


@pytest.mark.parametrize("method", ["QUERY", "M-SEARCH", "VERSION-CONTROL", "MY_OWN"])
async def test_method_that_is_not_registered_reaches_the_app_and_rules_may_name_it(
    scripted: Scripted, method: str
) -> None:
    """Issue 16.5."""
    rules_text = rules(f"{{name: own, match: {{methods: [{method}]}}, policy: strict}}")
    gateway, upstream = await scripted(response("Cache-Control: max-age=600"), rules_text)
    reply = await gateway.ask("/api/data", method=method)
    assert (reply.status, reply.is_enforced()) == (200, True)
    assert upstream.requests[0].startswith(f"{method} /api/data HTTP/1.1\r\n".encode())
    assert not (await gateway.ask("/api/data")).is_enforced()


async def test_case_36_overridden_method_counts(to_flask: ToFlask, legacy: LegacyServer) -> None:
    """Flask's documented middleware turns this POST into the GET of the rule."""
    gateway = await to_flask(RULES)
    reply = await gateway.ask("/api/data", "X-HTTP-Method-Override: GET", method="POST")
    assert reply.status == 200
    assert b"serial" in reply.content
    assert reply.is_enforced()


@pytest.mark.parametrize(
    "line",
    [
        "X-HTTP-Method-Override: get",
        "x-http-method: GET",
        "X-Method-Override: HEAD",
        "X-HTTP-Method-Override: PUT, GET",
    ],
)
async def test_case_36_siblings_of_the_override_count(scripted: Scripted, line: str) -> None:
    """In any case, under any of the three names, anywhere in a list."""
    gateway, _ = await scripted(response(), RULES)
    assert (await gateway.ask("/api/data", line, method="POST")).is_enforced()


async def test_case_36_post_without_override_is_untouched(scripted: Scripted) -> None:
    """The rule asks for GET."""
    gateway, _ = await scripted(response(), RULES)
    assert (await gateway.ask("/api/data", method="POST")).values("cache-control") == []


@pytest.mark.parametrize(
    ("target", "reached_under"),
    [
        pytest.param(b"/gr%C3%B6%C3%9Fe", "all", id="utf_8_encoded"),
        pytest.param(b"/gr\xc3\xb6\xc3\x9fe", "uwsgi", id="utf_8_raw"),
        pytest.param(b"/gr\xf6\xdfe", "werkzeug", id="latin_1_raw"),
    ],
)
async def test_case_37_path_that_is_not_ascii(
    to_flask: ToFlask, legacy: LegacyServer, target: bytes, reached_under: str
) -> None:
    """A browser sends it encoded; raw, each server reads it in its own way, and it is enforced anyway."""
    gateway = await to_flask(rules("{name: umlauts, match: {paths: ['/größe']}}"))
    reply = await gateway.ask(target)
    assert (reply.status == 200) is (reached_under in ("all", legacy.name)), reply.raw
    if reply.status == 200:
        assert reply.is_enforced()


@pytest.mark.parametrize(
    "target", [b"/%ff", b"/\xff\xfe", b"/%C3", b"/%", b"/%zz", b"/%00", b"/[", b"/a%0d%0ab"]
)
async def test_case_37_path_that_is_no_text_does_no_harm(scripted: Scripted, target: bytes) -> None:
    """Defined results, no exception while deciding: unmatched ones pass, matched ones are enforced."""
    both = rules("{name: x, match: {paths: ['/api/**']}}")
    gateway, upstream = await scripted(response(), both)
    assert (await gateway.ask(target)).values("cache-control") == []
    assert (await gateway.ask(b"/api" + target)).is_enforced()
    assert upstream.requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "target",
    [b"/public/../api/data", b"/public/%2e%2e/api/data", b"/public%2f../api/data", b"/public/..;/api/data"],
)
async def test_exception_cannot_be_borrowed_for_another_path(to_flask: ToFlask, target: bytes) -> None:
    """A rule that weakens holds only if every reading of the path is under it."""
    open_first = rules(
        "{name: open, match: {paths: ['/public/**']}, policy: pass}",
        "{name: rest, match: {paths: ['/**']}}",
    )
    gateway = await to_flask(open_first)
    assert (await gateway.ask(target)).is_enforced()
