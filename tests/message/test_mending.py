"""What RFC 9112 tells a proxy to mend in a response's head, and what stays refused. Issue 16.12."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.message.errors import MalformedHeadError
from proxy.message.mending import find_head_end, mend
from proxy.message.response import ResponseTable
from proxy.message.syntax import HeadParser

OK = b"HTTP/1.1 200 OK\r\n"
END = b"\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "mended"),
    [
        (b"A : b", b"A: b"),
        (b"A \t :b", b"A:b"),
        (b"A: b\r\n c", b"A: b c"),
        (b"A: b \r\n\t  c \r\n d", b"A: b c d"),
        (b"A:\r\n b", b"A: b"),
        (b"connection : keep-alive,\r\n\tclose", b"connection: keep-alive, close"),
        (b"Connection-Id: a\r\n b", b"Connection-Id: a b"),
        (b"A: b\nC: d", b"A: b\r\nC: d"),
        (b"Content-Length: 5,5 , 5", b"Content-Length: 5"),
        (b"Content-Length:5", b"Content-Length:5"),
        (b"Content-Length: 5, 6", b"Content-Length: 5, 6"),
        (b"A:  b  c \r\nb:\xe9", b"A:  b  c \r\nb:\xe9"),
        (b"A: b\r: c", b"A: b\r: c"),
    ],
)
def test_only_what_is_odd_is_written_anew(lines, mended):
    assert mend(OK + lines + END) == OK + mended + END


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b" A: b", id="fold of the status line"),
        pytest.param(b"A: b\r\n \r\nC: d", id="line of white space, which ends the head for some"),
        pytest.param(b"A: b\n\r\nC: d", id="empty line of another kind"),
        pytest.param(b"A: b\n\nC: d", id="empty line of line feeds"),
        pytest.param(b"Content-Length:\r\n 5", id="folded length"),
        pytest.param(b"content-length: 1\r\n 0", id="continued length"),
        pytest.param(b"Transfer-Encoding: gzip,\r\n chunked", id="folded coding"),
        pytest.param(b"Connection: clo\r\n se", id="folded option"),
        pytest.param(b"Connection: close\r\n Content-Length: 5", id="field in folded options"),
        pytest.param(b"Connection\r\n : close", id="folded name of Connection"),
        pytest.param(b"Transfer-Encoding\r\n : chunked", id="folded name"),
    ],
)
def test_what_two_parsers_could_still_read_differently_is_refused(lines):
    with pytest.raises(MalformedHeadError):
        ResponseTable().read(OK + lines + END, "GET")


def test_folded_options_are_heard_and_end_the_connection():
    """An app that says so in two lines was answered for with a 502."""
    head = ResponseTable().read(OK + b"Connection: X-A,\r\n close" + END, "GET")
    assert not head.keep_alive


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", -1),
        (b"\n\n", 2),
        (b"A\r\n\r\n", 5),
        (b"A\n\n", 3),
        (b"A\n\r\n", 4),
        (b"A\n\nB\r\n\r\n", 3),
        (b"A\n\n\r\n", 3),
        (b"A\n\r\n\r\n", 4),
        (b"A\r\n\r\nB\n\n", 5),
        (b"A\r\n", -1),
        (b"A\n", -1),
        (b"A\r\nB\n\r", -1),
    ],
)
def test_head_ends_at_its_first_empty_line(data, end):
    assert find_head_end(data) == end


PARTS = st.lists(
    st.sampled_from([b"A", b": ", b"b", b"\r\n", b"\n", b"\r", b" ", b"\t", b"Content-Length", b"5", b","]),
    max_size=20,
)


@given(PARTS)
@example([b"A", b": ", b"b", b"\n", b"\n"])
@example([b"A", b"\n", b"\r\n", b"\r\n"])
@example([b"A", b"\n", b"\n", b"\r\n"])
def test_head_that_arrives_in_pieces_ends_where_it_does_in_one(parts):
    """However it is cut: a byte more never moves an end that was found."""
    data = OK + b"".join(parts)
    ends = [find_head_end(data[:size]) for size in range(len(data) + 1)]
    found = [end for end in ends if end >= 0]
    assert set(found) <= {find_head_end(data)}
    assert not found or found[0] == ends.index(found[0])


@given(PARTS)
@example([b"A", b": ", b"b", b"\n", b"\n", b"\r\n", b"\r\n"])
def test_head_is_cut_where_it_ends_whether_it_has_to_be_mended_or_not(parts):
    data = OK + b"".join(parts) + END
    end = find_head_end(data)

    def outcome(read):
        try:
            return read()
        except MalformedHeadError as error:
            return str(error)

    assert outcome(lambda: ResponseTable().take(data, "GET", len(data))[1]) == outcome(
        lambda: ResponseTable().read(data[:end], "GET") and end
    )


@given(PARTS)
def test_what_is_mended_needs_no_mending(parts):
    """And is read strictly: status line and fields, nothing between."""
    head = OK + b"".join(parts) + END
    head = head[: find_head_end(head)]
    try:
        response = ResponseTable().read(head, "GET")
    except MalformedHeadError:
        return
    written = b"\r\n".join([OK[:-2], *response.section.lines, b"", b""])
    assert HeadParser("response").parse(written)[1].fields == response.section.fields
