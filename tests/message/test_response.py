"""A response's head: what is refused, and what the client gets of it.

RFC 9112 section 4, RFC 9110 sections 6.6.1, 7.6.1 and 7.8.
"""

from __future__ import annotations

import pytest

from proxy.message.errors import MalformedHeadError
from proxy.message.framing import Framing
from proxy.message.response import ResponseTable, render_informational, render_switch
from proxy.message.rewrite import Treatment
from tests.message.response_heads import DATE, NOW, lines_of, read, render


class Test_Read:
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


class Test_Untouched:
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


def test_what_answered_head_is_not_remembered_for_get():
    """The same bytes announce content for GET, and none for HEAD."""
    table = ResponseTable()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    framings = [
        taken[0].framing
        for method in ("HEAD", "HEAD", "HEAD", "GET", "GET", "GET", "HEAD")
        if (taken := table.take(head, method, len(head))) is not None
    ]
    assert framings == [Framing.NONE] * 3 + [Framing.FIXED] * 3 + [Framing.NONE]


class Test_Informational:
    def test_passes_as_it_came_without_framing(self):
        head = read(
            b"Link: </a>", b"Connection: x", b"X: y", b"Content-Length: 5", start=b"HTTP/1.1 103 Hints!"
        )
        assert render_informational(head) == b"HTTP/1.1 103 Hints!\r\nLink: </a>\r\n\r\n"

    def test_without_fields(self):
        assert render_informational(read(start=b"HTTP/1.1 100 Continue")) == b"HTTP/1.1 100 Continue\r\n\r\n"


class Test_Switch:
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
