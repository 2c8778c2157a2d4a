"""`proxy.audit.assess` against RFC 9111 sections 3 and 4.2, case by case."""

from __future__ import annotations

from typing import Literal

import pytest

from proxy.audit.assess import MAX_DELTA_S, Assessment, assess
from proxy.audit.http_dates import parse_http_date

NOW_S = 784_111_777
NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
HOUR_AGO = "Sun, 06 Nov 1994 07:49:37 GMT"
IN_AN_HOUR = "Sun, 06 Nov 1994 09:49:37 GMT"
CLASSIC = "no-store, no-cache, must-revalidate, post-check=0, pre-check=0"
STRICT = "no-store, no-cache, must-revalidate, max-age=0, private"
REVALIDATE = "no-cache, must-revalidate, max-age=0, private"

Cache = Literal["private", "shared"]


def judge(
    *lines: str,
    cache: Cache = "private",
    method: str = "GET",
    status: int = 200,
    request: tuple[str, ...] = (),
) -> Assessment:
    """Assess a response written as field lines, received at `NOW_S`."""
    return assess(
        method,
        status,
        _fields(request),
        _fields(lines),
        cache=cache,
        received_at_s=NOW_S,
    )


def _fields(lines: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(":") for line in lines)
    return [(name.encode(), value.strip().encode("latin-1")) for name, _, value in pairs]


@pytest.mark.parametrize("cache", ["private", "shared"])
@pytest.mark.parametrize("value", [CLASSIC, STRICT])
@pytest.mark.parametrize("status", [200, 301, 404, 500])
def test_an_enforced_response_may_not_be_stored_by_any_cache(cache: Cache, value: str, status: int) -> None:
    """`classic` and `strict` leave no permission, whatever else the response says (section 5.2.2.5)."""
    lines = (f"Cache-Control: {value}", f"Last-Modified: {HOUR_AGO}", f"Expires: {IN_AN_HOUR}")
    assessment = judge(*lines, cache=cache, status=status)
    assert not assessment.may_store
    assert not assessment.may_reuse_without_validation
    assert "RFC 9111 section 5.2.2.5" in assessment.why


def test_a_revalidate_response_may_be_stored_but_never_used_unasked() -> None:
    """The `revalidate` policy: stored by a browser, validated each time."""
    assessment = judge(f"Cache-Control: {REVALIDATE}")
    assert assessment.may_store
    assert not assessment.may_reuse_without_validation
    assert not judge(f"Cache-Control: {REVALIDATE}", cache="shared").may_store


def test_the_view_of_the_story_may_be_reused_for_any_time() -> None:
    """A bare 200 is heuristically cacheable, and without Last-Modified the lifetime is the cache's choice."""
    assessment = judge("Content-Type: application/json")
    assert assessment.may_store
    assert assessment.freshness == "heuristic"
    assert assessment.freshness_lifetime_s is None
    assert assessment.may_reuse_without_validation


@pytest.mark.parametrize(
    ("lines", "cache", "may_store", "section"),
    [
        ((), "private", True, "RFC 9110 section 15.1"),
        (("Cache-Control: no-store",), "private", False, "5.2.2.5"),
        (("Cache-Control: NO-STORE",), "private", False, "5.2.2.5"),
        (("Cache-Control: max-age=600", "cache-control: no-store"), "shared", False, "5.2.2.5"),
        (("Cache-Control: private",), "private", True, "5.2.2.7"),
        (("Cache-Control: private",), "shared", False, "5.2.2.7"),
        (('Cache-Control: private="Set-Cookie"',), "shared", True, "5.2.2.7"),
        (('Cache-Control: private=""',), "shared", False, "5.2.2.7"),
        (('Cache-Control: private="x, no-store", max-age=600',), "shared", True, "5.2.2.1"),
        (('Cache-Control: x="no-store"',), "private", True, "15.1"),
        (('Cache-Control: x="a\\", no-store, \\"b", max-age=1',), "private", True, "5.2.2.1"),
        (("Cache-Control: no-storey",), "private", True, "15.1"),
        (("Pragma: no-cache",), "private", True, "5.4"),
    ],
)
def test_what_a_cache_control_value_says_about_storing(
    lines: tuple[str, ...], cache: Cache, *, may_store: bool, section: str
) -> None:
    """Directives are read as the grammar says: quoted text, duplicates and other names are no directives."""
    assessment = judge(*lines, cache=cache)
    assert assessment.may_store is may_store
    assert section in assessment.why


