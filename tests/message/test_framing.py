"""How the end of content is told, RFC 9112 section 6, on both sides; what is mended of it is in `test_mending.py`."""

from __future__ import annotations

import pytest

from proxy.message.errors import MalformedHeadError
from proxy.message.framing import LAST_CHUNK, Framing, chunk, response_framing, rewrites_length
from tests.message.response_heads import DATE, lines_of, read, render


class Test_Of_a_response:
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
        head = read(*lines, method=method, start=b"HTTP/1.1 %d X" % status)
        assert (head.framing, head.content_length) == (framing, length)

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
        ("start", "lines", "keep_alive"),
        [
            (b"HTTP/1.1 200 OK", [LENGTH], True),
            (b"HTTP/1.1 200 OK", [CHUNKED], True),
            (b"HTTP/1.1 200 OK", [LENGTH, b"Connection: close"], False),
            (b"HTTP/1.1 200 OK", [LENGTH, b"Connection: X, Close"], False),
            (b"HTTP/1.0 200 OK", [LENGTH], False),
            (b"HTTP/1.0 200 OK", [LENGTH, b"Connection: Keep-Alive"], True),
            (b"HTTP/1.1 204 No Content", [], True),
        ],
    )
    def test_upstream_lets_its_connection_serve_another_request(self, start, lines, keep_alive):
        """RFC 9112 section 9.3."""
        assert read(*lines, start=start).keep_alive is keep_alive


def test_chunks_are_written_as_the_grammar_says():
    """RFC 9112 section 7.1: the size in hexadecimal, no extensions, no trailers."""
    assert chunk(b"x" * 300) + LAST_CHUNK == b"12c\r\n" + b"x" * 300 + b"\r\n0\r\n\r\n"


class Test_Length:
    @pytest.mark.parametrize(
        ("values", "left"),
        [
            ([b"5"], [b"Content-Length: 5"]),
            ([b"0"], [b"Content-Length: 0"]),
            ([b"10"], [b"Content-Length: 10"]),
            ([b"007"], [b"Content-Length: 7"]),
            ([b"00"], [b"Content-Length: 0"]),
            ([b"5, 5"], [b"Content-Length: 5"]),
            ([b"5", b"5"], [b"Content-Length: 5", b""]),
            ([b"5", b"5,5", b"5"], [b"Content-Length: 5", b"", b""]),
            ([b"05", b"05"], [b"Content-Length: 5", b""]),
        ],
    )
    def test_leaves_in_one_line_and_whoever_remembers_lines_is_told(self, values, left):
        """RFC 9112 section 6.3: one that is repeated is one; leading noughts are octal to some."""
        lines = [b"Content-Length: " + value for value in values]
        noted = {b"content-length": list(enumerate(values))}
        before = list(lines)
        tells = rewrites_length(noted)
        length = int(values[0].partition(b",")[0])
        framing = Framing.FIXED if length else Framing.NONE
        assert response_framing(lines, noted, "GET", 200, 1) == (framing, length)
        assert lines == left
        assert tells or lines == before

    @pytest.mark.parametrize("value", [b"5", b"12", b"100"])
    def test_that_is_plain_changes_no_line(self, value):
        """Lines that nobody changes may be remembered."""
        assert not rewrites_length({b"content-length": [(0, value)]})
        lines = [b"Content-Length:" + value]
        response_framing(lines, {b"content-length": [(0, value)]}, "GET", 200, 1)
        assert lines == [b"Content-Length:" + value]

    def test_that_is_none_changes_no_line(self):
        assert rewrites_length({}) is False
        assert response_framing([], {}, "GET", 200, 1) == (Framing.UNTIL_CLOSE, 0)

    @pytest.mark.parametrize(
        "values", [[b"5", b"6"], [b"5, 6"], [b"5", b"05"], [b"x"], [b""], [b"5 5"], [b"+5"], [b"5,"]]
    )
    def test_that_two_parsers_could_read_differently_is_refused(self, values):
        lines = [b"Content-Length: " + value for value in values]
        with pytest.raises(MalformedHeadError):
            response_framing(lines, {b"content-length": list(enumerate(values))}, "GET", 200, 1)
