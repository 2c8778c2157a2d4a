"""A policy applied to the fields of a response."""

from __future__ import annotations

import pytest

from proxy.message.entity_tags import mark
from proxy.message.rewrite import Treatment
from tests.message.response_heads import DATE, NOW, lines_of, render

CACHE_CONTROL = (b"Cache-Control", b"no-store")


def treated(
    *lines: bytes, method="GET", status=200, hides_validators=False, **options
) -> tuple[list[bytes], int]:
    """The field lines after a treatment, framing and `Date` aside, and how many it changed."""
    outgoing = render(
        DATE,
        *lines,
        b"Content-Length: 5",
        treatment=Treatment(**options),
        method=method,
        start=b"HTTP/1.1 %d X" % status,
        hides_validators=hides_validators,
    )
    left = [line for line in lines_of(outgoing)[1:] if line not in (DATE, b"Content-Length: 5")]
    return left, outgoing.changed


class Test_Treatment:
    def test_fields_that_are_set_stand_last_in_place_of_all_lines_of_their_names(self):
        setting = [(b"Pragma", b"no-cache"), (b"X-A", b"1")]
        lines = [b"x-a: 0", b"B: c", b"PRAGMA: x", b"X-A: 2"]
        assert treated(*lines, set_fields=setting) == ([b"B: c", b"Pragma: no-cache", b"X-A: 1"], 5)

    def test_fields_that_are_removed_go_and_are_counted(self):
        lines = [b"Warning: 1", b"CDN-Cache-Control: x", b"Cache-Control: y", b"warning: 2"]
        options = {"remove": [b"warning", b"*-cache-control"]}
        assert treated(*lines, **options) == ([b"Cache-Control: y"], 3)

    def test_age_that_is_removed_says_that_a_cache_answered(self):
        lines = [b"Age: 7", b"Content-Length: 5"]
        assert render(*lines, treatment=Treatment(remove=[b"age"])).was_cached
        assert not render(*lines).was_cached
        assert treated(b"Age: 7", remove=[b"age"]) == ([], 1)

    @pytest.mark.parametrize(
        ("theirs", "value"),
        [
            ([], b"no-store"),
            ([b"max-age=60"], b"no-store"),
            ([b"max-age=60, No-Transform"], b"no-store, no-transform"),
            ([b"public", b"no-transform"], b"no-store, no-transform"),
            ([b'private="no-transform"'], b"no-store"),
        ],
    )
    def test_one_cache_control_replaces_all_and_keeps_no_transform(self, theirs, value):
        """RFC 9111 section 5.2.2.6: that directive is not about caching alone."""
        lines, changed = treated(
            *[b"Cache-Control: " + v for v in theirs], set_fields=[CACHE_CONTROL, (b"A", b"b")]
        )
        assert lines == [b"Cache-Control: " + value, b"A: b"]
        assert changed == len(theirs) + 2

    @pytest.mark.parametrize(
        ("method", "status", "is_marked"),
        [
            ("GET", 200, True),
            ("HEAD", 200, True),
            ("GET", 206, True),
            ("POST", 200, False),
            ("PUT", 204, False),
            ("GET", 404, False),
        ],
    )
    def test_tag_of_content_is_marked_in_the_answer_to_get_or_head(self, method, status, is_marked):
        """Parts fit the whole and each other; what updates answer is the app's own business. Issue 16.10."""
        (line,), changed = treated(b'etag: W/"v"', method=method, status=status, etag="mark")
        assert line == b"etag: " + (mark(b'W/"v"') if is_marked else b'W/"v"')
        assert changed == is_marked

    def test_every_line_of_a_tag_is_marked_an_empty_one_too(self):
        lines, changed = treated(b'ETag: "v"', b"ETag:", etag="mark")
        assert lines == [b"ETag: " + mark(b'"v"'), b"ETag: " + mark(b"")]
        assert changed == 2

    @pytest.mark.parametrize("how", [{"etag": "mark"}, {"last_modified": "date"}, {"etag": "remove"}])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_validators_are_left_out_where_any_would_give_304(self, how, method):
        """Issue 14.16: a cache on the way may answer `If-None-Match: *` from the fresh response that passes it."""
        fields = (b'ETag: "v"', b"A: b", b"Last-Modified: x", b"etag: w")
        assert treated(*fields, method=method, hides_validators=True, **how) == ([b"A: b"], 3)
        assert treated(b"A: b", method=method, hides_validators=True, **how) == ([b"A: b"], 0)

    def test_validators_that_no_policy_touches_stay_even_then(self):
        fields = [b'ETag: "v"', b"Last-Modified: x"]
        assert treated(*fields, hides_validators=True) == (fields, 0)
        assert treated(*fields, method="PUT", etag="mark", hides_validators=True)[0] == fields

    def test_tag_that_connection_takes_away_stays_away(self):
        assert treated(b'ETag: "v"', b"Connection: etag", etag="mark")[0] == []

    def test_tag_may_be_removed_or_kept(self):
        assert treated(b'ETag: "v"', b"etag: x", etag="remove") == ([], 2)
        assert treated(b'ETag: "v"', etag="keep") == ([b'ETag: "v"'], 0)

    @pytest.mark.parametrize(
        ("mode", "status", "expected", "changed"),
        [
            ("keep", 200, [b"Last-Modified: x"], 0),
            ("remove", 200, [], 1),
            ("date", 200, [b"Last-Modified" + DATE[4:]], 2),
            ("date", 206, [b"Last-Modified: x"], 0),
            ("remove", 206, [b"Last-Modified: x"], 0),
        ],
    )
    def test_last_modified(self, mode, status, expected, changed):
        assert treated(b"Last-Modified: x", status=status, last_modified=mode) == (expected, changed)

    def test_last_modified_is_the_date_that_the_gateway_adds_where_there_is_none(self):
        outgoing = render(b"Content-Length: 5", treatment=Treatment(last_modified="date"))
        assert {b"Last-Modified: " + NOW, b"Date: " + NOW} <= set(lines_of(outgoing))

    @pytest.mark.parametrize(
        ("theirs", "expected", "changed"),
        [
            ([], [b"Vary: X-A"], 1),
            ([b"Vary: Accept"], [b"Vary: Accept, X-A"], 1),
            ([b"vary: x-a"], [b"vary: x-a"], 0),
            ([b"Vary: a", b"B: c", b"vary: B"], [b"Vary: a, B, X-A", b"B: c"], 2),
            ([b"Vary: *"], [b"Vary: *"], 0),
            ([b"Vary: X-A", b"Connection: vary"], [b"Vary: X-A"], 1),
        ],
    )
    def test_vary_is_merged_into_one_line_where_the_first_stood(self, theirs, expected, changed):
        assert treated(*theirs, vary=[b"X-A"]) == (expected, changed)

    def test_second_date_is_taken_away_where_fields_are_set(self):
        """Werkzeug's own server adds one to the app's; two make a response unusable for some caches."""
        outgoing = render(DATE, b"date: x", b"Content-Length: 5", treatment=Treatment([CACHE_CONTROL]))
        assert lines_of(outgoing)[1:] == [DATE, b"Content-Length: 5", b"Cache-Control: no-store"]
        assert outgoing.changed == 2
