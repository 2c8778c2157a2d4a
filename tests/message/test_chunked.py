"""The chunked coding, RFC 9112 section 7.1, and stricter: what two parsers could read differently is refused.

The laws hold the decoder against both of aiohttp's parsers, which the product asks about heads alone.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.message.chunked import ChunkedDecoder
from proxy.message.errors import MalformedContentError
from proxy.message.syntax import Side
from tests.message.test_contract_aiohttp import REQUEST_PARSERS, RESPONSE_PARSERS, make

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nServer: a\r\n\r\n"
CODED = b'5\r\nhello\r\n6;x="y"\r\n world\r\n0\r\nTrailer: x\r\n\r\n'
SIDES: tuple[Side, ...] = ("request", "response")
HEADS = {
    # aiohttp defers an upgrade until the content has ended, and hands back what follows it.
    "request": b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n",
    "response": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}
both_sides = pytest.mark.parametrize("side", SIDES)

# How a stream of chunks is read: how it stands at its end, the content, and what follows it.
Reading = tuple[str, bytes, bytes]
REFUSED: Reading = ("refused", b"", b"")


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[first:last] for first, last in pairwise(bounds)]


def feed(decoder: ChunkedDecoder, data: bytes) -> tuple[bytes, bytes]:
    """Feed until all of it is decoded, as in turn after turn."""
    content, rest = decoder.feed(data)
    while rest and not decoder.is_complete:
        decoded, rest = decoder.feed(rest)
        content += decoded
    return content, rest


def read(side: Side, pieces: list[bytes]) -> Reading:
    """Have the decoder read it; after the end of the content, all that comes follows it."""
    decoder = ChunkedDecoder(side)
    content, rest = b"", b""
    for piece in pieces:
        if decoder.is_complete:
            rest += piece
            continue
        try:
            decoded, rest = feed(decoder, piece)
        except MalformedContentError:
            return REFUSED
        content += decoded
    return "complete" if decoder.is_complete else "open", content, rest


def read_by_aiohttp(side: Side, parser: Callable[..., object], data: bytes) -> Reading:
    reading = make(parser)
    content = reading.feed_data(HEADS[side])[0][0][1]
    rest = b""
    try:
        _, _, rest = reading.feed_data(data)
    except (HttpProcessingError, ValueError):
        # What follows a response's content is refused for not being another response.
        if side == "request" or not content.is_eof():
            return REFUSED
    if content.exception() is not None:
        return REFUSED
    return "complete" if content.is_eof() else "open", content.read_nowait(), bytes(rest)


class TestContent:
    @both_sides
    @pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
    def test_content_is_the_same_whatever_pieces_it_comes_in(self, side, piece):
        decoder = ChunkedDecoder(side)
        content = b""
        for data in cut(CODED, piece):
            assert not decoder.is_complete
            decoded, rest = decoder.feed(data)
            content += decoded
            assert rest == b""
        assert decoder.is_complete
        assert content == b"hello world"

    @both_sides
    def test_content_of_a_chunk_is_not_kept_back_until_the_chunk_is_whole(self, side):
        decoder = ChunkedDecoder(side)
        assert decoder.feed(b"a\r\nhel") == (b"hel", b"")
        assert decoder.feed(b"lo") == (b"lo", b"")
        assert not decoder.is_complete

    @both_sides
    def test_content_within_a_chunk_is_not_copied(self, side):
        decoder = ChunkedDecoder(side)
        decoder.feed(b"ffff\r\n")
        data = b"x" * 4096
        assert decoder.feed(data)[0] is data

    @both_sides
    @pytest.mark.parametrize("digits", [b"1000", b"00000000000001000"[-16:]])
    def test_size_may_have_leading_noughts(self, side, digits):
        coded = digits + b"\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n"
        assert read(side, [coded]) == ("complete", b"x" * 4096, b"")

    @both_sides
    @pytest.mark.parametrize("digits", [b"1A", b"1a", b"0A"])
    def test_digits_of_a_size_may_be_of_either_case(self, side, digits):
        size = int(digits, 16)
        assert read(side, [digits + b"\r\n" + b"x" * size + b"\r\n0\r\n\r\n"])[1] == b"x" * size


class TestWhatFollows:
    @both_sides
    @pytest.mark.parametrize("rest", [GET, OK, b"G", b"\r\n" + GET, b"\x00", b"0\r\n\r\n", GET * 3])
    def test_what_follows_the_content_comes_back_byte_for_byte(self, side, rest):
        """Of a client, the next pipelined request; an app's connection is not used again."""
        assert read(side, [CODED + rest]) == ("complete", b"hello world", rest)

    @both_sides
    @pytest.mark.parametrize("place", range(1, len(CODED)))
    def test_what_follows_is_found_after_content_that_was_cut_anywhere(self, side, place):
        assert read(side, [CODED[:place], CODED[place:] + GET]) == ("complete", b"hello world", GET)

    @both_sides
    def test_what_follows_has_no_part_in_the_bound_of_extensions(self, side):
        ahead = b"GET /" + b"x" * 20_000
        assert read(side, [CODED + ahead]) == ("complete", b"hello world", ahead)


