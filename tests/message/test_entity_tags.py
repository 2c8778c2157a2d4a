"""One-time entity tags; the laws of them are in `tests/laws/test_entity_tags.py`."""

from __future__ import annotations

import re

import pytest

from proxy.message.entity_tags import make_one_time, restore

HEX = rb"[0-9a-f]{20}"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (b'"v"', rb'"v;nc=' + HEX + rb'"'),
        (b'W/"v"', rb'W/"v;nc=' + HEX + rb'"'),
        (b'""', rb'";nc=' + HEX + rb'"'),
        (b"odd", rb"odd;nc=" + HEX),
        (b"", rb";nc=" + HEX),
        (b'"a"b"', rb'"a"b";nc=' + HEX),
        (b'"', rb'";nc=' + HEX),
        (b'w/"v"', rb'w/"v";nc=' + HEX),
    ],
)
def test_suffix_stands_inside_the_quotes_of_a_tag_and_behind_what_is_none(tag, expected):
    """Weak stays weak; an app that sends no entity tag gets back what it sent all the same."""
    assert re.fullmatch(expected, make_one_time(tag))


@pytest.mark.parametrize("tag", [b'"v"', b'W/"v"', b'""', b"odd", b"", b'"a"b"', b'"', b'"v;nc=1"'])
def test_tag_is_had_back(tag):
    assert restore(make_one_time(tag)) == tag


def test_every_member_of_a_list_is_had_back():
    ours = [make_one_time(b'"a"'), b'"b"', make_one_time(b'W/"c"')]
    assert restore(b", ".join(ours)) == b'"a", "b", W/"c"'
    assert restore(b",".join(ours)) == b'"a","b",W/"c"'


@pytest.mark.parametrize(
    "value", [b"*", b"", b'"v"', b'"v;nc="', b'"v;nc=00000000000000000000"', b'"v;nc=g"', b";nc=;nc="]
)
def test_what_this_gateway_did_not_make_is_left_alone(value):
    """The last eight digits are a checksum of the tag: an app's own `;nc=` is not taken for one."""
    assert restore(value) is value or restore(value) == value


def test_tag_with_another_tags_suffix_is_left_alone():
    moved = b'"b' + make_one_time(b'"a"')[2:]
    assert restore(moved) == moved


def test_no_two_tags_are_the_same():
    assert len({make_one_time(b'"v"') for _ in range(1000)}) == 1000