@pytest.mark.parametrize(
    ("status", "line", "cache", "may_store"),
    [
        (200, "X: y", "private", True),
        (206, "X: y", "private", True),
        (301, "X: y", "shared", True),
        (302, "X: y", "private", False),
        (302, "Cache-Control: max-age=1", "private", True),
        (302, "Cache-Control: private", "private", True),
        (302, "Cache-Control: private", "shared", False),
        (302, "Cache-Control: s-maxage=1", "private", False),
        (302, "Cache-Control: s-maxage=1", "shared", True),
        (302, "Expires: 0", "private", True),
        (404, "X: y", "private", True),
        (500, "X: y", "private", False),
        (500, "Cache-Control: public", "shared", True),
        (103, "Cache-Control: public", "private", False),
    ],
)
def test_a_status_needs_a_permission_to_be_stored(
    status: int, line: str, cache: Cache, *, may_store: bool
) -> None:
    """Section 3: heuristically cacheable, or a directive, or Expires; and final."""
    assert judge(line, status=status, cache=cache).may_store is may_store


@pytest.mark.parametrize(
    ("method", "lines", "may_store"),
    [
        ("GET", (), True),
        ("HEAD", (), True),
        ("get", (), False),
        ("PUT", ("Cache-Control: max-age=600",), False),
        ("DELETE", ("Cache-Control: public",), False),
        ("OPTIONS", ("Cache-Control: max-age=600",), False),
        ("POST", (), False),
        ("POST", ("Cache-Control: max-age=600",), False),
        ("POST", ("Content-Location: /a",), False),
        ("POST", ("Content-Location: /a", "Cache-Control: max-age=600"), True),
    ],
)
def test_only_get_head_and_explicit_post_are_cacheable(
    method: str, lines: tuple[str, ...], *, may_store: bool
) -> None:
    """RFC 9110 sections 9.2.3 and 9.3.3; the method is case-sensitive."""
    assert judge(*lines, method=method).may_store is may_store


@pytest.mark.parametrize(
    ("value", "cache", "may_store"),
    [
        ("max-age=600", "shared", False),
        ("max-age=600", "private", True),
        ("max-age=600, public", "shared", True),
        ("s-maxage=600", "shared", True),
        ("max-age=600, must-revalidate", "shared", True),
        ("max-age=600, public, no-store", "shared", False),
    ],
)
def test_a_shared_cache_needs_leave_to_store_what_was_authorized(
    value: str, cache: Cache, *, may_store: bool
) -> None:
    """Section 3.5."""
    assessment = judge(f"Cache-Control: {value}", cache=cache, request=("authorization: Basic eDp5",))
    assert assessment.may_store is may_store


def test_no_store_in_the_request_forbids_to_store_the_response() -> None:
    """Section 5.2.1.5."""
    assert not judge("Cache-Control: max-age=600", request=("Cache-Control: no-store",)).may_store


def test_must_understand_cancels_no_store() -> None:
    """Section 5.2.2.3: why enforced responses replace Cache-Control instead of adding to it."""
    line = "Cache-Control: no-store, must-understand, max-age=600"
    assert judge(line).may_reuse_without_validation


@pytest.mark.parametrize(
    ("lines", "cache", "lifetime_s"),
    [
        (("Cache-Control: max-age=600, s-maxage=60",), "private", 600),
        (("Cache-Control: max-age=600, s-maxage=60",), "shared", 60),
        (("Cache-Control: max-age=600", f"Expires: {IN_AN_HOUR}", f"Date: {NOW}"), "private", 600),
        ((f"Expires: {IN_AN_HOUR}", f"Date: {NOW}"), "private", 3600),
        ((f"Expires: {IN_AN_HOUR}", f"Date: {HOUR_AGO}"), "private", 7200),
        ((f"Expires: {IN_AN_HOUR}",), "private", 3600),
        ((f"Expires: {IN_AN_HOUR}", "Date: yesterday"), "private", 3600),
        ((f"Expires: {HOUR_AGO}", f"Date: {NOW}"), "private", 0),
        (("Expires: 0",), "private", 0),
        (("Expires: -1",), "private", 0),
        (("Expires:",), "private", 0),
        ((f"Expires: {IN_AN_HOUR}", "Expires: 0", f"Date: {NOW}"), "private", 3600),
        (("Expires: 0", f"Expires: {IN_AN_HOUR}", f"Date: {NOW}"), "private", 0),
        (('Cache-Control: max-age="600"',), "private", 600),
        (("Cache-Control: max-age=0600",), "private", 600),
        ((f"Cache-Control: max-age={'0' * 30}600",), "private", 600),
        (("Cache-Control: max-age=10, max-age=600",), "private", 10),
        (("Cache-Control: max-age=10", "Cache-Control: max-age=600"), "private", 10),
        (("Cache-Control: max-age=-1",), "private", 0),
        (("Cache-Control: max-age=ten", f"Expires: {IN_AN_HOUR}"), "private", 0),
        (("Cache-Control: max-age",), "private", 0),
        (("Cache-Control: max-age=6e2",), "private", 0),
        ((f"Cache-Control: max-age={'9' * 4000}",), "private", MAX_DELTA_S),
        (("Cache-Control: max-age=2147483649",), "private", MAX_DELTA_S),
    ],
)
def test_explicit_lifetime(lines: tuple[str, ...], cache: Cache, lifetime_s: int) -> None:
    """Section 4.2.1: s-maxage, max-age, Expires, in this order; unreadable is stale; the first counts."""
    assessment = judge(*lines, cache=cache)
    assert assessment.freshness == "explicit"
    assert assessment.freshness_lifetime_s == lifetime_s
    assert assessment.may_reuse_without_validation is (lifetime_s > assessment.initial_age_s)


