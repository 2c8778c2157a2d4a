"""A request's head: what is refused, what rules and framing learn of it, and what the upstream gets.

RFC 9112 sections 3 and 6, RFC 9110 sections 7.2, 7.6 and 7.8.
"""

from __future__ import annotations

import pytest

from proxy.message.entity_tags import mark
from proxy.message.errors import MessageError
from proxy.message.methods import METHODS
from proxy.message.request import NOBODY, RequestTable, render_request


def head(*lines: bytes, start: bytes = b"GET /a?b HTTP/1.1", host: bytes = b"Host: app") -> bytes:
    return b"\r\n".join([start, *filter(None, [host]), *lines, b"", b""])


def read(*lines: bytes, names=(), underscores="drop", forwarding="off", via="off", peer=NOBODY, **parts):
    table = RequestTable(names, underscores, b"upstream:1", forwarding, via)
    return table.read(head(*lines, **parts), peer)


def rendered(request, *, strips=False) -> list[bytes]:
    data, _ = render_request(request, strips_conditionals=strips)
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


class Test_Refused:
    @pytest.mark.parametrize(
        ("start", "status"),
        [
            (b"get / HTTP/1.1", 400),
            (b"Get / HTTP/1.1", 400),
            (b"-GET / HTTP/1.1", 400),
            (b"1GET / HTTP/1.1", 400),
            (b"GET! / HTTP/1.1", 400),
            (b"G\xc9T / HTTP/1.1", 400),
            (b"X" * 33 + b" / HTTP/1.1", 400),
            (b" / HTTP/1.1", 400),
            (b"GET  / HTTP/1.1", 400),
            (b"GET / HTTP/1.1 ", 400),
            (b"GET /a b HTTP/1.1", 400),
            (b"GET /", 400),
            (b"GET / HTTP/2.0", 400),
            (b"GET / http/1.1", 400),
            (b"GET a HTTP/1.1", 400),
            (b"GET * HTTP/1.1", 400),
            (b"CONNECT app:443 HTTP/1.1", 501),
        ],
    )
    def test_request_line_that_app_and_rules_could_read_differently(self, start, status):
        with pytest.raises(MessageError) as refused:
            read(start=start)
        assert refused.value.status == status

    @pytest.mark.parametrize(
        ("host", "start"),
        [
            (b"", b"GET / HTTP/1.1"),
            (b"Host: a\r\nHost: a", b"GET / HTTP/1.1"),
            (b"Host: a b", b"GET / HTTP/1.1"),
            (b"Host: a,b", b"GET / HTTP/1.0"),
            (b"Host: other", b"GET http://app/ HTTP/1.1"),
            (b"", b"GET http://app/ HTTP/1.1"),
            (b"Host: u@app", b"GET http://u@app/ HTTP/1.1"),
        ],
    )
    def test_missing_double_malformed_or_contradicting_host(self, host, start):
        with pytest.raises(MessageError, match=r"[Hh]ost"):
            read(start=start, host=host)

    @pytest.mark.parametrize(
        "lines",
        [
            [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: chunked, identity"],
            [b"Transfer-Encoding: xchunked"],
            [b"Transfer-Encoding:"],
            [b"Content-Length: 5", b"Content-Length: 5"],
            [b"Content-Length: 5, 5"],
            [b"Content-Length: -5"],
            [b"Content-Length: +5"],
            [b"Content-Length: 0x5"],
            [b"Content-Length: 5_0"],
            [b"Content-Length:"],
            [b"Content-Length: " + b"9" * 19],
        ],
    )
    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_ambiguous_framing(self, lines, version):
        with pytest.raises(MessageError) as refused:
            read(*lines, start=b"POST / HTTP/" + version)
        assert refused.value.status == 400

    def test_chunked_coding_in_http_1_0(self):
        """RFC 9112 section 6.1: such framing is faulty."""
        with pytest.raises(MessageError):
            read(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0")

    @pytest.mark.parametrize(
        "line", [b"A : b", b"A\x00: b", b"A: \x00", b"(a): b", b"A: b\r\n c", b"caf\xe9: b"]
    )
    def test_malformed_field_line(self, line):
        with pytest.raises(MessageError) as refused:
            read(line)
        assert refused.value.status == 400
        assert str(refused.value)

    def test_too_many_fields_with_a_status_of_their_own(self):
        with pytest.raises(MessageError) as refused:
            read(*[b"A: b"] * 300)
        assert refused.value.status == 431

    def test_reason_says_nothing_of_the_request(self):
        for line in (b"Secret : x", b"Secret\x00: x", b"Content-Length: Secret"):
            with pytest.raises(MessageError) as refused:
                read(line)
            assert "Secret" not in str(refused.value)


class Test_Read:
    @pytest.mark.parametrize(
        "method",
        [*sorted(METHODS - {"CONNECT"}), "QUERY", "M-SEARCH", "VERSION-CONTROL", "X", "MY_OWN-2", "X" * 32],
    )
    def test_every_method_in_upper_case_is_taken(self, method):
        """RFC 9110 section 9.1: methods are case-sensitive, and apps have their own (issue 16.5)."""
        assert read(start=method.encode() + b" / HTTP/1.1").method == method

    def test_target_is_kept_as_sent_and_path_ends_before_the_query(self):
        request = read(start=b"GET //a/%2e/\xe9?b?c HTTP/1.1")
        assert request.target == b"//a/%2e/\xe9?b?c"

    @pytest.mark.parametrize(
        ("start", "host", "expected"),
        [
            (b"GET / HTTP/1.1", b"Host: App:80", b"App:80"),
            (b"GET / HTTP/1.1", b"Host:", b""),
            (b"GET / HTTP/1.0", b"", None),
            (b"GET http://App/ HTTP/1.1", b"Host: app", b"App"),
            (b"GET http://app/ HTTP/1.0", b"", b"app"),
        ],
    )
    def test_host_is_that_of_the_field_or_of_absolute_form(self, start, host, expected):
        assert read(start=start, host=host).host == expected

    @pytest.mark.parametrize(
        ("lines", "content_length"),
        [
            ([], 0),
            ([b"Content-Length: 0"], 0),
            ([b"content-length: 007"], 7),
            ([b"Content-Length: " + b"9" * 18], 10**18 - 1),
            ([b"Transfer-Encoding: Chunked"], None),
        ],
    )
    def test_framing(self, lines, content_length):
        assert read(*lines, start=b"POST / HTTP/1.1").content_length == content_length

    @pytest.mark.parametrize(
        ("version", "lines", "keep_alive"),
        [
            (b"1.1", [], True),
            (b"1.1", [b"Connection: close"], False),
            (b"1.1", [b"Connection: keep-alive, Close"], False),
            (b"1.0", [], False),
            (b"1.0", [b"Connection: Keep-Alive"], True),
            (b"1.0", [b"Connection: keep-alive, close"], False),
        ],
    )
    def test_connection_persists_as_rfc_9112_section_9_3_says(self, version, lines, keep_alive):
        assert read(*lines, start=b"GET / HTTP/" + version).keep_alive is keep_alive

    @pytest.mark.parametrize(
        ("lines", "upgrade"),
        [
            ([b"Connection: Upgrade", b"Upgrade: websocket"], b"websocket"),
            ([b"Connection: keep-alive, upgrade", b"Upgrade: foo/2,websocket"], b"foo/2, websocket"),
            ([b"Connection: upgrade", b"Upgrade: h2c, websocket"], b"websocket"),
            ([b"Connection: upgrade", b"Upgrade: H2C"], b""),
            ([b"Connection: upgrade", b"Upgrade: HTTP/2.0"], b""),
            ([b"Connection: upgrade", b"Upgrade: TLS/1.0"], b""),
            ([b"Connection: upgrade", b'Upgrade: "websocket"'], b""),
            ([b"Connection: upgrade", b"Upgrade:"], b""),
            ([b"Upgrade: websocket"], b""),
            ([b"Connection: upgrade"], b""),
        ],
    )
    def test_upgrade_is_kept_unless_it_leads_to_another_http(self, lines, upgrade):
        """RFC 9110 section 7.8; through h2c requests would walk past the rules."""
        assert read(*lines).upgrade == upgrade

    def test_upgrade_of_an_http_1_0_client_is_ignored(self):
        lines = (b"Connection: upgrade", b"Upgrade: websocket")
        assert read(*lines, start=b"GET / HTTP/1.0").upgrade == b""

    def test_values_are_those_of_the_names_that_rules_read_in_their_order(self):
        request = read(
            b"accept: a", b"X-A: 1", b"Accept: b", b"X-B:", names=(b"x-b", b"accept", b"x-none", b"x-a")
        )
        assert request.values == (b"", (b"a", b"b"), None, b"1")


class Test_Values_for_rules:
    """Rules decide on what reaches the app, or a client could tell them one thing and the app another."""

    def test_host_of_absolute_form_counts_where_no_field_was_sent(self):
        """An HTTP/1.0 client need send none; the app gets that of the target, RFC 9112 section 3.2.2."""
        request = read(start=b"GET http://api.example/x HTTP/1.0", host=b"", names=(b"host",))
        assert request.values == (b"api.example",)
        assert rendered(request)[1] == b"Host: api.example"

    def test_host_that_the_gateway_adds_counts(self):
        table = RequestTable((b"host", b"accept"), authority=b"upstream:1")
        request = table.read(head(start=b"GET /x HTTP/1.0", host=b""))
        assert request.values == (b"upstream:1", None)
        assert rendered(request)[1] == b"Host: upstream:1"

    @pytest.mark.parametrize(
        "connection", [b"Connection: X-Requested-With", b"connection: close, x-requested-WITH"]
    )
    def test_field_that_rules_read_may_not_be_named_in_connection(self, connection):
        """It would be taken off before the app sees it, RFC 9110 section 7.6.1."""
        with pytest.raises(MessageError) as refused:
            read(connection, b"X-Requested-With: XMLHttpRequest", names=(b"x-requested-with",))
        assert refused.value.status == 400

    def test_other_fields_may_be(self):
        lines = (b"Connection: X-Other, TE, Accept", b"X-Other: 1", b"TE: trailers")
        request = read(*lines, names=(b"accept", b"te"))
        assert request.values[0] is None
        assert b"X-Other: 1" not in rendered(request)


class Test_Underscores:
    """WSGI folds `_` and `-` into one: `X_Requested_With` would be another `X-Requested-With` to the app."""

    def test_dropped_as_nginx_does(self):
        assert rendered(read(b"X_A: 1", b"B: c", b"_: 2"))[2:] == [b"B: c"]

    @pytest.mark.parametrize(
        ("name", "is_kept"),
        [
            (b"X_A", True),
            (b"X_Requested_With", False),
            (b"x_requested-with", False),
            (b"Content_Length", False),
            (b"Transfer_Encoding", False),
            (b"X_Forwarded_For", False),
            (b"X_HTTP_Method_Override", False),
            (b"If_None_Match", False),
            (b"SCRIPT_NAME", False),
            (b"Path_Info", False),
        ],
    )
    def test_kept_on_demand_unless_they_alias_what_is_read(self, name, is_kept):
        request = read(name + b": x", names=(b"x-requested-with",), underscores="keep")
        assert (name + b": x" in rendered(request)) is is_kept

    def test_alias_does_not_count_as_the_field(self):
        assert read(b"X_A: 1", names=(b"x-a",)).values == (None,)


class Test_Rendered:
    def test_fields_go_out_in_order_as_sent_and_via_last(self):
        request = read(b"b: 1", b"A: 2", b"b: 3", b"Cookie: a=\xe9", via="on")
        assert rendered(request) == [
            b"GET /a?b HTTP/1.1",
            b"Host: app",
            b"b: 1",
            b"A: 2",
            b"b: 3",
            b"Cookie: a=\xe9",
            b"Via: 1.1 nocache-proxy",
        ]

    def test_http_1_0_becomes_1_1_and_says_so_in_via(self):
        """RFC 9110 section 7.6.3."""
        lines = rendered(read(start=b"GET / HTTP/1.0", host=b"", via="on"))
        assert lines == [b"GET / HTTP/1.1", b"Host: upstream:1", b"Via: 1.0 nocache-proxy"]

    def test_absolute_form_becomes_origin_form_with_its_host(self):
        lines = rendered(read(start=b"GET http://app/x HTTP/1.0", host=b""))
        assert lines[:2] == [b"GET /x HTTP/1.1", b"Host: app"]

    def test_framing_is_made_anew(self):
        lines = rendered(read(b"transfer-encoding: CHUNKED", b"TE: trailers", start=b"POST / HTTP/1.1"))
        assert lines[2:] == [b"Transfer-Encoding: chunked"]
        lines = rendered(read(b"Content-Length: 5", b"Connection: content-length", start=b"POST / HTTP/1.1"))
        assert b"Content-Length: 5" in lines

    @pytest.mark.parametrize(
        ("sent", "line"),
        [
            (b"content-length: 0010", b"content-length: 10"),
            (b"Content-Length:  08 ", b"Content-Length: 8"),
            (b"Content-Length: 000", b"Content-Length: 0"),
            (b"CONTENT-LENGTH: 0", b"CONTENT-LENGTH: 0"),
            (b"Content-Length: 100", b"Content-Length: 100"),
        ],
    )
    def test_noughts_before_a_length_are_not_forwarded(self, sent, line):
        """RFC 9110 section 8.6 allows them; C's `strtol` may read `010` as 8."""
        assert rendered(read(sent, start=b"POST / HTTP/1.1"))[2] == line

    def test_upgrade_is_asked_for_anew(self):
        lines = rendered(read(b"Connection: Upgrade, X-A", b"X-A: 1", b"Upgrade: websocket, h2c"))
        assert lines[2:] == [b"Connection: Upgrade", b"Upgrade: websocket"]


class Test_Conditions:
    """Validation preconditions go, those that protect updates stay (RFC 9110 section 13.1)."""

    LINES = (b'If-None-Match: "v"', b"If-Modified-Since: x", b'If-Match: "v"', b"If-Unmodified-Since: x")

    @pytest.mark.parametrize(
        ("start", "strips", "left"),
        [
            (b"GET / HTTP/1.1", True, LINES[2:]),
            (b"HEAD / HTTP/1.1", True, LINES[2:]),
            (b"GET / HTTP/1.1", False, LINES),
            (b"PUT / HTTP/1.1", True, LINES),
        ],
    )
    def test_stripped_on_get_and_head_only(self, start, strips, left):
        assert tuple(rendered(read(*self.LINES, start=start), strips=strips)[2:]) == left

    @pytest.mark.parametrize(
        ("lines", "left", "count"),
        [
            ([b"Range: bytes=0-1"], [b"Range: bytes=0-1"], 0),
            ([b"Range: bytes=0-1", b'If-Range: "v"'], [], 2),
            ([b'If-Range: "v"'], [], 1),
            ([b'If-None-Match: "v"', b"if-none-match: *", b"Range: bytes=0-1"], [b"Range: bytes=0-1"], 2),
        ],
    )
    def test_if_range_goes_with_its_range_and_lines_are_counted(self, lines, left, count):
        data, stripped = render_request(read(*lines), strips_conditionals=True)
        assert data[:-4].split(b"\r\n")[2:] == left
        assert stripped == count

    @pytest.mark.parametrize(
        ("method", "name", "is_restored"),
        [
            (b"GET", b"If-Match", True),
            (b"PUT", b"If-Match", True),
            (b"LOCK", b"If", True),
            (b"PUT", b"If-None-Match", True),
            (b"GET", b"If-None-Match", False),
            (b"HEAD", b"If-None-Match", False),
        ],
    )
    def test_marked_tag_becomes_the_apps_own(self, method, name, is_restored):
        """Never in `If-None-Match` of a GET: the app could answer 304."""
        tag = mark(b'"v"')
        request = read(name + b": " + tag, start=method + b" / HTTP/1.1")
        assert rendered(request)[2] == name + b": " + (b'"v"' if is_restored else tag)

    def test_marked_tag_in_a_field_that_connection_takes_away_stays_away(self):
        request = read(b"If-Match: " + mark(b'"v"'), b"Connection: if-match")
        assert rendered(request)[2:] == []


def test_names_of_dropped_fields_are_counted_within_bounds():
    """A client makes them up."""
    table = RequestTable()
    for start in range(0, 300, 50):
        lines = b"".join(b"X_%d_%b: a\r\n" % (number, b"N" * 500) for number in range(start, start + 50))
        table.read(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert len(table.dropped) == 65
    assert table.dropped[b""] == 300 - 64
    assert table.dropped[b"x_0_" + b"n" * 60] == 1