class TestBrokenCoding:
    @both_sides
    @pytest.mark.parametrize(
        "coded",
        [
            pytest.param(b"zz\r\nhello\r\n0\r\n\r\n", id="no number"),
            pytest.param(b"-5\r\nhello\r\n0\r\n\r\n", id="negative"),
            pytest.param(b"+5\r\nhello\r\n0\r\n\r\n", id="signed"),
            pytest.param(b"0x5\r\nhello\r\n0\r\n\r\n", id="0x"),
            pytest.param(b"5_0\r\nhello\r\n0\r\n\r\n", id="underscore"),
            pytest.param(b"\r\nhello\r\n0\r\n\r\n", id="no size"),
            pytest.param(b";x\r\nhello\r\n0\r\n\r\n", id="extension without a size"),
            pytest.param(b" 5\r\nhello\r\n0\r\n\r\n", id="space before the size"),
            pytest.param(b"5\r\nhelloXX0\r\n\r\n", id="longer than its size"),
            pytest.param(b"7\r\nhello\r\n0\r\n\r\n", id="shorter than its size"),
            pytest.param(b"5;a=\x00\r\nhello\r\n0\r\n\r\n", id="NUL in an extension"),
            pytest.param(b"5;a\rb\r\nhello\r\n0\r\n\r\n", id="bare CR in an extension"),
            pytest.param(b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n", id="too large to count"),
            pytest.param(b"5\r\nhello\r\n0\r\nno colon\r\n\r\n", id="trailer without a colon"),
            pytest.param(b"5\r\nhello\r\n0\r\n0\r\n\r\n", id="two ends"),
            pytest.param(b"5\r\nhello\r\n0\r\nA: b\x00\r\n\r\n", id="NUL in a trailer"),
            pytest.param(b"5\r\nhello\r\n0\r\nA: b\rc\r\n\r\n", id="bare CR in a trailer"),
        ],
    )
    @pytest.mark.parametrize("piece", [1, 1000])
    def test_broken_coding_is_an_error_and_never_an_end(self, side, coded, piece):
        assert read(side, cut(coded, piece)) == REFUSED

    @pytest.mark.parametrize(
        "coded",
        [
            pytest.param(b"5 \r\nhello\r\n0\r\n\r\n", id="space after the size"),
            pytest.param(b"5 ;a\r\nhello\r\n0\r\n\r\n", id="space before an extension"),
            pytest.param(b"5\nhello\r\n0\r\n\r\n", id="bare LF after the size"),
            pytest.param(b"5;a\nb\r\nhello\r\n0\r\n\r\n", id="bare LF in an extension"),
            pytest.param(b"5\r\nhello\n0\r\n\r\n", id="bare LF after the content"),
            pytest.param(b"5\r\nhello\r\n0\n\r\n", id="bare LF after the last size"),
            pytest.param(b"5\r\nhello\r\n0\r\n\n", id="bare LF at the end"),
            pytest.param(b"5\r\nhello\r\n0\r\nA: b\n\r\n", id="bare LF after a trailer"),
            pytest.param(b"5\r\nhello\r\n0\r\nA : b\r\n\r\n", id="space before a trailer's colon"),
            pytest.param(b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n", id="folded trailer"),
            pytest.param(b"5\r\nhello\r\n0\r\ncontent-Length: 9\r\n\r\n", id="Content-Length as a trailer"),
            pytest.param(
                b"5\r\nhello\r\n0\r\nTransfer-Encoding: a\r\n\r\n", id="Transfer-Encoding as a trailer"
            ),
        ],
    )
    @pytest.mark.parametrize("piece", [1, 1000])
    def test_sloppiness_is_never_taken_from_a_client(self, coded, piece):
        """Another parser might end the content elsewhere: the way in for a smuggled request."""
        assert read("request", cut(coded, piece)) == REFUSED

    @pytest.mark.parametrize(
        "coded",
        [
            pytest.param(b"5  \r\nhello\r\n0\r\n\r\n", id="padded size"),
            pytest.param(b"5\nhello\n0\n\n", id="bare LF"),
            pytest.param(b"5; a = b\r\nhello\r\n0\r\n\r\n", id="spaces in an extension"),
            pytest.param(b"5\r\nhello\r\n0\r\nA : b\r\n c\r\n\r\n", id="sloppy trailers"),
        ],
    )
    @pytest.mark.parametrize("piece", [1, 1000])
    def test_sloppiness_of_old_servers_is_taken(self, coded, piece):
        """Old servers pad their sizes; the content goes out in a coding of our own."""
        assert read("response", cut(coded, piece)) == ("complete", b"hello", b"")

    @both_sides
    @pytest.mark.parametrize("beginning", [b"g", b"5g", b"-", b"5\r\nhelloX", b"f" * 17])
    def test_what_can_never_become_a_size_is_refused_before_its_line_has_ended(self, side, beginning):
        assert read(side, [beginning]) == REFUSED


class TestBounds:
    @both_sides
    @pytest.mark.parametrize("size", [0, 250, 4000])
    def test_trailers_are_bounded(self, side, size):
        """They come after the head that the gateway bounds itself."""
        decoder = ChunkedDecoder(side)
        decoder.feed(b"0\r\n")
        taken = 0
        with pytest.raises(MalformedContentError, match="trailers"):  # noqa: PT012 - how many are taken is the point
            for number in range(200):
                decoder.feed(b"T%d: " % number + b"x" * size + b"\r\n")
                taken += 1
        assert taken * max(size, 256) <= 16 * 1024

    @both_sides
    def test_trailer_is_no_longer_than_a_field_may_be(self, side):
        assert read(side, [b"0\r\nA: " + b"a" * 4000 + b"\r\n\r\n"])[0] == "complete"
        assert read(side, [b"0\r\nA: " + b"a" * 4100 + b"\r\n\r\n"]) == REFUSED

    @both_sides
    @pytest.mark.parametrize("piece", [1, 1000, 20_000])
    @pytest.mark.parametrize(
        "coded",
        [
            pytest.param(b"5;" + b"a" * 17_000, id="one line"),
            pytest.param((b"1;" + b"a" * 1000 + b"\r\nh\r\n") * 17, id="many chunks of one byte"),
            pytest.param(b"0\r\nA: " + b"a" * 17_000, id="one trailer"),
        ],
    )
    def test_chunk_extensions_are_bounded(self, side, piece, coded):
        """In one line and in many: Go's CVE-2023-39326."""
        assert read(side, cut(coded, piece)) == REFUSED

    @both_sides
    @pytest.mark.parametrize("piece", [1, 999, 1_000_000])
    def test_chunks_of_one_byte_each_have_no_bound(self, side, piece):
        """Some servers flush each character."""
        coded = b"1;a=b\r\nx\r\n" * 2500 + b"0\r\n\r\n"
        assert read(side, cut(coded, piece)) == ("complete", b"x" * 2500, b"")

    @both_sides
    def test_no_more_than_512_chunks_are_decoded_at_a_time(self, side):
        """The rest comes back, to be fed in the next turn of the loop."""
        decoder = ChunkedDecoder(side)
        chunk, end = b"1\r\nx\r\n", b"0\r\n\r\n"
        content, rest = decoder.feed(chunk * 1000 + end)
        assert content == b"x" * 512
        assert not decoder.is_complete
        assert decoder.feed(rest) == (b"x" * 488, b"")
        assert decoder.is_complete

    @both_sides
    def test_extension_may_be_long_where_there_is_content_for_it(self, side):
        coded = (b"400;" + b"a" * 12_000 + b"\r\n" + b"x" * 1024 + b"\r\n") * 10 + b"0\r\n\r\n"
        assert read(side, [coded]) == ("complete", b"x" * 10_240, b"")

    @both_sides
    def test_memory_of_a_decoder_does_not_grow_with_the_content(self, side):
        decoder = ChunkedDecoder(side)
        piece = b"1\r\nx\r\n" * 1000 + b"5"

        def feed_some() -> int:
            for _ in range(20):
                feed(decoder, piece)
                feed(decoder, b"\r\nhello\r\n3;a=" + b"a" * 40)
                feed(decoder, b"\r\nxyz\r\n")
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            first = feed_some()
            assert feed_some() < first + 1024
        finally:
            tracemalloc.stop()


PIECES = [b"\r\n", b"\n", b"\r", b"0", b"1", b"5", b"A", b"a", b"hello", b"x", b" ", b"\t", b"\x00", b"\x7f"]
PIECES += [b";", b"=", b'"', b":", b";a", b";=b", b";a=b", b';a="b"', b';a="\\"b"', b";a=\x01", b"\xff", b"_"]
PIECES += [b"T: x\r\n", b"T : x\r\n", b" folded\r\n", b"T:\xff\r\n", b"0\r\n\r\n", b"1\r\nx\r\n", GET, OK]
CHUNKS = [b"5\r\nhello\r\n", b"1\r\nx\r\n", b"5;a=b\r\nhello\r\n", b"0\r\n", b"T: x\r\n", b"\r\n", GET]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Chunks in which something odd stands somewhere, or nothing does."""
    chunks = draw(st.lists(st.sampled_from(CHUNKS[:3]), max_size=3))
    data = b"".join([*chunks, b"0\r\n", *draw(st.lists(st.just(b"T: x\r\n"), max_size=1)), b"\r\n"])
    for odd in draw(st.lists(st.sampled_from(PIECES), max_size=3)):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + odd + data[place + draw(st.integers(0, 1)) :]
    return data


class TestLaws:
    @both_sides
    @given(data=streams(), places=st.lists(st.integers(0, 200), max_size=6))
    def test_any_cut_of_a_stream_is_read_the_same(self, side, data, places):
        whole = read(side, [data])
        assert read(side, cut_at(data, places)) == whole
        assert read(side, cut(data, 1)) == whole

    @given(data=streams())
    @example(b"5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n" + GET)
    @example(b"5\r\nhello\r\n0\r\n\r\n\r\n" + GET)
    def test_what_is_taken_from_a_client_both_parsers_read_the_same(self, data):
        """No other parser finds another end of the content, or other content."""
        reading = read("request", [data])
        if reading[0] == "complete":
            for parser in REQUEST_PARSERS.values():
                assert read_by_aiohttp("request", parser, data) == reading

    @given(data=streams())
    def test_response_that_both_take_has_the_same_content(self, data):
        state, content, _ = read("response", [data])
        for parser in RESPONSE_PARSERS.values():
            theirs = read_by_aiohttp("response", parser, data)
            if state == theirs[0] == "complete":
                assert theirs[1] == content

    @both_sides
    @given(
        contents=st.lists(st.binary(min_size=1, max_size=600), max_size=8),
        extension=st.sampled_from([b"", b";a", b";a=b", b';a="b;c"']),
        trailers=st.lists(st.sampled_from([b"T: x\r\n", b"U:\r\n"]), max_size=3),
        rest=st.sampled_from([b"", GET]),
        places=st.lists(st.integers(0, 5000), max_size=6),
    )
    def test_all_that_is_well_formed_is_taken(self, side, contents, extension, trailers, rest, places):
        coded = b"".join(b"%x%b\r\n%b\r\n" % (len(one), extension, one) for one in contents)
        coded += b"0" + extension + b"\r\n" + b"".join(trailers) + b"\r\n" + rest
        expected = ("complete", b"".join(contents), rest)
        assert read(side, cut_at(coded, places)) == expected
        parsers = REQUEST_PARSERS if side == "request" else RESPONSE_PARSERS
        for parser in parsers.values():
            assert read_by_aiohttp(side, parser, coded[: len(coded) - len(rest)])[1] == expected[1]


def calls_into_c(side: Side, coded: bytes) -> int:
    """How many functions in C a decoder calls for it."""
    decoder = ChunkedDecoder(side)
    calls = 0

    def count(_frame: object, event: str, _function: object) -> None:
        nonlocal calls
        calls += event == "c_call"

    sys.setprofile(count)
    try:
        feed(decoder, coded)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.interpreted
@both_sides
@pytest.mark.parametrize("size", [1, 16, 200])
def test_chunk_costs_four_calls_into_c_at_the_most(side, size):
    """A byte that came in a chunk of its own cost 100 times as long as others."""
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    assert calls_into_c(side, chunk * 1000) <= 4 * 1000
