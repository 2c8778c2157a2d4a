"""Generates rules files, requests and responses that have to do with each other, for the laws about rules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from proxy.rules.tools.dry_run import TrialRequest, TrialResponse

PATHS = ("/", "/a", "/a/", "/a/b", "/a/b/c", "/static/x.js", "/file/7")
GLOBS = ("/**", "/a", "/a/*", "/a/**", "/*/b", "/static/**", "/file/?", "/**/*.js", "**/c")
REGEXES = ("/a.*", "/file/[0-9]+", "/(a|static)/[^/]+", "/.*", "^/a/[^/]+$", "^/a$|^/static/?$")
POLICIES = ("classic", "strict", "revalidate", "pass", "mine")
METHODS = ("GET", "HEAD", "POST", "PUT")
SPELLINGS = (
    lambda path: path,
    lambda path: "/" + path,
    lambda path: path.replace("/", "//"),
    lambda path: "/x/.." + path,
    lambda path: "/x/%2e%2e" + path,
    lambda path: path.replace("a", "%61"),
    lambda path: path + "/",
    lambda path: path + ";v=1",
    lambda path: path + "?q=1",
    lambda path: path + "?q=1&q=22&x",
    lambda path: path + "?x=2;q=1",
    lambda path: path.replace("/b", "%2Fb"),
)
REQUEST_FIELDS = (
    (b"X-Requested-With", b"XMLHttpRequest"),
    (b"x-requested-with", b"xmlhttprequest, x"),
    (b"X-Requested-With", b"com.example"),
    (b"Sec-Fetch-Dest", b"empty"),
    (b"Sec-Fetch-Dest", b"document"),
    (b"Accept", b"application/json"),
    (b"Accept", b"text/html"),
    (b"X-HTTP-Method-Override", b"PUT"),
    (b"If-None-Match", b'"v"'),
    (b"If-Modified-Since", b"Mon, 01 Jan 2024 00:00:00 GMT"),
    (b"If-Range", b'"v"'),
    (b"Range", b"bytes=0-1"),
    (b"If-Match", b'"v"'),
)
RESPONSE_FIELDS = (
    (b"Cache-Control", b"public, max-age=600"),
    (b"cache-control", b"no-transform"),
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"Content-Type", b"application/json"),
    (b"Content-Disposition", b'attachment; filename="a"'),
    (b"ETag", b'"v"'),
    (b"ETag", b'W/"w"'),
    (b"Last-Modified", b"Mon, 01 Jan 2024 00:00:00 GMT"),
    (b"Vary", b"Accept-Encoding"),
    (b"vary", b"accept, *"),
    (b"Age", b"7"),
    (b"CDN-Cache-Control", b"max-age=60"),
    (b"Surrogate-Control", b"max-age=60"),
    (b"Date", b"Mon, 01 Jan 2024 00:00:00 GMT"),
    (b"Set-Cookie", b"a=b"),
    (b"Set-Cookie", b"c=d"),
    (b"X-Own", b""),
)


def _some(values: tuple[Any, ...], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


_RESPONSE_CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "status": _some((200, "2xx", "3xx", 404, "5xx")),
        "content_types": _some(("text/html", "application/*")),
        "attachment": st.booleans(),
    },
).filter(bool)
_CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "methods": _some(METHODS),
        "paths": _some(GLOBS),
        "path_regexes": _some(REGEXES),
        "x_requested_with": st.one_of(st.booleans(), st.sampled_from(["XMLHttpRequest", ["com.*", "x"]])),
        "script_request": st.sampled_from([True]),
        "headers": st.dictionaries(
            st.sampled_from(["Accept", "X-Own"]),
            st.one_of(st.booleans(), st.sampled_from(["*json*", ["text/*", "?"]])),
            min_size=1,
        ),
        "query": st.dictionaries(
            st.sampled_from(["q", "x"]),
            st.one_of(st.booleans(), st.sampled_from(["1", ["2*", "?"]])),
            min_size=1,
        ),
        "response": _RESPONSE_CONDITIONS,
    },
)
_RULE = st.fixed_dictionaries(
    {"policy": st.sampled_from(POLICIES), "match": _CONDITIONS},
    optional={"unless": _CONDITIONS.filter(bool), "mode": st.sampled_from(["enforce", "observe"])},
).filter(lambda rule: rule.get("unless") != rule["match"])


@st.composite
def rules_files(draw: st.DrawFn, most: int = 5) -> dict[str, Any]:
    """Generate a rules file that can be used, as a tree for a YAML or JSON writer."""
    rules = draw(st.lists(_RULE, max_size=most))
    return {
        "version": 1,
        "rules": [{"name": f"r{index}", **rule} for index, rule in enumerate(rules)],
        "policies": {
            "mine": {"extends": "strict", "set": {"X-Mine": "1", "Pragma": "x"}, "remove": ["X-Own"]}
        },
    }


@st.composite
def requests(draw: st.DrawFn) -> TrialRequest:
    """Generate a request, often in a strange spelling of a path that rules name."""
    path = draw(st.sampled_from(SPELLINGS))(draw(st.sampled_from(PATHS)))
    fields = draw(st.lists(st.sampled_from(REQUEST_FIELDS), max_size=4, unique=True))
    return TrialRequest(draw(st.sampled_from(METHODS)), path.encode(), tuple(fields))


@st.composite
def responses(draw: st.DrawFn) -> TrialResponse:
    """Generate an app's response: a status and any order of fields."""
    fields = draw(st.lists(st.sampled_from(RESPONSE_FIELDS), max_size=8))
    return TrialResponse(draw(st.sampled_from([200, 204, 206, 301, 304, 404, 500])), tuple(fields))
