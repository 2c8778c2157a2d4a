"""What apps read differently, one way of reading after the other; that rules cannot be bypassed is in `laws/`."""

from __future__ import annotations

import pytest

from proxy.rules.engine import readings
from proxy.rules.engine.readings import field_readings, methods_named, moved_paths, parameter_readings


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, [None]),
        (b"", [""]),
        (b"a", ["a"]),
        (b"a\xa0", ["a\xa0", "a"]),
        (b"\x85a", ["\x85a", "a"]),
        ((b"a", b"a"), ["a, a", "a,a", "a"]),
        ((b"a", b"b", b"c"), ["a, b, c", "a,b,c", "a", "c"]),
        ((b"a\xa0", b"b"), ["a\xa0, b", "a\xa0,b", "a\xa0", "b", "a, b", "a,b", "a"]),
    ],
)
def test_field_is_read_by_line_and_joined_and_with_pythons_white_space_off(sent, read):
    assert field_readings(sent) == read


@pytest.mark.parametrize(
    ("sent", "methods"),
    [
        (None, set()),
        (b"put", {"PUT"}),
        (b"GET, delete", {"GET", "DELETE"}),
        ((b"patch", b"put"), {"PATCH", "PUT"}),
        (b"put\xa0", {"PUT\xa0", "PUT"}),
    ],
)
def test_method_may_be_any_that_a_field_names(sent, methods):
    assert methods_named(sent) == methods


@pytest.mark.parametrize(
    ("name", "sent", "paths", "moved"),
    [
        (b"x-script-name", b"/app", {"/app/a"}, {"/a"}),
        (b"x-forwarded-prefix", b"/app/", {"/app/a"}, {"/a"}),
        (b"x-script-name", b"/app", {"/app"}, {"/"}),
        (b"x-script-name", b"/app", {"/app//a"}, {"/a"}),
        (b"x-script-name", b"/other", {"/app/a"}, set()),
        (b"x-script-name", b"", {"/app/a"}, set()),
        (b"x-script-name", None, {"/app/a"}, set()),
        (b"x-script-name", (b"/app", b"/b"), {"/app/a", "/b/c"}, {"/a", "/c"}),
        (b"x-original-url", b"/b?c", {"/a"}, {"/b"}),
        (b"x-original-url", b"http://h:1/b?c", {"/a"}, {"/b"}),
        (b"x-original-url", b"?c", {"/a"}, {"/"}),
        (b"x-original-url", b"", {"/a"}, {"/"}),
        (b"x-original-url", None, {"/a"}, set()),
    ],
)
def test_path_may_be_the_one_that_a_middleware_puts_in_its_place(name, sent, paths, moved):
    assert moved_paths(name, sent, paths) == moved


def values(target: bytes, name: str = "q") -> set[str | None]:
    found = parameter_readings(target, {name})
    assert found is not None
    assert set(found) <= {name}
    return set(found.get(name, [None]))


@pytest.mark.parametrize(
    ("target", "read"),
    [
        (b"/", {None}),
        (b"/?", {None}),
        (b"/?a=q", {None}),
        (b"/?q", {""}),
        (b"/?q=", {""}),
        (b"/?q=1", {"1"}),
        (b"/?a&q=1&b", {"1"}),
        (b"/?q=1&q=2", {"1", "2"}),
        (b"/?q=1=2", {"1=2"}),
        (b"/?q=a+b", {"a+b", "a b"}),
        (b"/?q=a%20b", {"a b"}),
        (b"/?%71=1", {"1"}),
        (b"/?q=1;q=2", {"1;q=2", "1", "2"}),
        (b"/?a;q=1", {None, "1"}),
        (b"/?q=1#f", {"1#f", "1"}),
        (b"/#f?q=1", {"1", None}),
        (b"/?q=1\xa0", {"1\ufffd", "1%A0", "1\xa0", "1"}),
        (b"/?q=%C3%A9", {"\xe9", "\xc3\xa9"}),
        (b"/?q=%E9", {"\ufffd", "%E9", "\xe9"}),
    ],
)
def test_parameter_has_every_value_that_some_app_reads(target, read):
    assert values(target) == read


def test_query_beyond_the_bounds_is_not_read():
    """Nobody knows then; what protects, holds."""
    for separator in (b"&", b";"):
        most = readings._MAX_PARAMETERS
        assert parameter_readings(b"/?" + separator * most, {"q"}) is not None
        assert parameter_readings(b"/?" + separator * (most + 1), {"q"}) is None
    assert parameter_readings(b"/?" + b"&" * 200 + b";" * 100, {"q"}) is None
    longest = readings._MAX_QUERY_BYTES
    assert parameter_readings(b"/?" + b"x" * longest, {"q"}) is not None
    assert parameter_readings(b"/?" + b"x" * (longest + 1), {"q"}) is None
