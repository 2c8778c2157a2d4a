"""Field names and list-based field values."""

from __future__ import annotations

import pytest

from proxy.message import fields
from proxy.message.fields import connection_options, is_token, is_upgrade_token_list, list_members, merge_vary


@pytest.mark.parametrize("value", [b"Host", b"x", b"!#$%&'*+-.^_`|~09", b"X_Y"])
def test_token_has_the_characters_of_rfc_9110(value):
    assert is_token(value)


@pytest.mark.parametrize(
    "value", [b"", b"a b", b"a:", b"a\x00", b"caf\xe9", b"a\n", b'"a"', b"(a)", b"a/b", b"a\x7f"]
)
def test_anything_else_is_no_token(value):
    assert not is_token(value)


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b" a ,\tb\t", [b"a", b"b"]),
        (b",,a,,b,", [b"a", b"b"]),
        (b"a b, c", [b"a b", b"c"]),
    ],
)
def test_list_members_are_trimmed_and_never_empty(value, members):
    """RFC 9110 section 5.6.1.2: a recipient takes empty members for nothing."""
    assert list_members(value) == members


def test_connection_options_of_all_lines_are_collected_in_lower_case():
    assert connection_options(b"Close, X-A", b"", b"x-b ,Upgrade") == {b"close", b"x-a", b"x-b", b"upgrade"}


@pytest.mark.parametrize("value", [b"websocket", b"foo/2, websocket", b"a,b"])
def test_list_of_protocols_may_be_forwarded(value):
    assert is_upgrade_token_list(value)


@pytest.mark.parametrize("value", [b"", b"web\x0bsocket", b"caf\xe9", b"a;b", b'"a"'])
def test_upgrade_that_is_no_list_of_protocols_may_not(value):
    assert not is_upgrade_token_list(value)


class Test_Vary:
    """RFC 9110 section 12.5.5; one line, no duplicates, `*` kept and never made."""

    @pytest.mark.parametrize(
        ("theirs", "ours", "merged"),
        [
            ((), (b"X-Requested-With",), b"X-Requested-With"),
            ((b"Accept-Encoding",), (b"X-Requested-With",), b"Accept-Encoding, X-Requested-With"),
            ((b"x-requested-with",), (b"X-Requested-With",), b"x-requested-with"),
            ((b"A, b", b"B,, C"), (b"a", b"D"), b"A, b, C, D"),
            ((b"*",), (b"X-Requested-With",), b"*"),
            ((b"Accept, *",), (b"X-Requested-With",), b"*"),
            ((b"",), (b"A", b"B"), b"A, B"),
        ],
    )
    def test_names_are_merged_into_what_the_upstream_says(self, theirs, ours, merged):
        """nginx and Varnish know a `*` only as the whole value: among others it stands alone afterwards."""
        assert merge_vary(theirs, ours) == merged

    def test_merging_again_changes_nothing(self):
        once = merge_vary((b"a, B",), (b"C",))
        assert merge_vary((once,), (b"C", b"b")) == once


def test_what_is_remembered_of_peers_values_is_bounded():
    """A peer that sends ever new values costs time, never memory."""
    for number in range(1000):
        assert connection_options(b"X-%d" % number) == {b"x-%d" % number}
        assert connection_options(b"X-%d" % number + b"," * 1000) == {b"x-%d" % number}
        merge_vary((b"x-%d" % number,), (b"A",))
    for cached in (fields._short_options, merge_vary):
        assert cached.cache_info().currsize <= fields.REMEMBERED
    before = fields._short_options.cache_info()
    connection_options(b"x," * 1000)
    connection_options(b"x", b"y" * 1000)
    assert fields._short_options.cache_info() == before
