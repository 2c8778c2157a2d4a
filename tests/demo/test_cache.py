"""The demo's cache: legal by RFC 9111, and as Internet Explorer has it where that leaves a choice."""

from __future__ import annotations

import pytest

from proxy.demo.cache import InternetExplorerCache, Response

URL = "http://app.example/file/last_uploaded"
NOW_S = 784111777.0
NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
HOUR_AGO = "Sun, 06 Nov 1994 07:49:37 GMT"
SESSION_S = 10 * 3600


def response(*lines: str, status: int = 200, content: bytes = b"old") -> Response:
    pairs = (line.partition(":") for line in lines)
    fields = tuple((name.encode(), value.strip().encode()) for name, _, value in pairs)
    return Response(status, fields, content)


def keep(*lines: str, status: int = 200) -> InternetExplorerCache:
    """A cache that has been shown one response to a GET."""
    cache = InternetExplorerCache()
    cache.take("GET", URL, (), response(*lines, status=status), NOW_S)
    return cache


def test_answer_without_freshness_is_repeated_for_the_whole_session() -> None:
    """The bug of the story."""
    found = keep("Content-Type: application/json").find_fresh(URL, NOW_S + SESSION_S)
    assert found is not None
    assert found.content == b"old"


@pytest.mark.parametrize(
    "line",
    [
        "Cache-Control: no-store, no-cache, must-revalidate, post-check=0, pre-check=0",
        "Cache-Control: no-store, no-cache, must-revalidate, max-age=0, private",
        "Cache-Control: no-store",
        "Pragma: no-cache",
    ],
)
def test_answer_that_may_not_be_stored_is_forgotten(line: str) -> None:
    """Neither repeated nor asked about."""
    cache = keep(line, 'ETag: "v1"')
    assert cache.find_fresh(URL, NOW_S) is None
    assert cache.conditions(URL) == ()


def test_forbidden_answer_replaces_the_one_before() -> None:
    """The cure works at the next request that reaches the app."""
    cache = keep("Cache-Control: max-age=0")
    cache.take("GET", URL, (), response("Cache-Control: no-store"), NOW_S)
    assert cache.conditions(URL) == ()


@pytest.mark.parametrize(
    ("lines", "fresh_s", "stale_s"),
    [
        (["Cache-Control: max-age=60"], 59, 60),
        (["Cache-Control: max-age=60", "Age: 50"], 9, 10),
        ([f"Last-Modified: {HOUR_AGO}", f"Date: {NOW}"], 359, 360),
        (["Expires: Sun, 06 Nov 1994 08:50:37 GMT", f"Date: {NOW}"], 59, 60),
    ],
)
def test_lifetime_ends(lines: list[str], fresh_s: int, stale_s: int) -> None:
    """Explicit, or a tenth of the time since Last-Modified."""
    cache = keep(*lines)
    assert cache.find_fresh(URL, NOW_S + fresh_s) is not None
    assert cache.find_fresh(URL, NOW_S + stale_s) is None


@pytest.mark.parametrize(
    "lines", [["Expires: -1"], ["Cache-Control: no-cache"], [f"Last-Modified: {NOW}", f"Date: {NOW}"]]
)
def test_answer_is_kept_but_asked_about(lines: list[str]) -> None:
    """With its validators."""
    cache = keep(*lines, 'ETag: "v1"')
    assert cache.find_fresh(URL, NOW_S) is None
    assert (b"If-None-Match", b'"v1"') in cache.conditions(URL)


def test_304_stands_for_the_stored_answer() -> None:
    """The copy is shown, with the fields of the 304: what stripped conditions prevent."""
    cache = keep("Cache-Control: max-age=0", 'ETag: "v1"', "X-Old: 1")
    shown = cache.take("GET", URL, (), response("Cache-Control: max-age=60", status=304, content=b""), NOW_S)
    assert (shown.status, shown.content) == (200, b"old")
    assert shown.values(b"cache-control") == [b"max-age=60"]
    assert shown.values(b"x-old") == [b"1"]
    assert cache.find_fresh(URL, NOW_S + 59) is not None


@pytest.mark.parametrize(
    ("vary", "is_fresh"), [("X-Requested-With", False), ("Accept-Encoding, user-agent", True)]
)
def test_vary_makes_it_ask(vary: str, *, is_fresh: bool) -> None:
    """It stores no request fields, so it cannot compare them."""
    assert (keep(f"Vary: {vary}").find_fresh(URL, NOW_S) is not None) is is_fresh


@pytest.mark.parametrize(
    ("method", "is_gone"), [("POST", True), ("PUT", True), ("HEAD", False), ("OPTIONS", False)]
)
def test_unsafe_method_forgets_its_own_url(method: str, *, is_gone: bool) -> None:
    """RFC 9111 section 4.4."""
    cache = keep()
    cache.take(method, URL, (), response("Cache-Control: no-store"), NOW_S)
    assert (cache.find_fresh(URL, NOW_S) is None) is is_gone


def test_upload_elsewhere_changes_nothing() -> None:
    """Why the story's answer stays: the upload has another URL."""
    cache = keep()
    cache.take("POST", "http://app.example/file/upload", (), response(status=201), NOW_S)
    assert cache.find_fresh(URL, NOW_S) is not None


def test_error_that_nothing_permits_to_store_is_not_kept() -> None:
    """A 500 without freshness."""
    assert keep(status=500).find_fresh(URL, NOW_S) is None
