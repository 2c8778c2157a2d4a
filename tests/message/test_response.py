"""A response's head: what is refused, how its content is framed, and what a treatment makes of its fields.

RFC 9112 sections 4 and 6.3, RFC 9110 sections 6.6.1, 7.6.1 and 7.8; DESIGN section 4 for treatments.
"""

from __future__ import annotations

import pytest

from proxy.message.entity_tags import mark
from proxy.message.errors import MalformedHeadError
from proxy.message.framing import Framing
from proxy.message.response import read_response, render_informational, render_response, render_switch
from proxy.message.rewrite import UNTOUCHED, Treatment
from proxy.message.syntax import HeadParser

NOW = b"Sun, 06 Nov 1994 08:49:37 GMT"
DATE = b"Date: Mon, 01 Jan 2024 00:00:00 GMT"
CACHE_CONTROL = (b"Cache-Control", b"no-store")


def read(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK"):
    return read_response(b"\r\n".join([start, *lines, b"", b""]), HeadParser("response"))


def render(
    *lines: bytes,
    treatment=UNTOUCHED,
    method="GET",
    minor=1,
    keep_alive=True,
    start=b"HTTP/1.1 200 OK",
    hides_validators=False,
):
    return render_response(
        read(*lines, start=start),
        treatment,
        method=method,
        client_minor=minor,
        keep_alive=keep_alive,
        now=NOW,
        hides_validators=hides_validators,
    )


def lines_of(outgoing) -> list[bytes]:
    assert outgoing.data.endswith(b"\r\n\r\n")
    return outgoing.data[:-4].split(b"\r\n")


class Test_Read:  # noqa: N801 - read as a sentence
    @pytest.mark.parametrize(
        ("start", "status", "reason", "minor"),
        [
            (b"HTTP/1.1 200 OK", 200, b"OK", 1),
            (b"HTTP/1.0 404 Not Found", 404, b"Not Found", 0),
            (b"HTTP/1.1 200 ", 200, b"", 1),
            (b"HTTP/1.1 200", 200, b"", 1),
            (b"HTTP/1.1 599 caf\xe9", 599, b"caf\xe9", 1),
            (b"HTTP/1.1 103 Early Hints", 103, b"Early Hints", 1),
        ],
    )
    def test_status_line_is_taken_apart_and_the_reason_kept(self, start, status, reason, minor):
        head = read(b"A: b", start=start)
        assert (head.status, head.reason, head.minor) == (status, reason, minor)

    @pytest.mark.parametrize(
        "start",
        [
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 +20 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/2.0 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.1 200 O\x00K",
            b"ICY 200 OK",
            b"",
        ],
    )
    def test_anything_else_is_refused(self, start):
        with pytest.raises(MalformedHeadError):
            read(b"A: b", start=start)

    @pytest.mark.parametrize(
        ("status", "is_final"),
        [(100, False), (102, False), (103, False), (101, True), (200, True), (999, True)],
    )
    def test_informational_responses_are_not_final_but_101_is(self, status, is_final):
        assert read(start=b"HTTP/1.1 %d X" % status).is_final is is_final


class Test_Framing:  # noqa: N801
    """RFC 9112 section 6.3."""

    CHUNKED = b"Transfer-Encoding: chunked"
    LENGTH = b"Content-Length: 5"

    @pytest.mark.parametrize(
        ("method", "status", "lines", "framing", "length"),
        [
            ("GET", 200, [LENGTH], Framing.FIXED, 5),
            ("GET", 200, [b"Content-Length: 0"], Framing.NONE, 0),
            ("GET", 200, [CHUNKED], Framing.CHUNKED, 0),
            ("GET", 200, [b"transfer-encoding: Chunked"], Framing.CHUNKED, 0),
            ("GET", 200, [], Framing.UNTIL_CLOSE, 0),
            ("HEAD", 200, [LENGTH], Framing.NONE, 0),
            ("HEAD", 200, [CHUNKED], Framing.NONE, 0),
            ("GET", 204, [], Framing.NONE, 0),
            ("GET", 204, [LENGTH], Framing.NONE, 0),
            ("GET", 304, [LENGTH], Framing.NONE, 0),
            ("GET", 205, [], Framing.UNTIL_CLOSE, 0),
        ],
    )
    def test_end_of_the_content(self, method, status, lines, framing, length):
        outgoing = render(*lines, method=method, start=b"HTTP/1.1 %d X" % status)
        assert (outgoing.framing, outgoing.content_length) == (framing, length)

    @pytest.mark.parametrize(
        "lines",
        [
            [CHUNKED, LENGTH],
            [CHUNKED, CHUNKED],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: gzip"],
            [b"Transfer-Encoding:"],
            [LENGTH, b"Content-Length: 6"],
            [LENGTH, b"Content-Length: 05"],
            [b"Content-Length: 5, 6"],
            [b"Content-Length: 5, 5", b"Content-Length: 6"],
            [b"Content-Length: ,"],
            [b"Content-Length: -5"],
            [b"Content-Length:"],
            [b"Content-Length: " + b"9" * 19],
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_ambiguous_framing_is_refused_even_without_content(self, lines, method):
        with pytest.raises(MalformedHeadError):
            render(*lines, method=method)

    def test_chunked_coding_from_an_http_1_0_upstream_is_refused(self):
        with pytest.raises(MalformedHeadError):
            render(self.CHUNKED, start=b"HTTP/1.0 200 OK")

    @pytest.mark.parametrize(
        ("lines", "minor", "is_chunked", "keep_alive", "added"),
        [
            ([LENGTH], 1, False, True, []),
            ([CHUNKED], 1, True, True, [b"Transfer-Encoding: chunked"]),
            ([], 1, True, True, [b"Transfer-Encoding: chunked"]),
            ([LENGTH], 0, False, True, [b"Connection: keep-alive"]),
            ([CHUNKED], 0, False, False, [b"Connection: close"]),
            ([], 0, False, False, [b"Connection: close"]),
        ],
    )
    def test_content_without_a_length_is_chunked_unless_the_client_speaks_1_0(
        self, lines, minor, is_chunked, keep_alive, added
    ):
        outgoing = render(DATE, *lines, minor=minor)
        assert (outgoing.is_chunked, outgoing.keep_alive) == (is_chunked, keep_alive)
        assert [line for line in lines_of(outgoing)[2:] if line != self.LENGTH] == added

    def test_connection_that_the_gateway_ends_says_so(self):
        outgoing = render(DATE, self.LENGTH, keep_alive=False)
        assert not outgoing.keep_alive
        assert lines_of(outgoing)[-1] == b"Connection: close"

    @pytest.mark.parametrize(
        ("start", "lines", "reuse"),
        [
            (b"HTTP/1.1 200 OK", [LENGTH], True),
            (b"HTTP/1.1 200 OK", [CHUNKED], True),
            (b"HTTP/1.1 200 OK", [], False),
            (b"HTTP/1.1 200 OK", [LENGTH, b"Connection: close"], False),
            (b"HTTP/1.1 200 OK", [LENGTH, b"Connection: X, Close"], False),
            (b"HTTP/1.0 200 OK", [LENGTH], False),
            (b"HTTP/1.0 200 OK", [LENGTH, b"Connection: Keep-Alive"], True),
            (b"HTTP/1.1 204 No Content", [], True),
            (b"HTTP/1.1 204 No Content", [b"Content-Length: 0"], True),
            (b"HTTP/1.1 204 No Content", [LENGTH], False),
            (b"HTTP/1.1 204 No Content", [CHUNKED], False),
            (b"HTTP/1.1 304 Not Modified", [LENGTH], True),
        ],
    )
    def test_upstream_connection_is_used_again_if_it_persists(self, start, lines, reuse):
        """RFC 9112 section 9.3."""
        assert render(*lines, start=start).reuse_upstream is reuse


class Test_Untouched:  # noqa: N801
    def test_lines_go_out_as_they_came(self):
        lines = [
            DATE,
            b"set-cookie: a=1",
            b"Set-Cookie: b=\xe9",
            b"Server: ",
            b"Content-Length: 5",
            b"Age: 7",
        ]
        outgoing = render(*lines, start=b"HTTP/1.1 299 My Reason")
        assert lines_of(outgoing) == [b"HTTP/1.1 299 My Reason", *lines]
        assert (outgoing.changed, outgoing.was_cached) == (0, False)

    def test_date_is_added_only_where_there_is_none(self):
        """RFC 9110 section 6.6.1."""
        assert lines_of(render(b"Content-Length: 5"))[1:] == [b"Content-Length: 5", b"Date: " + NOW]
        assert lines_of(render(DATE, DATE, b"Content-Length: 5"))[1:3] == [DATE, DATE]

    def test_hop_by_hop_fields_do_not_go_out(self):
        outgoing = render(
            DATE, b"Content-Length: 5", b"Connection: x-a", b"X-A: 1", b"Keep-Alive: timeout=5", b"Trailer: b"
        )
        assert lines_of(outgoing)[1:] == [DATE, b"Content-Length: 5"]

    def test_204_loses_a_content_length(self):
        """RFC 9110 section 8.6."""
        assert lines_of(render(DATE, b"Content-Length: 5", start=b"HTTP/1.1 204 X"))[1:] == [DATE]

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
    def test_length_of_content_that_is_not_sent_stays(self, method, status):
        outgoing = render(DATE, b"Content-Length: 5", method=method, start=b"HTTP/1.1 %d X" % status)
        assert lines_of(outgoing)[1:] == [DATE, b"Content-Length: 5"]

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 200)])
    def test_noughts_before_a_length_do_not_go_out(self, method, status):
        """The client reads the same number in it, whatever parser it has."""
        outgoing = render(b"content-length: 0010", DATE, method=method, start=b"HTTP/1.1 %d X" % status)
        assert lines_of(outgoing)[1:] == [b"content-length: 10", DATE]

    def test_length_that_a_treatment_takes_away_stays_away(self):
        treatment = Treatment(remove=[b"content-length"])
        assert lines_of(render(b"Content-Length: 0010", DATE, treatment=treatment))[1:] == [DATE]


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


