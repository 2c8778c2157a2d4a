"""How the end of a message's content is told, RFC 9112 section 6, in both directions; and the chunked coding's writer.

Framing is stricter than the RFC: what two parsers could read differently is refused.
"""

from __future__ import annotations

from typing import Final

from proxy.message.errors import MalformedHeadError
from proxy.message.field_index import Noted
from proxy.message.mending import single_length
from proxy.message.status import NO_CONTENT, NOT_MODIFIED

LAST_CHUNK: Final = b"0\r\n\r\n"
"""Ends chunked content, without trailers."""

_MAX_LENGTH_DIGITS: Final = 18
_NOUGHT: Final = ord("0")


class Framing:
    """How the end of a response's content is told, RFC 9112 section 6.3."""

    NONE: Final = 0
    FIXED: Final = 1
    CHUNKED: Final = 2
    UNTIL_CLOSE: Final = 3


def chunk(data: bytes) -> bytes:
    """Frame content as one chunk, RFC 9112 section 7.1; `data` must not be empty, as that would end the content."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def request_length(lines: list[bytes], noted: Noted, minor: int) -> int | None:
    """Read how a request's content is framed.

    Args:
        lines, noted: of its fields; a `Content-Length` with leading noughts is rewritten there.
        minor: 0 for an HTTP/1.0 client.

    Returns:
        Bytes of content; `None` when it is chunked.

    Raises:
        MalformedHeadError: two parsers could read the framing differently.
    """
    if b"transfer-encoding" in noted:
        _require_chunked(noted, minor)
        return None
    lengths = noted.get(b"content-length")
    return 0 if lengths is None else _content_length(lines, lengths)


def rewrites_length(noted: Noted) -> bool:
    """Whether `response_framing` changes the lines of these fields, if it accepts them."""
    lengths = noted.get(b"content-length")
    if lengths is None:
        return False
    value = lengths[0][1]
    return len(lengths) > 1 or not value.isdigit() or value[0] == _NOUGHT


def response_framing(
    lines: list[bytes], noted: Noted, method: str, status: int, minor: int
) -> tuple[int, int]:
    """Read how a response's content is framed.

    Args:
        lines, noted: of its fields; a `Content-Length` with leading noughts is rewritten there.
        method: of the request.
        minor: 0 for an HTTP/1.0 upstream.

    Returns:
        One of `Framing`, and the bytes of content where that is `FIXED`.

    Raises:
        MalformedHeadError: two parsers could read the framing differently.
    """
    is_chunked = b"transfer-encoding" in noted
    if is_chunked:
        _require_chunked(noted, minor)
    length = 0
    lengths = noted.get(b"content-length")
    if lengths is not None:
        if len(lengths) > 1 or not lengths[0][1].isdigit():
            _take_repeated_length_for_one(lines, lengths)
        length = _content_length(lines, lengths)
    if method == "HEAD" or status in (NO_CONTENT, NOT_MODIFIED):
        return Framing.NONE, 0
    if is_chunked:
        return Framing.CHUNKED, 0
    if lengths is not None:
        return (Framing.FIXED, length) if length else (Framing.NONE, 0)
    return Framing.UNTIL_CLOSE, 0


def _require_chunked(noted: Noted, minor: int) -> None:
    codings = noted[b"transfer-encoding"]
    is_ambiguous = len(codings) > 1 or b"content-length" in noted or minor == 0
    if is_ambiguous or codings[0][1].lower() != b"chunked":
        raise MalformedHeadError("ambiguous framing: Transfer-Encoding")


def _take_repeated_length_for_one(lines: list[bytes], lengths: list[tuple[int, bytes]]) -> None:
    """Keep the first line of a response's `Content-Length` if all say the same, RFC 9112 section 6.3."""
    length = single_length(b",".join([value for _, value in lengths]))
    if b"," in length:
        return
    place = lengths[0][0]
    line = lines[place].partition(b":")[0] + b": " + length
    for other, _ in lengths:
        lines[other] = b""
    lines[place] = line
    lengths[:] = [(place, length)]


def _content_length(lines: list[bytes], lengths: list[tuple[int, bytes]]) -> int:
    """Read `Content-Length`; rewrite it if it begins with noughts, which are octal to some."""
    place, value = lengths[0]
    if len(lengths) > 1 or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise MalformedHeadError("ambiguous framing: Content-Length")
    length = int(value)
    if value[0] == _NOUGHT and len(value) > 1 and lines[place]:
        lines[place] = lines[place][: -len(value)] + b"%d" % length
    return length
