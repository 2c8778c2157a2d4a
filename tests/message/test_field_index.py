"""The one walk over a head's fields: lines in order, and where the few that somebody reads stand."""

from __future__ import annotations

import pytest

from proxy.message import field_index as module
from proxy.message.field_index import (
    UNDERSCORED,
    LineTable,
    drop,
    drop_named_in_connection,
    render_lines,
    value_of,
)
from proxy.message.fields import FieldSection

FIELDS = ((b"Host", b"a"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Age", b"7"), (b"X_B", b"3"))


class Test_Walk:
    def test_every_field_becomes_a_line_in_order_and_as_spelt(self):
        lines, noted, left_out = LineTable(()).walk(FieldSection(FIELDS))
        assert lines == [b"Host: a", b"X-A: 1", b"x-a: 2", b"Age: 7", b"X_B: 3"]
        assert (noted, left_out) == ({}, 0)

    def test_named_fields_are_noted_with_their_places_in_any_case(self):
        _, noted, _ = LineTable([b"x-a", b"host"]).walk(FieldSection(FIELDS))
        assert noted == {b"host": [(0, b"a")], b"x-a": [(1, b"1"), (2, b"2")]}

    def test_hop_by_hop_fields_are_noted_unasked(self):
        _, noted, _ = LineTable(()).walk(
            FieldSection([(b"Connection", b"close"), (b"TE", b"trailers"), (b"A", b"b")])
        )
        assert noted == {b"connection": [(0, b"close")], b"te": [(1, b"trailers")]}

    def test_fields_left_out_have_no_line_and_are_counted(self):
        lines, noted, left_out = LineTable((), left_out=[b"age", b"x-a"]).walk(FieldSection(FIELDS))
        assert lines == [b"Host: a", b"", b"", b"", b"X_B: 3"]
        assert (noted, left_out) == ({}, 3)

    def test_field_that_is_left_out_for_two_reasons_is_counted_once(self):
        table = LineTable((), left_out=[b"cdn-cache-control"], left_out_suffixes=[b"-cache-control"])
        assert table.walk(FieldSection([(b"CDN-Cache-Control", b"x")])) == ([b""], {}, 1)

    @pytest.mark.parametrize(
        ("name", "is_left_out"),
        [
            (b"CDN-Cache-Control", True),
            (b"cloudflare-cdn-cache-control", True),
            (b"Cache-Control", False),
            (b"X-Cache-Control-X", False),
        ],
    )
    def test_names_may_be_left_out_by_their_end(self, name, is_left_out):
        table = LineTable((), left_out_suffixes=[b"-cache-control"])
        assert table.walk(FieldSection([(name, b"x")]))[2] == is_left_out

    def test_what_is_left_out_may_be_noted(self):
        """It is read without being passed on: `Cache-Control` for its `no-transform`."""
        lines, noted, left_out = LineTable([b"age"], left_out=[b"age"]).walk(FieldSection(FIELDS))
        assert (lines[3], noted, left_out) == (b"", {b"age": [(3, b"7")]}, 1)

    def test_name_that_is_noted_stays_whatever_its_end(self):
        table = LineTable([b"cdn-cache-control"], left_out_suffixes=[b"-cache-control"])
        assert table.walk(FieldSection([(b"CDN-Cache-Control", b"x")]))[0::2] == (
            [b"CDN-Cache-Control: x"],
            0,
        )

    def test_names_with_an_underscore_are_noted_together_when_asked_for(self):
        fields = [*FIELDS, (b"a_b", b"4")]
        assert LineTable((), notes_underscored=True).walk(FieldSection(fields))[1] == {
            UNDERSCORED: [(4, b"3"), (5, b"4")],
        }
        assert LineTable(()).walk(FieldSection(fields))[1] == {}

    def test_field_that_is_read_is_noted_under_its_own_name_even_with_an_underscore(self):
        assert LineTable([b"x_b"], notes_underscored=True).walk(FieldSection(FIELDS))[1] == {
            b"x_b": [(4, b"3")]
        }

    def test_same_names_again_give_their_own_values(self):
        """What is remembered depends on names and their order alone."""
        table = LineTable([b"a", b"b"])
        assert table.walk(FieldSection([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")]))[1] == {
            b"a": [(0, b"1"), (2, b"3")],
            b"b": [(1, b"2")],
        }
        lines, noted, _ = table.walk(FieldSection([(b"A", b"4"), (b"B", b"5"), (b"a", b"6")]))
        assert lines == [b"A: 4", b"B: 5", b"a: 6"]
        assert noted == {b"a": [(0, b"4"), (2, b"6")], b"b": [(1, b"5")]}
        assert table.walk(FieldSection([(b"B", b"7"), (b"A", b"8")]))[1] == {
            b"b": [(0, b"7")],
            b"a": [(1, b"8")],
        }

    def test_what_is_remembered_is_bounded(self):
        """Names are the peer's choice; when the table is full, or names are long, a head is read all the same."""
        table = LineTable([b"host"])
        for number in range(2 * module._MAX_SHAPES):
            assert table.walk(FieldSection([(b"X-%d" % number, b""), (b"hOsT", b"a")]))[1] == {
                b"host": [(1, b"a")]
            }
            assert len(table._shapes) <= module._MAX_SHAPES
        table._shapes.clear()
        long = b"x" * (module._MAX_SHAPE_BYTES + 1)
        assert table.walk(FieldSection([(long, b""), (b"hOsT", b"a")]))[1] == {b"host": [(1, b"a")]}
        assert not table._shapes


class Test_Hop_by_hop:
    """RFC 9110 section 7.6.1."""

    def walked(self, *fields):
        return LineTable([b"content-length", b"host"]).walk(FieldSection(fields))[:2]

    @pytest.mark.parametrize(
        "name",
        [
            b"Connection",
            b"Keep-Alive",
            b"Proxy-Connection",
            b"TE",
            b"Trailer",
            b"Transfer-Encoding",
            b"UPGRADE",
        ],
    )
    def test_fields_of_one_connection_are_dropped(self, name):
        lines, noted = self.walked((b"A", b"b"), (name, b"x"), (name.lower(), b"y"))
        drop_named_in_connection(lines, noted)
        assert lines == [b"A: b", b"", b""]

    def test_fields_that_connection_names_are_dropped(self):
        lines, noted = self.walked(
            (b"X-A", b"1"), (b"Connection", b"x-a, close"), (b"x-A", b"2"), (b"B", b"c")
        )
        assert drop_named_in_connection(lines, noted) == {b"x-a", b"close"}
        assert lines == [b"", b"", b"", b"B: c"]

    @pytest.mark.parametrize("name", [b"Content-Length", b"Host", b"Date", b"Via"])
    def test_what_frames_routes_or_dates_the_message_cannot_be_named_away(self, name):
        """`Connection: host` would let a client take away what the gateway routes by."""
        lines, noted = self.walked((name, b"5"), (b"Connection", name))
        drop_named_in_connection(lines, noted)
        assert lines == [name + b": 5", b""]

    def test_options_are_returned_in_lower_case_and_none_without_the_field(self):
        lines, noted = self.walked((b"Connection", b"Keep-Alive"), (b"Connection", b"UPGRADE"))
        assert drop_named_in_connection(lines, noted) == {b"keep-alive", b"upgrade"}
        assert drop_named_in_connection([b"A: b"], {}) == frozenset()


@pytest.mark.parametrize(
    ("lines", "rendered"),
    [
        ([b"A: b", b"C: d"], b"X\r\nA: b\r\nC: d\r\n\r\n"),
        ([b"A: b", b"", b"C: d", b""], b"X\r\nA: b\r\nC: d\r\n\r\n"),
        ([b"", b""], b"X\r\n\r\n"),
        ([], b"X\r\n\r\n"),
    ],
)
def test_head_is_rendered_without_the_lines_that_were_taken_out(lines, rendered):
    assert render_lines(b"X", lines) == rendered


def test_drop_empties_every_line_of_a_field_and_counts_them():
    lines, noted, _ = LineTable([b"x-a"]).walk(FieldSection(FIELDS))
    assert drop(lines, noted, b"x-a") == 2
    assert lines == [b"Host: a", b"", b"", b"Age: 7", b"X_B: 3"]
    assert drop(lines, noted, b"etag") == 0


@pytest.mark.parametrize(
    ("values", "joined"), [([], None), ([b""], b""), ([b"a"], b"a"), ([b"a", b"", b"b"], b"a, , b")]
)
def test_lines_of_a_field_are_one_value(values, joined):
    """RFC 9110 section 5.3; an empty field is not an absent one."""
    _, noted, _ = LineTable([b"x"]).walk(FieldSection([(b"X", value) for value in values]))
    assert value_of(noted, b"x") == joined
