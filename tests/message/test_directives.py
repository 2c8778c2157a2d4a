"""Cache-Control as directives, RFC 9111 section 5.2: the grammar, not substrings."""

from __future__ import annotations

import pytest

from proxy.message.directives import Directive, has_no_transform, parse_directives


@pytest.mark.parametrize(
    ("value", "directives"),
    [
        (b"", []),
        (b"no-store", [Directive("no-store")]),
        (b"No-Store , MAX-AGE=60", [Directive("no-store"), Directive("max-age", "60")]),
        (b"max-age = 60", [Directive("max-age", "60")]),
        (b'max-age="60"', [Directive("max-age", "60")]),
        (
            b'private="x, no-store", max-age=1',
            [Directive("private", "x, no-store"), Directive("max-age", "1")],
        ),
        (b'no-cache="Set-Cookie"', [Directive("no-cache", "Set-Cookie")]),
        (b'a="q\\"q, no-store", b', [Directive("a", 'q"q, no-store'), Directive("b")]),
        (b"a=, b", [Directive("a", ""), Directive("b")]),
        (b",, no-store ,,", [Directive("no-store")]),
        (b"community=UCI, no-store", [Directive("community", "UCI"), Directive("no-store")]),
        (b"max-age=1, max-age=2", [Directive("max-age", "1"), Directive("max-age", "2")]),
        (b"=, no-store", [Directive("no-store")]),
        (b"caf\xe9, no-store", [Directive("caf", rest="\xe9"), Directive("no-store")]),
        (b"no-store; private , a", [Directive("no-store", rest="; private"), Directive("a")]),
        (
            b'a="b" c, max-age: 0',
            [Directive("a", "b", rest="c"), Directive("max-age", rest=": 0")],
        ),
    ],
)
def test_directives_are_read_in_order_with_duplicates(value, directives):
    assert list(parse_directives([value])) == directives


def test_lines_are_read_one_after_the_other():
    assert [d.name for d in parse_directives([b"no-store", b"max-age=1, private"])] == [
        "no-store",
        "max-age",
        "private",
    ]


@pytest.mark.parametrize(
    "value",
    [
        b'private="x, no-store"',
        b'no-cache="no-store"',
        b"x-no-store",
        b"no-store-x",
        b'"no-store"',
        b"a=no-store",
    ],
)
def test_no_store_inside_something_else_is_no_no_store(value):
    """What a substring search sees, as nginx does, we must not see."""
    assert "no-store" not in [directive.name for directive in parse_directives([value])]


@pytest.mark.parametrize(
    "value",
    [
        b'a="unterminated, no-store',
        b"a=\x00, b",
        b'a="x"y, b',
        b"\xff\xfe",
        b"=" * 50,
        b'"' * 51,
        b"a" * 5000 + b"=",
    ],
)
def test_what_cannot_be_read_is_skipped_without_an_error(value):
    """RFC 9111 section 5.2.3: what a cache does not understand it ignores."""
    parse_directives([value, b"no-store"])
    assert parse_directives([value, b"no-store"])[-1] == Directive("no-store")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((b"max-age=600, no-transform",), True),
        ((b"max-age=600", b"No-Transform"), True),
        ((b'private="no-transform"',), False),
        ((b"no-transform-x",), False),
        ((), False),
    ],
)
def test_no_transform_is_found_as_a_directive(values, expected):
    assert has_no_transform(*values) is expected
