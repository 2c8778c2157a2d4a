"""Marked entity tags; the laws of them are in `tests/laws/test_entity_tags.py`."""

from __future__ import annotations

import re
import zlib

import pytest

from proxy.message.entity_tags import mark, matches_any, unmark

HEX = rb"[0-9a-f]{8}"


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
    assert re.fullmatch(expected, mark(tag))


@pytest.mark.parametrize("tag", [b'"v"', b'W/"v"', b'""', b"odd", b"", b'"a"b"', b'"', b'"v;nc=1"'])
def test_tag_is_had_back(tag):
    assert unmark(mark(tag)) == tag


def test_every_member_of_a_list_is_had_back():
    ours = [mark(b'"a"'), b'"b"', mark(b'W/"c"')]
    assert unmark(b", ".join(ours)) == b'"a", "b", W/"c"'
    assert unmark(b",".join(ours)) == b'"a","b",W/"c"'


@pytest.mark.parametrize(
    "value", [b"*", b"", b'"v"', b'"v;nc="', b'"v;nc=00000000"', b'"v;nc=g"', b";nc=;nc="]
)
def test_what_this_gateway_did_not_make_is_left_alone(value):
    """The digits are a checksum of the tag: an app's own `;nc=` is not taken for one."""
    assert unmark(value) is value or unmark(value) == value


def test_tag_with_another_tags_suffix_is_left_alone():
    moved = b'"b' + mark(b'"a"')[2:]
    assert unmark(moved) == moved


def test_mark_is_the_same_everywhere_and_for_ever():
    """Issue 16.10: a page polls for a new tag, over workers, replicas and restarts of the proxy."""
    assert mark(b'"v"') == b'"v;nc=%08x"' % zlib.crc32(b"v", 0x6E63)
    assert mark(b'W/"v"') == b"W/" + mark(b'"v"')


def test_tags_that_differ_stay_so():
    assert len({mark(b'"%d"' % number) for number in range(10_000)}) == 10_000


def test_apps_own_checksum_is_not_taken_for_the_mark():
    assert unmark(own := b'"v;nc=%08x"' % zlib.crc32(b"v")) == own


@pytest.mark.parametrize(
    ("value", "is_met"),
    [
        (b"*", True),
        (b'"a" , *', True),
        (b'"*"', False),
        (b'"a*b", W/"*c"', False),
        (b"", False),
        (b"**", False),
    ],
)
def test_star_is_met_by_any_tag(value, is_met):
    assert matches_any(value) is is_met
