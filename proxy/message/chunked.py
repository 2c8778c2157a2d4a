"""The chunked transfer coding, RFC 9112 section 7.1: taken off what a peer sends.

Decoding a chunk takes a fixed number of calls into C, whatever its size, and content that lies within one chunk is
passed on as it came. Clients are read strictly: what two parsers could end at different places is refused, as that
is the way in for a smuggled request. Apps are read leniently where old servers are sloppy, because their content
goes out in a coding of our own.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.message.errors import MalformedContentError
from proxy.message.syntax import Side

_LF: Final = b"\n"
_CRLF: Final = b"\r\n"
_LINE_ENDS: Final = len(_CRLF)
# A byte of content may be coded in 17 (a chunk of one byte alone needs 6), and there may be 16 KiB beyond that:
# Go's bound, for chunk extensions without end are cheap to send and dear to read (CVE-2023-39326).
_MAX_CODED: Final = 17
_MAX_OVERHEAD: Final = 16 * 1024
_MAX_CHUNKS: Final = 512  # at a time: a quarter of a millisecond
_LEAST_TRAILER: Final = 256  # a trailer counts as so many bytes, so there are at most 64
_MAX_TRAILER: Final = 4096

# A line of a chunk's size begins with the end of the line or chunk before it, and ends before its own LF.
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_STRICT_SIZE: Final = re.compile(
    rb"\r\n([0-9A-Fa-f]{1,16})(?:;%b(?:=(?:%b|%b))?)*\r" % (_TOKEN, _TOKEN, _QUOTED)
)
_LENIENT_SIZE: Final = re.compile(rb"\r?\n([0-9A-Fa-f]{1,16})[\t ]*(?:;[\t \x21-\x7e\x80-\xff]*)?\r?")
_STRICT_TRAILER: Final = re.compile(
    rb"(?!(?i:content-length|transfer-encoding):)%b:[\t \x21-\x7e\x80-\xff]*\r" % _TOKEN
)
_LENIENT_TRAILER: Final = re.compile(rb"(?:[\x21-\x39\x3b-\x7e]+[\t ]*:|[\t ])[\t \x21-\x7e\x80-\xff]*\r?")
# What may still become a line of a size.
_STRICT_BEGINNING: Final = re.compile(rb"(?:\r(?:\n(?:[0-9A-Fa-f]{1,16}(?:[;\r].*)?)?)?)?", re.DOTALL)
_LENIENT_BEGINNING: Final = re.compile(rb"\r?(?:\n(?:[0-9A-Fa-f]{1,16}(?:[\t ;\r].*)?)?)?", re.DOTALL)
_SIZES: Final = {
    b"\r\n" + digits + b"\r": size
    for size in range(1, 256)
    for digits in (b"%x" % size, b"%X" % size, b"%02x" % size)
}


class ChunkedDecoder:
    """Takes the chunked coding off one message's content; trailers and chunk extensions are dropped.

    The first line of a size is read as if a chunk had ended before it, so all of them look the same.

    Args:
        side: requests are read strictly, responses leniently.

    Attributes:
        is_complete: the content and its trailers have ended.
    """

    __slots__ = ("_is_in_trailers", "_is_strict", "_left", "_overhead", "_partial", "is_complete")

    def __init__(self, side: Side) -> None:
        self._is_strict = side == "request"
        self._left = 0  # of the chunk that is under way
        self._partial = _CRLF  # a line that has not ended
        self._overhead = 0  # bytes beyond those that are free
        self._is_in_trailers = False
        self.is_complete = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode what has arrived.

        Returns:
            The content in it (perhaps none yet), and what is left: once `is_complete` what follows the content;
            before, what comes after the chunks that are decoded at a time. Feed that again, after others had their turn.

        Raises:
            MalformedContentError: the coding is broken, or next to nothing but chunk extensions and
                trailers; the connection cannot be used any further.
        """
        left = self._left
        arrived = len(data)
        if arrived <= left:
            self._left = left - arrived
            return data, b""
        pieces: list[bytes] = []
        position = left
        if left:
            pieces.append(data[:left])
            self._left = 0
        elif self._partial:
            data = self._partial + data
            self._partial = b""
            arrived = len(data)
        if self._is_in_trailers:
            return b"", self._read_trailers(data, 0)
        for _ in range(_MAX_CHUNKS):
            begun = position + _LINE_ENDS  # behind the end of what was before
            end = data.find(_LF, begun) if begun < arrived else -1
            if end < 0:
                self._keep_partial(data[position:])
                return _joined(pieces), b""
            line = data[position:end]
            size = 0 if self._overhead else _SIZES.get(line, 0)
            if not size:
                size = self._read_size(line)
            position = end + 1
            if not size:
                self._is_in_trailers = True
                return _joined(pieces), self._read_trailers(data, position)
            pieces.append(data[position : position + size])
            position += size
            if position > arrived:
                self._left = position - arrived
                return _joined(pieces), b""
        return _joined(pieces), data[position:]

    def _read_size(self, line: bytes) -> int:
        match = (_STRICT_SIZE if self._is_strict else _LENIENT_SIZE).fullmatch(line)
        if match is None:
            raise MalformedContentError(
                "a chunk that does not begin with its size, or that is longer than it"
            )
        size = int(match[1], 16)
        self._count_overhead(len(line) + 1)
        self._overhead = max(self._overhead - (_MAX_CODED - 1) * size, 0)
        return size

    def _read_trailers(self, data: bytes, position: int) -> bytes:
        """Drop the trailers; return what follows the empty line after them."""
        pattern = _STRICT_TRAILER if self._is_strict else _LENIENT_TRAILER
        while True:
            end = data.find(_LF, position)
            if end < 0:
                self._keep_partial(data[position:])
                return b""
            line = data[position:end]
            position = end + 1
            if line == b"\r" or not (line or self._is_strict):
                self.is_complete = True
                return data[position:]
            if not pattern.fullmatch(line):
                raise MalformedContentError("a trailer that is not a field, or that frames")
            if len(line) > _MAX_TRAILER:
                raise MalformedContentError("a trailer that is too long")
            self._count_overhead(max(len(line) + 1, _LEAST_TRAILER))

    def _keep_partial(self, partial: bytes) -> None:
        """Wait for the rest of a line, unless it can never become one."""
        if partial != _CRLF and not self._is_in_trailers:
            beginning = _STRICT_BEGINNING if self._is_strict else _LENIENT_BEGINNING
            if not beginning.fullmatch(partial):
                raise MalformedContentError(
                    "a chunk that does not begin with its size, or that is longer than it"
                )
        if self._overhead + len(partial) > _MAX_OVERHEAD:
            self._count_overhead(len(partial))
        self._partial = partial

    def _count_overhead(self, size: int) -> None:
        self._overhead += size
        if self._overhead > _MAX_OVERHEAD:
            raise MalformedContentError("more chunk extensions and trailers than content")


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