class Test_Treatment:  # noqa: N801
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
        """Issue 14.16: Traffic Server answers `If-None-Match: *` from the fresh response that passes it."""
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


class Test_Informational:  # noqa: N801
    def test_passes_as_it_came_without_framing(self):
        head = read(
            b"Link: </a>", b"Connection: x", b"X: y", b"Content-Length: 5", start=b"HTTP/1.1 103 Hints!"
        )
        assert render_informational(head) == b"HTTP/1.1 103 Hints!\r\nLink: </a>\r\n\r\n"

    def test_without_fields(self):
        assert render_informational(read(start=b"HTTP/1.1 100 Continue")) == b"HTTP/1.1 100 Continue\r\n\r\n"


class Test_Switch:  # noqa: N801
    """RFC 9110 section 7.8: a server switches only to what it was asked for."""

    START = b"HTTP/1.1 101 Switching Protocols"

    @pytest.mark.parametrize("protocol", [b"websocket", b"WebSocket", b"foo/2, websocket"])
    def test_protocol_that_was_asked_for_is_passed_on(self, protocol):
        lines = (
            b"Upgrade: " + protocol,
            b"Connection: upgrade",
            b"Sec-WebSocket-Accept: x",
            b"Content-Length: 0",
        )
        assert render_switch(read(*lines, start=self.START), b"websocket, foo/2") == (
            self.START
            + b"\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: "
            + protocol
            + b"\r\n\r\n"
        )

    @pytest.mark.parametrize(
        ("lines", "asked_for"),
        [
            ([b"Upgrade: h2c"], b"websocket"),
            ([b"Upgrade: websocket, h2c"], b"websocket"),
            ([b"Upgrade: websocket"], b""),
            ([b"Upgrade: ,"], b""),
            ([b"Upgrade: ,"], b"websocket"),
            ([b"Upgrade: "], b","),
            ([], b"websocket"),
        ],
    )
    def test_protocol_that_nobody_asked_for_is_an_upstream_fault(self, lines, asked_for):
        with pytest.raises(MalformedHeadError, match="101"):
            render_switch(read(*lines, b"Connection: upgrade", start=self.START), asked_for)