@pytest.mark.parametrize(
    ("status", "line", "freshness", "lifetime_s"),
    [
        (200, f"Last-Modified: {HOUR_AGO}", "heuristic", 360),
        (200, f"Last-Modified: {NOW}", "heuristic", 0),
        (200, f"Last-Modified: {IN_AN_HOUR}", "heuristic", 0),
        (200, "Last-Modified: once", "heuristic", None),
        (302, f"Last-Modified: {HOUR_AGO}", "none", 0),
        (302, "Cache-Control: public", "heuristic", None),
    ],
)
def test_heuristic_lifetime(status: int, line: str, freshness: str, lifetime_s: int | None) -> None:
    """Section 4.2.2: for heuristically cacheable statuses and `public` only."""
    assessment = judge(line, f"Date: {NOW}", status=status)
    assert (assessment.freshness, assessment.freshness_lifetime_s) == (freshness, lifetime_s)
    assert assessment.may_reuse_without_validation is (freshness == "heuristic")


@pytest.mark.parametrize(
    ("lines", "age_s", "may_reuse"),
    [
        (("Age: 300",), 300, True),
        (("Age: 600",), 600, False),
        (("Age: 300, 900",), 300, True),
        (("Age: old",), 0, True),
        ((f"Date: {HOUR_AGO}",), 3600, False),
        ((f"Date: {IN_AN_HOUR}",), 0, True),
    ],
)
def test_age_on_arrival(lines: tuple[str, ...], age_s: int, *, may_reuse: bool) -> None:
    """Section 4.2.3; a response as old as its lifetime is stale."""
    assessment = judge("Cache-Control: max-age=600", *lines)
    assert assessment.initial_age_s == age_s
    assert assessment.may_reuse_without_validation is may_reuse


@pytest.mark.parametrize(
    ("line", "may_reuse"),
    [
        ("Cache-Control: max-age=600, no-cache", False),
        ('Cache-Control: max-age=600, no-cache="Set-Cookie"', True),
        ("Cache-Control: max-age=600, no-cache=Set-Cookie", True),
        ('Cache-Control: max-age=600, no-cache="Set-Cookie", no-cache', False),
        ('Cache-Control: max-age=600, no-cache=""', False),
        ("Cache-Control: max-age=600, must-revalidate", True),
    ],
)
def test_qualified_no_cache_allows_reuse(line: str, *, may_reuse: bool) -> None:
    """Section 5.2.2.4: only the unqualified form forbids the use of the whole response."""
    assert judge(line).may_reuse_without_validation is may_reuse


@pytest.mark.parametrize("line", ["Vary: *", "Vary: Accept, *"])
def test_vary_star_forbids_reuse(line: str) -> None:
    """Section 4.1."""
    assessment = judge("Cache-Control: max-age=600", line)
    assert assessment.may_store
    assert not assessment.may_reuse_without_validation


@pytest.mark.parametrize(
    "value",
    [
        NOW,
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        f" {NOW}\t",
    ],
)
def test_every_format_of_an_http_date_is_read(value: str) -> None:
    """RFC 9110 section 5.6.7, without regard to case (RFC 9111 section 4.2)."""
    assert parse_http_date(value) == NOW_S


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "-1",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nix 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_http_date_is_none(value: str) -> None:
    """An invalid date is as good as none; in `Expires` it means expired."""
    assert parse_http_date(value) is None


def test_a_two_digit_year_that_would_lie_far_ahead_is_past() -> None:
    """RFC 9110 section 5.6.7: a year that appears more than 50 years ahead is of the last century."""
    assert parse_http_date("Sunday, 06-Nov-75 08:49:37 GMT") == 3_340_255_777
    assert parse_http_date("Sunday, 06-Nov-77 08:49:37 GMT") == 247_654_177
