"""The law of the first guarantee: no spelling of a request reaches a view and escapes the rule for it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from proxy.message.errors import TargetError
from proxy.message.target import parse_target
from proxy.rules.engine.matching import Ruleset
from proxy.rules.engine.spellings import spellings
from proxy.rules.model import Rule
from proxy.rules.policies import BUILT_IN
from tests.legacy.decoders import DECODERS, Routed
from tests.rules.making import conditions

VIEWS = {  # Werkzeug rule: globs of the rule that protects the view, one path that reaches it
    "/api/data": ("/api/data", "/api/data"),
    "/api/<name>/info": ("/api/*/info", "/api/x/info"),
    "/files/<path:name>": ("/files/**", "/files/a/b"),
    "/dir/": ("/dir/", "/dir/"),
    "/größe": ("/größe", "/größe"),
    "/a.b/~c": ("/a.b/~c", "/a.b/~c"),
    "/numbers/<int:number>": ("/numbers/*", "/numbers/7"),
    "/": ("/", "/"),
}
LAX_VIEWS = {"/lax": ("/lax", "/lax"), "/lax/dir/": ("/lax/dir/", "/lax/dir/")}
OVERRIDE = b"x-http-method-override"


def _url_map() -> Any:
    app = Flask(__name__, static_folder=None)
    for rule in VIEWS:
        app.add_url_rule(rule, endpoint=rule, view_func=lambda **_: "")
    for rule in LAX_VIEWS:
        app.add_url_rule(rule, endpoint=rule, view_func=lambda **_: "", strict_slashes=False)
    return app.url_map


URL_MAP = _url_map()
ALL_VIEWS = VIEWS | LAX_VIEWS
GET = frozenset(("GET", "HEAD"))
STRICT = {
    endpoint: Ruleset([Rule(endpoint, BUILT_IN["strict"], conditions(methods=GET, paths=(glob,)))])
    for endpoint, (glob, _) in ALL_VIEWS.items()
}
# A rule that weakens must not catch what is only spelt like its path.
WEAKENED = Ruleset(
    [
        Rule("weak", BUILT_IN["pass"], conditions(paths=("/public/**", "/dir/x/**", "/files/open/*"))),
        Rule("rest", BUILT_IN["strict"]),
    ]
)
EXCEPTED = Ruleset([Rule("all", BUILT_IN["strict"], unless=conditions(paths=("/public/**", "/static/**")))])


# Werkzeug's routes up to version 2.0, and Django's by expression: `$` also stands before a line feed at the end.
CONVERTERS = {"<path:name>": ".+", "<int:number>": "[0-9]+", "<name>": "[^/]+"}
OLD_ROUTES = {
    rule: re.compile("^" + re.sub("<.*?>", lambda part: CONVERTERS[part[0]], rule.replace(".", r"\.")) + "$")
    for rule in VIEWS
}


def endpoints_reached(routed: Routed) -> set[str]:
    """Route as Flask does, today and long ago: the endpoints whose views run."""
    path = "/" + routed.path_info.encode("latin-1").decode("utf-8", "replace").lstrip("/")
    reached = {rule for rule, route in OLD_ROUTES.items() if route.search(path)}
    endpoint = endpoint_reached(routed)
    return reached if endpoint is None else reached | {endpoint}


def endpoint_reached(routed: Routed) -> str | None:
    """Let Flask route, as `Flask.request_context` does: the endpoint whose view runs."""
    environ = {
        "REQUEST_METHOD": routed.method,
        "PATH_INFO": routed.path_info,
        "SCRIPT_NAME": "",
        "SERVER_NAME": "a",
        "SERVER_PORT": "80",
        "HTTP_HOST": "a",
        "QUERY_STRING": "",
        "wsgi.url_scheme": "http",
    }
    try:
        endpoint, _ = URL_MAP.bind_to_environ(environ).match()
    except HTTPException:  # no such view, another method, or a redirect to the proper spelling
        return None
    return str(endpoint)


def check(method: str, override: str | None, raw: bytes) -> set[str]:
    """Hold the law against every server for one request.

    Returns:
        The servers under which a view was reached.
    """
    try:
        forwarded, _ = parse_target(method, raw)
    except TargetError:
        return set()  # answered 400, never forwarded
    reached = set()
    for server, decode in DECODERS.items():
        routed = decode(method, forwarded)
        if routed is None:
            continue
        if override is not None:
            routed = replace(routed, method=override)
        for endpoint in endpoints_reached(routed):
            reached.add(server)
            where = f"{raw!r} reaches {endpoint} under {server} as {routed}"
            ruleset = STRICT[endpoint]
            assert _decide(ruleset, method, override, forwarded) == endpoint, where
            reads_open_files = endpoint == "/files/<path:name>" and "/open/" in routed.path_info
            if not reads_open_files:
                assert _decide(WEAKENED, method, override, forwarded) == "rest", where
            assert _decide(EXCEPTED, method, override, forwarded) == "all", where
    return reached


def _decide(ruleset: Ruleset, method: str, override: str | None, target: bytes) -> str | None:
    sent = {} if override is None else {OVERRIDE: override.encode()}
    rule = ruleset.decide(method, target, tuple(sent.get(name) for name in ruleset.field_names)).rule
    return None if rule is None else rule.name


# Pieces of targets, the characters that some server treats specially among them.
PIECES = st.sampled_from(
    rb"/ // . .. /./ /../ /x/../ %2e %2E %2f %2F %5c \ % %% %25 %7 %7/ %0 %00 %0a ; ;v=1 ? & = +".split()
    + b"%20 * [ ] : @ ~ | api data files dir lax info public static numbers 7 x p http: %C3%B6 %f6".split()
    + [b"\xc3\xb6", b"\xf6", b"gr\xf6\xdfe", b"\xa0", b"\x85", b"#", b"#x/..", b"//h/", b"%2F"]
)
INSERTED = st.sampled_from(
    b"/ /. /.. /x/.. /%2e /%2e%2e /%2e. /x/%2e%2e /%7/.. /q%7/y/.. %2f ;v ; /public/.. /public/%2e%2e "
    b"/static/.. //.. /x//../.. /%2f.. /x;y/..".split()
)
PREFIXES = st.sampled_from(b"//h //h:1 /public/.. /static/../ // /%2f http://o /x/%2e%2e /..".split())
SUFFIXES = st.sampled_from(
    [
        *b"/ ?x=1 /. /x/.. ;v=1 // /%2e /x/%2e%2e/ %7 % %0A # #x #/../x #?x %#".split(),
        b"\xa0",
        b"\x85",
        b"\xa0\x85",
    ]
)
CHANGES = st.sampled_from(["encode", "insert", "insert", "slashes", "prefix", "suffix", "piece"])


@st.composite
def mutated_targets(draw: st.DrawFn) -> bytes:
    """A path that reaches a view, spelt otherwise: the way somebody would try to get round a rule."""
    _, path = ALL_VIEWS[draw(st.sampled_from(sorted(ALL_VIEWS)))]
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "latin-1"]))
    target = path.encode(encoding)
    for _ in range(draw(st.integers(0, 4))):
        change = draw(CHANGES)
        position = draw(st.integers(0, len(target)))
        if change == "encode" and position < len(target):
            target = target[:position] + b"%%%02x" % target[position] + target[position + 1 :]
        elif change == "insert":
            slashes = [index for index, byte in enumerate(target) if byte == ord("/")] or [0]
            at = draw(st.sampled_from(slashes))
            target = target[:at] + draw(INSERTED) + target[at:]
        elif change == "slashes":
            target = target.replace(b"/", draw(st.sampled_from([b"//", b"%2f", b"/./", b"/"])), 1)
        elif change == "prefix":
            target = draw(PREFIXES) + target
        elif change == "suffix":
            target += draw(SUFFIXES)
        else:
            target = target[:position] + draw(PIECES) + target[position:]
    return target


TARGETS = st.one_of(
    mutated_targets(),
    mutated_targets().map(lambda target: quote_from_bytes(target, safe="/%?;:.~@").encode()),
    st.lists(PIECES, max_size=8).map(lambda pieces: b"/" + b"".join(pieces)),
)
METHODS = st.sampled_from(["GET", "GET", "HEAD"]).map(lambda method: (method, None)) | st.sampled_from(
    [
        ("POST", "GET"),
        ("POST", "HEAD"),
        ("GET", "GET"),
        ("PATCH", "GET"),
        ("M-SEARCH", "GET"),
        ("X_Y-1", "HEAD"),
    ]
)


def _hold(examples: int) -> Counter[str]:
    """Hold the law against so many generated requests; count those that reached a view, by server."""
    reached: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 100_000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(METHODS, TARGETS)
    def law(methods: tuple[str, str | None], target: bytes) -> None:
        reached["requests"] += 1
        reached.update(check(*methods, target))

    law()
    return reached


@pytest.mark.parametrize(
    "examples", [3000, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_whatever_reaches_a_view_matches_the_rule_for_it(examples: int) -> None:
    """So many requests reach a view under each server that the law means something; the slow run has new ones each time."""
    reached = _hold(examples)
    print(dict(reached))
    assert reached["requests"] >= examples
    assert all(reached[server] > reached["requests"] // 20 for server in DECODERS), reached


@settings(max_examples=3000, deadline=None, derandomize=True, database=None)
@given(TARGETS)
def test_reading_of_every_server_is_among_the_spellings(raw: bytes) -> None:
    """The law behind the law: what Flask is given to route on, leading slashes aside, is a spelling of the path."""
    try:
        forwarded, _ = parse_target("GET", raw)
    except TargetError:
        return
    found = spellings(forwarded.partition(b"?")[0])
    for server, decode in DECODERS.items():
        routed = decode("GET", forwarded)
        if routed is not None:
            path = routed.path_info.encode("latin-1").decode("utf-8", "replace")
            assert "/" + path.lstrip("/") in found, (server, path)


@pytest.mark.parametrize(
    "target",
    [
        b"/api/data",
        b"//api/data",
        b"/%2Fapi/data",
        b"/api%2Fdata",
        b"/%61pi/d%61ta",
        b"/x/../api/data",
        b"/x/%2e%2e/api/data",
        b"http://other/api/data",
        b"/api/data?x=1",
        # An escape of uWSGI swallows the slash, so that the dot segment takes another segment away.
        b"/api/x%7/y/../data",
        b"/api%2fx/../data",
        # And a slash that was escaped does begin one.
        b"/api%2fx%7/y/../data",
        b"/dir/%7",
        b"/public/../api/data",
        # Werkzeug's server reads raw bytes as latin-1.
        b"/gr\xf6\xdfe",
        b"/gr%C3%B6\xdfe",
        # An expression's `$` stands before a line feed at the end, too.
        b"/api/data%0A",
        b"//api%2fdata%0a",
        b"/numbers/7%0A",
        # White space to servers that are built on Python's http.server, gevent and eventlet.
        b"/api/data\xa0",
        b"/api/data\x85\xa0",
        # Internet Explorer up to 10 sends the fragment of an XMLHttpRequest's address.
        b"/api/data#x",
        b"/api/data#/../x",
        b"/api/data#?x=1",
        # waitress up to 1.3.0 takes the first segment for a host.
        b"//host/api/data",
        # cheroot leaves an escaped slash alone, so that it is one segment there.
        b"/api/x%2fy/info",
    ],
)
def test_spelling_that_once_was_a_way_round(target: bytes) -> None:
    """Named examples: each reaches its view under one server at least, and never unprotected."""
    assert check("GET", None, target)
    assert check("POST", "GET", target)
